//! CustomResourceDefinitions.

use super::causes::Causes;
use super::{child, items, preset, text};
use serde_json::{Map, Value, json};

const SCOPES: [&str; 2] = ["Cluster", "Namespaced"];

pub(super) fn admit(
    definition: &mut Map<String, Value>,
    old: Option<&Value>,
    now: &str,
    causes: &mut Causes,
) {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = child(definition, "spec");
    complete(spec);
    check(&name, spec, old, causes);
    let (names, versions) =
        (spec["names"].clone(), spec.get("versions").cloned().unwrap_or_default());
    let status = child(definition, "status");
    status.insert("acceptedNames".into(), names);
    let stored =
        versions.as_array().into_iter().flatten().find(|version| version["storage"] == true);
    let stored = stored.map(|version| version["name"].clone()).unwrap_or_default();
    preset(status, "storedVersions", || json!([]));
    if let Some(Value::Array(known)) = status.get_mut("storedVersions")
        && !known.contains(&stored)
    {
        known.push(stored);
    }
    preset(status, "conditions", || {
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
        json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ])
    });
}

fn complete(spec: &mut Map<String, Value>) {
    let names = child(spec, "names");
    let kind = text(names, "kind").to_owned();
    preset(names, "singular", || kind.to_lowercase().into());
    preset(names, "listKind", || format!("{kind}List").into());
    preset(child(spec, "conversion"), "strategy", || "None".into());
}

fn check(name: &str, spec: &Map<String, Value>, old: Option<&Value>, causes: &mut Causes) {
    let names = spec["names"].as_object().cloned().unwrap_or_default();
    let (plural, group) = (text(&names, "plural"), text(spec, "group"));
    for (field, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural),
        ("spec.names.kind", text(&names, "kind")),
    ] {
        if value.is_empty() {
            causes.required(field, "");
        }
    }
    let wanted = format!("{plural}.{group}");
    if name != wanted {
        causes.invalid("metadata.name", &name.into(), "must be spec.names.plural+\".\"+spec.group");
    }
    if crate::resources::RESOURCES
        .iter()
        .any(|resource| !group.is_empty() && resource.group == group)
    {
        causes.forbidden("spec.group", "this group is built in");
    }
    causes.one_of("spec.scope", text(spec, "scope"), &SCOPES);
    if spec["conversion"]["strategy"] != "None" {
        causes.unsupported(
            "spec.conversion.strategy",
            spec["conversion"]["strategy"].as_str().unwrap_or_default(),
            &["None"],
        );
    }
    if let Some(old) = old {
        for (field, path) in [
            ("spec.group", "/spec/group"),
            ("spec.scope", "/spec/scope"),
            ("spec.names.kind", "/spec/names/kind"),
        ] {
            let now = json!({"spec": spec}).pointer(path).cloned().unwrap_or_default();
            if old.pointer(path).is_some_and(|before| *before != now) {
                causes.invalid(field, &now, "field is immutable");
            }
        }
    }
    check_versions(&mut spec.clone(), causes);
}

fn check_versions(spec: &mut Map<String, Value>, causes: &mut Causes) {
    let (mut stored, mut count) = (0, 0);
    for (index, version) in items(spec, "versions").enumerate() {
        count += 1;
        stored += usize::from(version.get("storage") == Some(&Value::Bool(true)));
        let field = format!("spec.versions[{index}]");
        if text(version, "name").is_empty() {
            causes.required(&format!("{field}.name"), "");
        }
        if !version.get("schema").is_some_and(|schema| schema["openAPIV3Schema"].is_object()) {
            causes.required(&format!("{field}.schema.openAPIV3Schema"), "schemas are required");
        }
    }
    if count == 0 {
        causes.required("spec.versions", "");
    } else if stored != 1 {
        causes.invalid(
            "spec.versions",
            &Value::Null,
            "must have exactly one version marked as storage version",
        );
    }
}
