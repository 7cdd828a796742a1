//! Ephemeral containers: they join a pod that runs, to look into it, and stay as they are.

use super::check::{self as spec_of, list};
use super::container;
use crate::admission::causes::Causes;
use crate::admission::{metadata, text};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

pub(super) const FIELD: &str = "ephemeralContainers";
/// What the work of a pod needs, and a guest may not have.
const DENIED: [&str; 8] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
const ERROR: &str = "cannot be set for an Ephemeral Container";

/// A pod whose ephemeral containers, and nothing else, were written (`ValidatePodEphemeralContainersUpdate`).
pub(in crate::admission) fn check(pod: &Value, old: &Value, causes: &mut Causes) {
    metadata::check(&pod["metadata"], Some(&old["metadata"]), true, causes);
    let (Some(spec), Some(before)) = (pod["spec"].as_object(), old["spec"].as_object()) else {
        return;
    };
    spec_of::check(spec, "spec", true, causes);
    for known in list(before, FIELD) {
        let name = &known["name"];
        let fault = match list(spec, FIELD).iter().find(|it| it["name"] == *name) {
            None => "removed",
            Some(now) if now != known => "changed",
            Some(_) => continue,
        };
        let detail = format!("existing ephemeral containers {name} may not be {fault}\n");
        causes.forbidden("spec.ephemeralContainers", &detail);
    }
}

/// `names`: of all other containers.
pub(super) fn check_all<'a>(
    spec: &'a Fields,
    path: &str,
    volumes: &[&str],
    mut names: Vec<&'a str>,
    causes: &mut Causes,
) {
    let others = names.clone();
    for (index, guest) in list(spec, FIELD).iter().filter_map(Value::as_object).enumerate() {
        let path = format!("{path}.{FIELD}[{index}]");
        container::check(guest, &path, volumes, causes);
        container::check_unique(guest, &path, &mut names, causes);
        let target = text(guest, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            causes.not_found(&format!("{path}.targetContainerName"), target);
        }
        check_fields(guest, &path, causes);
    }
}

fn check_fields(guest: &Fields, path: &str, causes: &mut Causes) {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    for field in DENIED {
        if guest.get(field).is_some_and(is_set) {
            causes.forbidden(&format!("{path}.{field}"), ERROR);
        }
    }
    for (index, mount) in list(guest, "volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if mount[field].as_str().is_some_and(|it| !it.is_empty()) {
                causes.forbidden(&format!("{path}.volumeMounts[{index}].{field}"), ERROR);
            }
        }
    }
}
