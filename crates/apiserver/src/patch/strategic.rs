//! Strategic merge: maps key by key, lists by what their type says; everything else is replaced.

use crate::schema::{ListRule, Root, Type};
use serde_json::{Map, Value};

pub(super) fn merge(root: Root<'_>, target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge_maps(root, target, patch),
        (target, Value::Object(patch)) => {
            let mut fresh = Map::new();
            merge_maps(root, &mut fresh, patch);
            *target = Value::Object(fresh);
        }
        (target, Value::Array(patch)) => match rule(root) {
            Rule::Replace => *target = Value::Array(patch.clone()),
            Rule::Union => merge_sets(target, patch),
            Rule::By(key, items) => merge_lists(items, key, target, patch),
        },
        (target, patch) => *target = patch.clone(),
    }
}

/// What a patch has in the place of a struct.
pub(super) fn misfit<'v>(root: Root<'_>, patch: &'v Value) -> Option<&'v Value> {
    match (root.node(), patch) {
        (_, Value::Null) => None,
        (Type::Struct(_), Value::Object(fields)) => fields
            .iter()
            .find_map(|(name, value)| root.field(name).and_then(|root| misfit(root, value))),
        (Type::Struct(_), other) => Some(other),
        _ => None,
    }
}

fn merge_maps(root: Root<'_>, target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if patch.get("$patch").is_some_and(|directive| directive == "replace") {
        target.clear();
    }
    if let Some(Value::Array(retained)) = patch.get("$retainKeys") {
        target.retain(|key, _| retained.iter().any(|retained| retained == key));
    }
    let original = |target: &Map<String, Value>, list: &str| {
        target.get(list).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let ordered = patch.iter().filter_map(|(key, order)| {
        let list = key.strip_prefix("$setElementOrder/")?;
        Some((list, order, original(target, list)))
    });
    let ordered: Vec<_> = ordered.collect();
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_items(target.get_mut(list), value);
        } else if key.starts_with('$') {
            continue;
        } else if value.is_null() || value["$patch"] == "delete" {
            target.remove(key);
        } else {
            let root = field(root, key);
            merge(root, target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
    for (list, order, original) in ordered {
        reorder(field(root, list), target.get_mut(list), order, &original);
    }
}

fn field<'a>(root: Root<'a>, name: &str) -> Root<'a> {
    root.field(name).unwrap_or(Root::untyped())
}

enum Rule<'a> {
    Replace,
    /// Scalars, each once.
    Union,
    /// Objects, told apart by this field.
    By(&'a str, Root<'a>),
}

/// `patchStrategy` and `patchMergeKey` of the Go types: the first of the keys by which lists are owned.
fn rule(root: Root<'_>) -> Rule<'_> {
    match root.node() {
        Type::List { rule: ListRule::Set, .. } => Rule::Union,
        Type::List { rule: ListRule::Keyed(keys), items } => {
            keys.first().map_or(Rule::Replace, |key| Rule::By(key, root.at(*items)))
        }
        _ => Rule::Replace,
    }
}

fn merge_sets(target: &mut Value, patch: &[Value]) {
    let mut items = target.as_array().cloned().unwrap_or_default();
    for item in patch {
        if !items.contains(item) {
            items.push(item.clone());
        }
    }
    *target = Value::Array(items);
}

fn merge_lists(root: Root<'_>, key: &str, target: &mut Value, patch: &[Value]) {
    let directive = |item: &Value, wanted: &str| item["$patch"] == wanted;
    let mut items = target.as_array().cloned().unwrap_or_default();
    if patch.iter().any(|item| directive(item, "replace")) {
        items = patch.iter().filter(|item| item["$patch"].is_null()).cloned().collect();
        *target = Value::Array(items);
        return;
    }
    let original = items.clone();
    for item in patch {
        let place = items.iter().position(|old| !item[key].is_null() && old[key] == item[key]);
        match place {
            Some(place) if directive(item, "delete") => drop(items.remove(place)),
            Some(place) => merge(root, &mut items[place], item),
            None if directive(item, "delete") => {}
            None => {
                let mut fresh = Value::Null;
                merge(root, &mut fresh, item);
                items.push(fresh);
            }
        }
    }
    let items = arrange(items, patch, &original, |a, b| a[key] == b[key]);
    *target = Value::Array(items);
}

fn delete_items(list: Option<&mut Value>, unwanted: &Value) {
    if let (Some(Value::Array(items)), Value::Array(unwanted)) = (list, unwanted) {
        items.retain(|item| !unwanted.contains(item));
    }
}

/// Puts a list's items into the order in which the patch's author saw them.
fn reorder(root: Root<'_>, list: Option<&mut Value>, order: &Value, original: &[Value]) {
    let (Some(Value::Array(items)), Value::Array(order)) = (list, order) else { return };
    let items_now = std::mem::take(items);
    *items = match rule(root) {
        Rule::By(key, _) => arrange(items_now, order, original, |a, b| a[key] == b[key]),
        Rule::Union => arrange(items_now, order, original, |a, b| a == b),
        Rule::Replace => items_now,
    };
}

/// Items of the patch in its order, the others in theirs, and one of the others comes first only where it stood
/// before the item of the patch already (`normalizeElementOrder` of `k8s.io/apimachinery/pkg/util/strategicpatch`).
fn arrange(
    items: Vec<Value>,
    order: &[Value],
    original: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|it| same(it, item));
    let (mut patched, mut rest): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| place(order, item).is_some());
    patched.sort_by_key(|item| place(order, item));
    rest.sort_by_key(|item| place(original, item));
    let mut rest = rest.into_iter().peekable();
    let mut arranged = Vec::new();
    for item in patched {
        if let Some(before) = place(original, &item) {
            while let Some(other) =
                rest.next_if(|it| place(original, it).is_some_and(|at| at < before))
            {
                arranged.push(other);
            }
        }
        arranged.push(item);
    }
    arranged.extend(rest);
    arranged
}
