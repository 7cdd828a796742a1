//! Schemas as OpenAPI documents show them: with the kinds, the lists' keys and references that may carry more.

use super::builtin;
use crate::resources::{Kind, Resource};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The schemas of these kinds, of their lists, and of all that they refer to.
pub(crate) fn schemas(kinds: &[&Resource]) -> Map<String, Value> {
    let mut schemas = builtin::definitions(&mut kinds.iter().copied());
    let rules = builtin::rules();
    for (name, schema) in &mut schemas {
        decorate(name, schema, &rules);
        if builtin::ATOMIC.contains(&name.as_str()) {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
    }
    for resource in kinds {
        let name = builtin::name(resource);
        if let Some(schema) = custom(resource) {
            schemas.insert(name.clone(), schema);
        }
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([gvk(resource, "")]);
        }
        schemas.insert(format!("{name}List"), list(resource, &name));
    }
    schemas
}

/// The schema of a version of a custom kind.
pub(crate) fn custom(resource: &Resource) -> Option<Value> {
    let Kind::Custom(custom) = resource.kind else { return None };
    let mut schema = custom.version(resource.version)?.schema().document();
    if let Some(fields) = schema["properties"].as_object_mut() {
        fields.values_mut().for_each(wrap);
    }
    Some(schema)
}

pub(crate) fn gvk(resource: &Resource, suffix: &str) -> Value {
    let kind = format!("{}{suffix}", resource.name);
    json!({"group": resource.group, "kind": kind, "version": resource.version})
}

fn list(resource: &Resource, name: &str) -> Value {
    let reference = |name: &str| json!({"allOf": [{"$ref": format!("{}{name}", builtin::PATH)}], "default": {}});
    json!({
        "type": "object",
        "description": format!("{}List is a list of {}.", resource.name, resource.plural),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
            "items": {"type": "array", "items": reference(name)},
        },
        "x-kubernetes-group-version-kind": [gvk(resource, "List")],
    })
}

fn decorate(name: &str, schema: &mut Value, rules: &BTreeMap<(&str, &str), &str>) {
    let Some(Value::Object(fields)) = schema.get_mut("properties") else { return };
    for (field, schema) in fields {
        wrap(schema);
        if let Some(rule) = rules.get(&(name, field.as_str())) {
            tell(schema, rule);
        }
    }
}

/// What stands beside a `$ref` is ignored by readers, so the reference moves into `allOf`.
fn wrap(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.len() > 1
        && let Some(reference) = fields.remove("$ref")
    {
        fields.insert("allOf".into(), json!([{"$ref": reference}]));
    }
}

fn tell(schema: &mut Value, rule: &str) {
    let is_list = schema["type"] == "array";
    let field = if is_list { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" };
    match rule {
        "atomic" => schema[field] = "atomic".into(),
        "set" => {
            schema[field] = "set".into();
            schema["x-kubernetes-patch-strategy"] = "merge".into();
        }
        keys => {
            let keys: Vec<&str> = keys.split(',').collect();
            schema[field] = "map".into();
            schema["x-kubernetes-patch-strategy"] = "merge".into();
            schema["x-kubernetes-patch-merge-key"] = keys[0].into();
            schema["x-kubernetes-list-map-keys"] = keys.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_how_lists_merge() {
        let schemas = schemas(&[Kind::Service.resource()]);
        let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
        let service = &schemas["io.k8s.api.core.v1.Service"];
        let kinds = json!([{"group": "", "kind": "Service", "version": "v1"}]);
        assert_eq!(service["x-kubernetes-group-version-kind"], kinds);
        assert!(service["properties"]["spec"]["allOf"][0]["$ref"].is_string(), "{service}");
        assert!(schemas.contains_key("io.k8s.api.core.v1.ServiceList"));
    }
}
