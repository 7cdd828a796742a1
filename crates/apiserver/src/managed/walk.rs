//! The fields of an object, and those in which two differ.

use super::set::Set;
use crate::schema::{ListRule, Root, Type};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How an object became another one.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Added or modified.
    pub(crate) written: Set,
    pub(crate) removed: Set,
}

/// The parts of a value that are merged and owned one by one, by their steps.
pub(super) type Parts<'a, 'v> = BTreeMap<String, (Root<'a>, &'v Value)>;

/// None: the value is replaced as a whole.
pub(super) fn parts<'a, 'v>(root: Root<'a>, value: &'v Value) -> Option<Parts<'a, 'v>> {
    match (root.node(), value) {
        (Type::Struct(node), _) if node.atomic => None,
        (Type::Struct(_) | Type::Map { atomic: false, .. }, Value::Object(fields)) => {
            Some(fields_of(root, fields))
        }
        (Type::List { items, rule }, Value::Array(list)) => {
            let steps = list.iter().map(|item| Some((step(rule, item)?, (root.at(*items), item))));
            let steps: Option<Vec<_>> = steps.collect();
            let parts: Parts<'a, 'v> = steps?.into_iter().collect();
            // Items that cannot be told apart are one thing.
            (parts.len() == list.len()).then_some(parts)
        }
        _ => None,
    }
}

/// What a manifest would replace as a whole: lists, maps and structures that are not merged part by part.
pub(crate) fn atomics(root: Root<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    find_atomics(root, value, "", &mut found);
    found
}

fn find_atomics(root: Root<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    if !(value.is_object() || value.is_array()) {
        return;
    }
    match (root.node(), value) {
        (Type::Struct(node), _) if node.atomic => found.push(path.to_owned()),
        (Type::Map { atomic: true, .. }, _) => found.push(path.to_owned()),
        (Type::List { rule: ListRule::Atomic, .. }, _) => found.push(path.to_owned()),
        (Type::List { items, .. }, Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                find_atomics(root.at(*items), item, &format!("{path}[{index}]"), found);
            }
        }
        (_, Value::Object(fields)) => {
            for (name, value) in fields {
                let Some(root) = root.field(name) else { continue };
                find_atomics(root, value, &format!("{path}.{name}"), found);
            }
        }
        _ => {}
    }
}

fn fields_of<'a, 'v>(root: Root<'a>, fields: &'v Map<String, Value>) -> Parts<'a, 'v> {
    let untyped: Root<'a> = Root::untyped();
    let of = |name: &str| root.field(name).unwrap_or(untyped);
    fields.iter().map(|(name, value)| (format!("f:{name}"), (of(name), value))).collect()
}

/// The step to a list's item; none where items have no identity.
pub(super) fn step(rule: &ListRule, item: &Value) -> Option<String> {
    match rule {
        ListRule::Atomic => None,
        ListRule::Set => Some(format!("v:{item}")),
        ListRule::Keyed(keys) => {
            let value = |key: &str| match item.get(key) {
                Some(value) if !value.is_null() => Some(value.clone()),
                // The one key with a default (`schema default` of the API reference).
                _ if key == "protocol" => Some("TCP".into()),
                _ => None,
            };
            let keys = keys.iter().filter_map(|key| Some((key.to_string(), value(key)?)));
            let keys: Map<String, Value> = keys.collect();
            (!keys.is_empty()).then(|| format!("k:{}", Value::Object(keys)))
        }
    }
}

/// All fields that the value has.
pub(super) fn extract(root: Root<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    for (step, (root, value)) in parts(root, value).into_iter().flatten() {
        add(&mut set, step, root, value);
    }
    set
}

/// A value that was not there before: all that is in it, and the value itself, unless Go's types have it `inline` in
/// the empty object already, as a `spec` is.
///
/// `zero`: what is there before anybody sets it.
fn appear(set: &mut Set, step: String, root: Root<'_>, value: &Value, zero: Option<Value>) {
    if zero.as_ref() == Some(value) {
        return;
    }
    let mut below = Set::default();
    for (step, (part, value)) in parts(root, value).into_iter().flatten() {
        let zero = zero.as_ref().and_then(|_| zero_of(root, &step));
        appear(&mut below, step, part, value, zero);
    }
    if zero.is_none() || below.is_empty() {
        set.insert(step.clone());
    }
    set.graft(step, below);
}

fn zero_of(parent: Root<'_>, step: &str) -> Option<Value> {
    // The one list that even an empty spec has.
    let list = (step == "f:containers").then_some(Value::Null);
    list.or_else(|| parent.zero(step.strip_prefix("f:")?))
}

fn add(set: &mut Set, step: String, root: Root<'_>, value: &Value) {
    let below = extract(root, value);
    if below.is_empty() || step.starts_with("k:") || step.starts_with("v:") {
        set.insert(step.clone());
    }
    set.graft(step, below);
}

pub(crate) fn compare(root: Root<'_>, old: &Value, new: &Value) -> Changes {
    let mut changes = Changes::default();
    let (Some(before), Some(after)) = (parts(root, old), parts(root, new)) else {
        return changes;
    };
    for (step, (part, new)) in &after {
        match before.get(step) {
            None => {
                appear(&mut changes.written, step.clone(), *part, new, zero_of(root, step));
            }
            Some((_, old)) if old == new => {}
            Some((_, old)) if parts(*part, old).is_some() && parts(*part, new).is_some() => {
                let below = compare(*part, old, new);
                changes.written.graft(step.clone(), below.written);
                changes.removed.graft(step.clone(), below.removed);
            }
            Some(_) => add(&mut changes.written, step.clone(), *part, new),
        }
    }
    for (step, (part, old)) in before {
        if !after.contains_key(&step) {
            let zero = zero_of(root, &step);
            appear(&mut changes.removed, step, part, old, zero);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use crate::schema::builtin;
    use serde_json::json;

    #[test]
    fn fields_of_an_object() {
        let root = builtin::root(Kind::Deployment.resource()).expect("a root");
        let ports = json!([{"containerPort": 80}]);
        let containers = json!([{"name": "c", "image": "i", "ports": ports, "args": ["x"]}]);
        let object = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["f"]},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "strategy": {}, "template": {"spec": {"containers": containers}}}});
        let expected = [
            ".metadata.finalizers[=\"f\"]",
            ".metadata.labels.a",
            ".spec.selector",
            ".spec.strategy",
            ".spec.template.spec.containers[name=\"c\"]",
            ".spec.template.spec.containers[name=\"c\"].args",
            ".spec.template.spec.containers[name=\"c\"].image",
            ".spec.template.spec.containers[name=\"c\"].name",
            ".spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"]",
            ".spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
        ];
        assert_eq!(extract(root, &object).paths(), expected);
    }

    #[test]
    fn differences() {
        let root = builtin::root(Kind::ConfigMap.resource()).expect("a root");
        let old = json!({"data": {"a": "1", "b": "1", "c": "1"}});
        let new = json!({"data": {"a": "1", "b": "2", "d": "1"}, "metadata": {"labels": {}}});
        let changes = compare(root, &old, &new);
        assert_eq!(changes.written.paths(), [".data.b", ".data.d", ".metadata.labels"]);
        assert_eq!(changes.removed.paths(), [".data.c"]);
    }
}
