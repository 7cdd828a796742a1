use super::*;

fn schema() -> Schema {
    Schema::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": {"type": "string", "enum": ["A", "B"]},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
                    "count": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
                    "port": {"x-kubernetes-int-or-string": true},
                    "list": {
                        "type": "array", "maxItems": 3, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {"name": {"type": "string"}, "weight": {"type": "integer", "default": 1}}},
                    },
                    "namespace": {"type": "string"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
                },
                "x-kubernetes-validations": [
                    {"rule": "self.kind != 'B' || has(self.name)", "message": "B needs a name"},
                    {"rule": "!has(self.list) || self.list.all(a, self.list.exists_one(b, a.name == b.name))", "message": "names differ"},
                    {"rule": "!has(self.__namespace__) || self.__namespace__.split('/').size() < 3", "messageExpression": "'too deep: ' + self.__namespace__"},
                ],
            },
        },
    }))
}

fn causes(spec: Value) -> Vec<String> {
    let verdict = schema().validate(&json!({"spec": spec}), None);
    assert_eq!(verdict.unchecked, Vec::<String>::new());
    verdict.causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

const UNCHECKED: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

#[test]
fn wrong_values_are_told_as_the_real_server_tells_them() {
    for (spec, expected) in [
        (json!({"kind": "A", "count": 2, "port": "x", "labels": {"a": "b"}}), vec![]),
        (json!({}), vec!["spec.kind: Required value"]),
        (
            json!({"kind": "C"}),
            vec![r#"spec.kind: Unsupported value: "C": supported values: "A", "B""#],
        ),
        (
            json!({"kind": "A", "count": "x"}),
            vec![
                r#"spec.count: Invalid value: "string": spec.count in body must be of type integer: "string""#,
            ],
        ),
        (
            json!({"kind": "A", "count": 0}),
            vec![
                "spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1",
            ],
        ),
        (
            json!({"kind": "A", "name": "XYZ"}),
            vec!["spec.name: Invalid value: \"XYZ\": spec.name in body should match '^[a-z]+$'"],
        ),
        (
            json!({"kind": "A", "name": "abcde"}),
            vec!["spec.name: Too long: may not be more than 4 bytes"],
        ),
        (json!({"kind": "B"}), vec!["spec: Invalid value: B needs a name"]),
        (json!({"kind": "A", "namespace": "a/b/c"}), vec!["spec: Invalid value: too deep: a/b/c"]),
        (
            json!({"kind": "A", "list": [{"name": "x"}, {"name": "x"}]}),
            vec![
                "spec.list[1]: Duplicate value: {\"name\":\"x\"}",
                "spec: Invalid value: names differ",
            ],
        ),
        (
            json!({"kind": "A", "labels": {"a": 1}}),
            vec![
                r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#,
            ],
        ),
    ] {
        let mut found = causes(spec.clone());
        let blocked = found.last().is_some_and(|last| last == UNCHECKED);
        found.retain(|cause| cause != UNCHECKED);
        assert_eq!(found, expected, "{spec}");
        let blocks = ["Required", "Unsupported", "Too long", "must be of type"];
        let blocks = |cause: &&str| blocks.iter().any(|words| cause.contains(words));
        assert_eq!(blocked, expected.iter().any(blocks), "{spec}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let mut object = json!({"spec": {"kind": "A", "list": [{"name": "x"}]}});
    schema().complete(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"kind": "A", "count": 3, "list": [{"name": "x", "weight": 1}]}})
    );
}

#[test]
fn what_must_stay_stays() {
    let of = |text: &str| json!({"spec": {"kind": "A", "fixed": text}});
    let schema = schema();
    assert!(schema.validate(&of("a"), None).causes.is_empty());
    assert!(schema.validate(&of("a"), Some(&of("a"))).causes.is_empty());
    let changed = schema.validate(&of("b"), Some(&of("a")));
    assert_eq!(changed.causes[0].message, "Invalid value: \"b\": is immutable");
}

#[test]
fn unknown_fields_go_and_free_ones_stay() {
    let mut object = json!({"metadata": {"name": "x", "odd": 1}, "spec": {"kind": "A", "odd": 1, "free": {"odd": 1}}, "more": 1});
    let (schema, mut unknown) = (schema(), Vec::new());
    crate::schema::decode::prune(schema.root(), &mut object, &mut unknown);
    assert_eq!(
        object,
        json!({"metadata": {"name": "x"}, "spec": {"kind": "A", "free": {"odd": 1}}})
    );
    assert_eq!(unknown.len(), 3);
}

/// With `PODWAY_DEFINITIONS`, a directory of CustomResourceDefinitions in YAML: all their rules compile.
#[test]
fn rules_of_others_compile() {
    let Some(directory) = std::env::var_os("PODWAY_DEFINITIONS") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in model::manifest::parse("file", &text).unwrap() {
            let versions = document.value["spec"]["versions"].as_array().cloned();
            for version in versions.unwrap_or_default() {
                let schema = Schema::compile(&version["schema"]["openAPIV3Schema"]);
                assert_eq!(schema.rules.broken(), Vec::<String>::new(), "{}", path.display());
                count += schema.rules.len();
            }
        }
    }
    assert!(count > 0, "no rules there");
}
