//! Cells of volumes.

use super::{NONE, items, joined, texts};
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

pub(crate) fn attach_required(driver: &Value) -> Value {
    driver["spec"]["attachRequired"].as_bool().unwrap_or(true).to_string().into()
}

pub(crate) fn pod_info_on_mount(driver: &Value) -> Value {
    driver["spec"]["podInfoOnMount"].as_bool().unwrap_or(false).to_string().into()
}

pub(crate) fn lifecycle_modes(driver: &Value) -> Value {
    joined(texts(&driver["spec"]["volumeLifecycleModes"]))
}

pub(crate) fn drivers(node: &Value) -> Value {
    items(&node["spec"]["drivers"]).count().into()
}

pub(crate) fn attached(attachment: &Value) -> Value {
    attachment["status"]["attached"].as_bool().unwrap_or(false).to_string().into()
}
