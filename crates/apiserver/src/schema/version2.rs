//! Schemas as version 2 of OpenAPI has them: it knows less, and its readers fail where they are told half of it
//! (`k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2`).

use super::builtin;
use crate::protobuf::openapi::SCHEMA;
use serde_json::{Map, Value, json};

/// Of a kind whose objects may have any fields, clients are told nothing that they could check.
pub(crate) fn reduce_kind(schema: &mut Value) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        let kinds = schema["x-kubernetes-group-version-kind"].take();
        *schema = json!({"type": "object", "x-kubernetes-group-version-kind": kinds});
    }
    reduce(schema);
}

fn reduce(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let reference = reference(fields);
    if is_open(fields) {
        for name in ["type", "items", "properties"] {
            fields.remove(name);
        }
    }
    demand_no_null(fields);
    fields.retain(|name, _| SCHEMA.knows(name));
    fields.extend(reference.map(|it| ("$ref".to_owned(), it)));
    let named = fields.get_mut("properties").and_then(Value::as_object_mut);
    named.into_iter().flat_map(Map::values_mut).for_each(reduce);
    ["items", "additionalProperties"].into_iter().for_each(|name| {
        fields.get_mut(name).into_iter().for_each(reduce);
    });
}

/// References may have others beside them here, and need no `allOf` around them.
fn reference(fields: &Map<String, Value>) -> Option<Value> {
    let within = fields.get("allOf").and_then(Value::as_array);
    let within = within.into_iter().flatten().find_map(|it| it.get("$ref"));
    let path = fields.get("$ref").or(within)?.as_str()?;
    Some(path.replace(builtin::PATH, "#/definitions/").into())
}

/// What may be anything, or nothing, has no type here.
fn is_open(fields: &Map<String, Value>) -> bool {
    let is = |name: &str| fields.get(name).is_some_and(|it| it == true);
    is("nullable") || is("x-kubernetes-preserve-unknown-fields")
}

/// `null` counts as missing here.
fn demand_no_null(fields: &mut Map<String, Value>) {
    let properties = fields.get("properties").cloned().unwrap_or_default();
    if let Some(Value::Array(names)) = fields.get_mut("required") {
        names.retain(|name| properties[name.as_str().unwrap_or_default()]["nullable"] != true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_an_open_kind_nothing_can_be_checked() {
        let kinds = json!([{"group": "example.com", "kind": "Foo", "version": "v1"}]);
        let mut schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"spec": {"type": "object"}}, "x-kubernetes-group-version-kind": kinds});
        reduce_kind(&mut schema);
        let expected = json!({"type": "object", "x-kubernetes-group-version-kind": kinds});
        assert_eq!(schema, expected);
    }

    #[test]
    fn what_version_2_does_not_know_is_left_out() {
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        for (schema, expected) in [
            (
                json!({"allOf": [{"$ref": "#/components/schemas/a.B"}], "default": {}, "description": "d"}),
                json!({"$ref": "#/definitions/a.B", "description": "d"}),
            ),
            (
                json!({"type": "string", "oneOf": [{"minLength": 1}], "maxLength": 5}),
                json!({"type": "string", "maxLength": 5}),
            ),
            (
                json!({"items": open}),
                json!({"items": {"x-kubernetes-preserve-unknown-fields": true}}),
            ),
            (
                json!({"required": ["allOf", "n"], "properties": {
                    "allOf": {"type": "array", "items": {"$ref": "#/components/schemas/c"}},
                    "n": {"type": "array", "items": {}, "nullable": true},
                }}),
                json!({"required": ["allOf"], "properties": {
                    "allOf": {"type": "array", "items": {"$ref": "#/definitions/c"}},
                    "n": {},
                }}),
            ),
        ] {
            let mut found = schema.clone();
            reduce(&mut found);
            assert_eq!(found, expected, "{schema}");
        }
    }
}
