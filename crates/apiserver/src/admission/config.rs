//! ConfigMaps and Secrets (`k8s.io/kubernetes/pkg/apis/core/validation`).

use super::causes::Causes;
use super::{names, preset, text};
use crate::base64;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const FROZEN: &str = "field is immutable when `immutable` is set";

pub(super) fn config_map(map: &Fields, old: Option<&Value>, causes: &mut Causes) {
    check_frozen(map, old, &["data", "binaryData"], causes);
    check_keys(map, "data", causes);
    for (key, _) in entries(map, "data") {
        if entries(map, "binaryData").any(|(other, _)| other == key) {
            let detail = "duplicate of key present in binaryData";
            causes.invalid(&format!("data[{key}]"), &key.as_str().into(), detail);
        }
    }
    check_keys(map, "binaryData", causes);
}

pub(super) fn complete_secret(secret: &mut Fields) {
    preset(secret, "type", || "Opaque".into());
    if let Some(Value::Object(texts)) = secret.remove("stringData") {
        let data = super::child(secret, "data");
        for (key, text) in texts {
            let text = text.as_str().unwrap_or_default();
            data.insert(key, base64::encode(text.as_bytes()).into());
        }
    }
}

pub(super) fn secret(secret: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let kind = text(secret, "type");
    if old.is_some_and(|old| old["type"] != kind) {
        causes.invalid("type", &kind.into(), "field is immutable");
    }
    check_frozen(secret, old, &["data"], causes);
    check_keys(secret, "data", causes);
    let missing = |key: &&str| !entries(secret, "data").any(|(found, _)| found == key);
    let needed: &[&str] = match kind {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        // One of the two is enough.
        "kubernetes.io/basic-auth" if ["username", "password"].iter().all(missing) => {
            &["username", "password"]
        }
        _ => &[],
    };
    for key in needed.iter().copied().filter(missing) {
        causes.required(&format!("data[{key}]"), "");
    }
}

fn check_frozen(object: &Fields, old: Option<&Value>, fields: &[&str], causes: &mut Causes) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return };
    if object.get("immutable") != Some(&Value::Bool(true)) {
        causes.forbidden("immutable", FROZEN);
    }
    for field in fields {
        if object.get(*field).unwrap_or(&Value::Null) != &old[*field] {
            causes.forbidden(field, FROZEN);
        }
    }
}

fn check_keys(object: &Fields, field: &str, causes: &mut Causes) {
    for (key, _) in entries(object, field) {
        causes.each(&format!("{field}[{key}]"), &key.as_str().into(), names::config_key(key));
    }
}

fn entries<'a>(object: &'a Fields, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.get(field).and_then(Value::as_object).into_iter().flatten()
}
