//! Cells of volumes.

use super::{NONE, joined, texts};
use serde_json::Value;

pub(crate) fn volume_modes(volume: &Value) -> Value {
    modes(&volume["spec"]["accessModes"])
}

pub(crate) fn claim_modes(claim: &Value) -> Value {
    modes(&claim["status"]["accessModes"])
}

fn modes(modes: &Value) -> Value {
    let short = |mode: String| match mode.as_str() {
        "ReadWriteOnce" => "RWO".to_owned(),
        "ReadOnlyMany" => "ROX".to_owned(),
        "ReadWriteMany" => "RWX".to_owned(),
        "ReadWriteOncePod" => "RWOP".to_owned(),
        _ => mode,
    };
    joined(texts(modes).map(short))
}

pub(crate) fn claim(volume: &Value) -> Value {
    let claim = &volume["spec"]["claimRef"];
    let text = |field: &str| claim[field].as_str().unwrap_or_default();
    if claim.is_null() {
        NONE.into()
    } else {
        format!("{}/{}", text("namespace"), text("name")).into()
    }
}

pub(crate) fn expansion(class: &Value) -> Value {
    class["allowVolumeExpansion"].as_bool().unwrap_or(false).to_string().into()
}
