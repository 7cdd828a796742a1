//! CustomResourceDefinitions.

use super::causes::Causes;
use super::{child, items, names, preset, text};
use serde_json::{Map, Value, json};

const SCOPES: [&str; 2] = ["Cluster", "Namespaced"];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

pub(super) fn complete(definition: &mut Map<String, Value>) {
    let spec = child(definition, "spec");
    let names = child(spec, "names");
    let kind = text(names, "kind").to_owned();
    preset(names, "singular", || kind.to_lowercase().into());
    preset(names, "listKind", || format!("{kind}List").into());
    preset(child(spec, "conversion"), "strategy", || "None".into());
    let stored = items(spec, "versions").find(|it| it.get("storage") == Some(&true.into()));
    let Some(stored) = stored.and_then(|version| version.get("name").cloned()) else { return };
    let versions = child(definition, "status").entry("storedVersions").or_insert(Value::Null);
    match versions.as_array_mut() {
        Some(known) if known.contains(&stored) => {}
        Some(known) => known.push(stored),
        None => *versions = json!([stored]),
    }
}

pub(super) fn admit(definition: &Map<String, Value>, old: Option<&Value>, causes: &mut Causes) {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let none = Map::new();
    check(name, definition["spec"].as_object().unwrap_or(&none), old, causes);
    if definition["status"]["storedVersions"].is_null() {
        let detail = "must have at least one stored version";
        causes.invalid("status.storedVersions", &Value::Null, detail);
    }
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
    check_names(&names, group, causes);
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
    check_versions(spec, causes);
}

/// What discovery could not tell apart, or no path could hold.
fn check_names(names: &Map<String, Value>, group: &str, causes: &mut Causes) {
    let subdomain = names::subdomain(group);
    match subdomain {
        _ if group.is_empty() => {}
        Err(detail) => causes.invalid("spec.group", &group.into(), detail),
        Ok(()) if !group.contains('.') => {
            causes.invalid("spec.group", &group.into(), "should be a domain with at least one dot");
        }
        Ok(()) => {}
    }
    let short = names.get("shortNames").and_then(Value::as_array).into_iter().flatten();
    let short = short.enumerate().map(|(index, name)| (format!("shortNames[{index}]"), name));
    let named = ["plural", "singular"]
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), names.get(field)?)));
    for (field, name) in named.chain(short) {
        let text = name.as_str().unwrap_or_default();
        if let (false, Err(detail)) = (text.is_empty(), names::label(text)) {
            causes.invalid(&format!("spec.names.{field}"), name, detail);
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        if let (false, Err(detail)) = (name.is_empty(), names::label(&name.to_lowercase())) {
            let detail = format!("may have mixed case, but should otherwise match: {detail}");
            causes.invalid(&format!("spec.names.{field}"), &name.into(), &detail);
        }
    }
    let (kind, list) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list {
        let detail = "kind and listKind may not be the same";
        causes.invalid("spec.names.listKind", &list.into(), detail);
    }
}

fn check_versions(spec: &Map<String, Value>, causes: &mut Causes) {
    let versions = spec.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    // Versions that have it in common have it in one place, inside the real server.
    let common = versions.iter().all(|version| schema(version) == schema(&versions[0]));
    for (index, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{index}]");
        if version["name"].as_str().is_none_or(str::is_empty) {
            causes.required(&format!("{field}.name"), "");
        }
        let own = format!("{field}.schema.openAPIV3Schema");
        match schema(version) {
            Value::Object(_) if common && index > 0 => {}
            schema if schema.is_object() => {
                let place = if common { "spec.validation.openAPIV3Schema" } else { &own };
                check_schema(&schema, place, causes);
            }
            _ => causes.required(&own, ""),
        }
    }
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    let mut known: Vec<&Value> = versions.iter().map(|version| &version["name"]).collect();
    known.sort_by_key(|name| name.as_str());
    if known.windows(2).any(|pair| pair[0] == pair[1]) {
        let shown: Vec<String> = versions.iter().map(|version| in_go(version, common)).collect();
        let detail = "must contain unique version names";
        causes.invalid_shown("spec.versions", &format!("[{}]", shown.join(",")), detail);
    }
    if stored != 1 {
        let shown: Vec<String> = versions.iter().map(|version| in_go(version, common)).collect();
        let detail = "must have exactly one version marked as storage version";
        causes.invalid_shown("spec.versions", &format!("[{}]", shown.join(",")), detail);
    }
}

/// As the real server holds it.
fn in_go(version: &Value, common: bool) -> String {
    let flag = |field: &str| version[field].as_bool().unwrap_or(false);
    let schema = if common { &Value::Null } else { &version["schema"] };
    format!(
        r#"{{"Name":{},"Served":{},"Storage":{},"Deprecated":{},"DeprecationWarning":{},"Schema":{schema},"Subresources":{},"AdditionalPrinterColumns":{},"SelectableFields":{}}}"#,
        version["name"],
        flag("served"),
        flag("storage"),
        flag("deprecated"),
        version["deprecationWarning"],
        version["subresources"],
        version["additionalPrinterColumns"],
        version["selectableFields"],
    )
}

/// A schema has to be structural: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
fn check_schema(schema: &Value, path: &str, causes: &mut Causes) {
    let parts = parts(schema, path, "at the root");
    for Part { schema, path, place } in &parts {
        let kind = schema["type"].as_str().unwrap_or_default();
        let free = ["x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
        if kind.is_empty() && free.iter().all(|field| schema[*field] != true) {
            let detail = match *place {
                "at the root" => "must not be empty at the root".to_owned(),
                place => format!("must not be empty for specified {place}"),
            };
            causes.required(&format!("{path}.type"), &detail);
        }
        if *place == "at the root" && !matches!(kind, "" | "object") {
            causes.invalid(&format!("{path}.type"), &kind.into(), "must be object at the root");
        }
        if kind == "array" && !schema["items"].is_object() {
            causes.required(&format!("{path}.items"), "must be specified");
        }
    }
    for Part { schema, path, .. } in &parts {
        if let Some(kind) = schema["type"].as_str().filter(|kind| !kind.is_empty()) {
            causes.one_of(&format!("{path}.type"), kind, &TYPES);
        }
    }
}

/// A schema within another.
struct Part<'a> {
    schema: &'a Value,
    path: String,
    place: &'static str,
}

fn parts<'a>(schema: &'a Value, path: &str, place: &'static str) -> Vec<Part<'a>> {
    let mut all = vec![Part { schema, path: path.to_owned(), place }];
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.properties[{name}]");
        all.extend(parts(schema, &path, "object fields"));
    }
    for (field, place) in [("items", "array items"), ("additionalProperties", "object fields")] {
        if schema[field].is_object() {
            all.extend(parts(&schema[field], &format!("{path}.{field}"), place));
        }
    }
    all
}
