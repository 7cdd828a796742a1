//! Labels, annotations, owners and finalizers, which all kinds have (`k8s.io/apimachinery/pkg/api/validation`).

use super::causes::Causes;
use super::names;
use serde_json::{Map, Value};

/// What the API itself may ask of everybody: 256 KiB.
const ANNOTATIONS: usize = 256 << 10;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Checks `metadata` but for the name; `old` is that of the object that is replaced.
pub(super) fn check(metadata: &Value, old: Option<&Value>, core: bool, causes: &mut Causes) {
    labels(&metadata["labels"], "metadata.labels", causes);
    annotations(&metadata["annotations"], causes);
    owners(&metadata["ownerReferences"], causes);
    if old.is_none() {
        for (index, finalizer) in texts(&metadata["finalizers"]).enumerate() {
            check_finalizer(finalizer, index, core, causes);
        }
    }
    if let Some(old) = old.filter(|old| !old["deletionTimestamp"].is_null()) {
        // Said twice by the real server about its own kinds.
        (0..if core { 2 } else { 1 }).for_each(|_| no_new_finalizers(metadata, old, causes));
    }
}

/// Labels, or a selector that is a map of labels.
pub(super) fn labels(labels: &Value, path: &str, causes: &mut Causes) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for detail in names::qualified(key) {
            causes.invalid(path, &key.as_str().into(), &detail);
        }
        for detail in names::label_value(value.as_str().unwrap_or_default()) {
            causes.invalid(path, value, detail);
        }
    }
}

fn annotations(annotations: &Value, causes: &mut Causes) {
    let fields = || annotations.as_object().into_iter().flatten();
    for (key, _) in fields() {
        // Case does not matter here.
        for detail in names::qualified(&key.to_lowercase()) {
            causes.invalid("metadata.annotations", &key.as_str().into(), &detail);
        }
    }
    let size: usize =
        fields().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS {
        causes.too_long("metadata.annotations", ANNOTATIONS);
    }
}

fn owners(owners: &Value, causes: &mut Causes) {
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten().filter_map(Value::as_object) {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(field).is_empty() {
                causes.invalid(&format!("{PATH}.{field}"), &"".into(), detail);
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            let owner = Value::Object(in_full(owner));
            causes.invalid(PATH, &owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let own = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {own}"
                    );
                    causes.invalid_shown(PATH, &shown(owners), &detail);
                }
                None => controller = Some(own),
            }
        }
    }
}

/// The owners with their fields in the order of the type.
fn shown(owners: &Value) -> String {
    const FIELDS: [&str; 6] =
        ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let one = |owner: &Value| {
        let fields = FIELDS.iter().filter_map(|field| Some((field, owner.get(*field)?)));
        let fields: Vec<String> =
            fields.map(|(field, value)| format!("{field:?}:{value}")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let owners: Vec<String> = owners.as_array().into_iter().flatten().map(one).collect();
    format!("[{}]", owners.join(","))
}

/// An owner with the fields that are never left out.
fn in_full(owner: &Map<String, Value>) -> Map<String, Value> {
    let mut owner = owner.clone();
    for field in ["apiVersion", "kind", "name", "uid"] {
        owner.entry(field).or_insert_with(|| "".into());
    }
    owner
}

/// Kinds of Kubernetes' own ask for more of a name without a domain.
fn check_finalizer(name: &str, index: usize, core: bool, causes: &mut Causes) {
    for detail in names::qualified(name) {
        causes.invalid("metadata.finalizers", &name.into(), &detail);
    }
    if core && !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        causes.invalid(&format!("metadata.finalizers[{index}]"), &name.into(), detail);
    }
}

fn no_new_finalizers(metadata: &Value, old: &Value, causes: &mut Causes) {
    let before: Vec<&str> = texts(&old["finalizers"]).collect();
    let new = texts(&metadata["finalizers"]).filter(|name| !before.contains(name));
    let new: Vec<String> = new.map(|name| format!("{name:?}")).collect();
    if !new.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            new.join(", ")
        );
        causes.forbidden("metadata.finalizers", &detail);
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
