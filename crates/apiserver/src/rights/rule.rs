//! One rule of a role.

use super::{Question, any_of};
use serde_json::Value;

/// Whether a rule (`PolicyRule`) allows what is asked.
pub(super) fn allows(rule: &Value, question: &Question) -> bool {
    if !any_of(&rule["verbs"], &question.verb) {
        return false;
    }
    if let Some(path) = &question.path {
        return strings(&rule["nonResourceURLs"]).any(|pattern| covers(pattern, path));
    }
    let mut names = strings(&rule["resourceNames"]).peekable();
    any_of(&rule["apiGroups"], &question.group)
        && strings(&rule["resources"]).any(|pattern| is_resource(pattern, question))
        && (names.peek().is_none() || names.any(|name| name == question.name))
}

/// `*`, `pods`, `pods/log` or `*/scale`.
fn is_resource(pattern: &str, question: &Question) -> bool {
    let any = pattern.strip_prefix("*/").filter(|_| !question.subresource.is_empty());
    pattern == "*"
        || any.is_some_and(|part| part == question.subresource)
        || pattern == question.whole_resource()
}

/// A path, or the beginning of one with a star at its end.
fn covers(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

pub(super) fn all(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(super) fn strings(list: &Value) -> impl Iterator<Item = &str> {
    all(list).filter_map(Value::as_str)
}
