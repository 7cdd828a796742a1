//! What a manifest to apply has to be: of known fields with values of their types, and lists whose items differ.
//!
//! Wording: `sigs.k8s.io/structured-merge-diff/typed`.

use super::walk::step;
use crate::schema::{ListRule, Root, Type};
use serde_json::Value;

/// The faults of a manifest, a sentence each: `.spec.odd: field not declared in schema`.
pub(crate) fn check(root: Root<'_>, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    look(root, value, "", &mut faults);
    faults
}

fn look(root: Root<'_>, value: &Value, path: &str, faults: &mut Vec<String>) {
    if root.is_untyped() {
        return;
    }
    let mut fault = |what: String| faults.push(format!("{path}: {what}"));
    match (root.node(), value) {
        (_, Value::Null) | (Type::Any | Type::Quantity | Type::IntegerOrText, _) => {}
        (Type::Struct(_) | Type::Map { .. }, Value::Object(fields)) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match root.field(name) {
                    Some(root) => look(root, value, &path, faults),
                    // Nobody looks at the fields behind one that is not known.
                    None => return faults.push(format!("{path}: field not declared in schema")),
                }
            }
        }
        (Type::List { items, rule }, Value::Array(list)) => {
            let steps: Vec<_> = list.iter().map(|item| step(rule, item)).collect();
            for (index, own) in steps.iter().enumerate().filter(|(_, step)| step.is_some()) {
                // Once for each key.
                if steps[..index].iter().filter(|other| *other == own).count() == 1 {
                    let key = own.as_deref().map(super::set::readable).unwrap_or_default();
                    fault(format!("duplicate entries for key {key}"));
                }
            }
            for (index, item) in list.iter().enumerate() {
                let step = match rule {
                    ListRule::Atomic => format!("[{index}]"),
                    _ => steps[index].as_deref().map(super::set::readable).unwrap_or_default(),
                };
                look(root.at(*items), item, &format!("{path}{step}"), faults);
            }
        }
        (Type::Struct(_) | Type::Map { .. }, value) => {
            fault(format!("expected map, got &{{{}}}", in_go(value)));
        }
        (Type::List { .. }, value) => fault(format!("expected list, got &{{{}}}", in_go(value))),
        (Type::Integer { .. } | Type::Number, value) if !value.is_number() => {
            fault(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        (Type::Flag, value) if !value.is_boolean() => {
            fault(format!("expected boolean, got {}", go_type(value)));
        }
        (Type::Text | Type::Bytes | Type::Time { .. }, value) if !value.is_string() => {
            fault(format!("expected string, got {}", go_type(value)));
        }
        _ => {}
    }
}

pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// As Go prints a value (`%v`).
pub(crate) fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", in_go(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        /// A manifest of the right types has no faults, and one with a field that nobody knows has one.
        #[test]
        fn what_is_known_is_found(ports in prop::collection::btree_set(1_u16.., 0..5), odd in "[A-Z][a-z]{3,6}") {
            let root = Kind::Service.resource().root().expect("a root");
            let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
            let mut service = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ports": ports}});
            prop_assert_eq!(check(root, &service), Vec::<String>::new());
            service["spec"][odd.as_str()] = 1.into();
            prop_assert_eq!(check(root, &service), [format!(".spec.{odd}: field not declared in schema")]);
        }
    }

    #[test]
    fn faults_of_manifests() {
        let port = || json!({"port": 80});
        for (spec, expected) in [
            (json!({"ports": [port(), {"port": 80, "protocol": "UDP"}]}), &[][..]),
            (
                json!({"ports": [port(), {"port": 80, "protocol": "TCP"}, port()]}),
                &[r#".spec.ports: duplicate entries for key [port=80,protocol="TCP"]"#],
            ),
            (json!({"ports": port()}), &[".spec.ports: expected list, got &{map[port:80]}"]),
            (
                json!({"ports": [{"port": "80"}], "type": 1, "publishNotReadyAddresses": "yes"}),
                &[
                    r#".spec.ports[port="80",protocol="TCP"].port: expected numeric (int or float), got string"#,
                    ".spec.publishNotReadyAddresses: expected boolean, got string",
                    ".spec.type: expected string, got int64",
                ],
            ),
            (json!({"a": 1, "type": 1}), &[".spec.a: field not declared in schema"]),
            (json!("x"), &[".spec: expected map, got &{x}"]),
        ] {
            let root = Kind::Service.resource().root().expect("a root");
            assert_eq!(check(root, &json!({"spec": spec})), expected);
        }
    }
}
