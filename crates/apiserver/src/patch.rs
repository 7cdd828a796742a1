//! The three kinds of patches: RFC 7386, RFC 6902, and Kubernetes' strategic merge.
//!
//! Strategic merge: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use crate::error::Error;
use crate::resources::Kind;
use json_patch::PatchOperation;
use serde_json::{Map, Value};

/// Bytes that the copies of one patch may add.
const COPY_LIMIT: usize = 3 << 20;
/// Parsers, ours and the clients', give up at 128 levels, of which lists and events take some.
const DEPTH_LIMIT: usize = 100;

/// A change to an object, as a client wrote it.
#[derive(Debug, Clone)]
pub(crate) enum Patch {
    Merge(Value),
    Json(Box<json_patch::Patch>),
    Strategic(Value),
}

impl Patch {
    /// The changed copy of `object`.
    pub(crate) fn apply(&self, kind: Kind, object: &Value) -> Result<Value, Error> {
        let mut changed = object.clone();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut changed, patch),
            Self::Json(patch) => operate(&mut changed, patch)?,
            Self::Strategic(patch) => merge(kind, "", &mut changed, patch),
        }
        Ok(changed)
    }
}

/// Applies the operations one by one, so that copies of copies do not grow without bound.
fn operate(object: &mut Value, patch: &[PatchOperation]) -> Result<(), Error> {
    let mut copied = 0;
    for operation in patch {
        if let PatchOperation::Copy(copy) = operation {
            copied += object.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
        }
        if copied > COPY_LIMIT {
            return Err(Error::TooLarge { limit: COPY_LIMIT });
        }
        json_patch::patch(object, std::slice::from_ref(operation)).map_err(|error| {
            Error::BadRequest { message: format!("the patch does not apply: {error}") }
        })?;
        check_depth(object)?;
    }
    Ok(())
}

/// Refuses what clients could not read back.
pub(crate) fn check_depth(object: &Value) -> Result<(), Error> {
    if depth(object) <= DEPTH_LIMIT {
        return Ok(());
    }
    Err(Error::BadRequest {
        message: format!("the object is nested more than {DEPTH_LIMIT} levels deep"),
    })
}

fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Object(fields) => fields.values().map(depth).max(),
        Value::Array(items) => items.iter().map(depth).max(),
        _ => return 0,
    };
    deepest.unwrap_or(0) + 1
}

/// Merges maps key by key, lists with a known key item by item; everything else is replaced.
fn merge(kind: Kind, field: &str, target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge_maps(kind, target, patch),
        (target, Value::Object(patch)) => {
            let mut fresh = Map::new();
            merge_maps(kind, &mut fresh, patch);
            *target = Value::Object(fresh);
        }
        (target, Value::Array(patch)) => match list_rule(kind, field) {
            Rule::Replace => *target = Value::Array(patch.clone()),
            Rule::Union => merge_sets(target, patch),
            Rule::By(key) => merge_lists(kind, key, target, patch),
        },
        (target, patch) => *target = patch.clone(),
    }
}

fn merge_maps(kind: Kind, target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if patch.get("$patch").is_some_and(|directive| directive == "replace") {
        target.clear();
    }
    if let Some(Value::Array(retained)) = patch.get("$retainKeys") {
        target.retain(|key, _| retained.iter().any(|retained| retained == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_items(target.get_mut(list), value);
        } else if key.starts_with('$') {
            continue;
        } else if value.is_null() {
            target.remove(key);
        } else {
            merge(kind, key, target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix("$setElementOrder/") {
            reorder(kind, list, target.get_mut(list), order);
        }
    }
}

enum Rule {
    Replace,
    /// Strings, each once.
    Union,
    /// Objects, told apart by this field.
    By(&'static str),
}

/// `patchStrategy` and `patchMergeKey` of the Go types; a field's name is enough for the kinds served here.
fn list_rule(kind: Kind, field: &str) -> Rule {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets" => Rule::By("name"),
        "ports" if kind == Kind::Service => Rule::By("port"),
        "ports" if matches!(kind, Kind::Pod | Kind::Deployment | Kind::ReplicaSet) => {
            Rule::By("containerPort")
        }
        "conditions" => Rule::By("type"),
        "addresses" if kind == Kind::Node => Rule::By("type"),
        "volumeMounts" => Rule::By("mountPath"),
        "volumeDevices" => Rule::By("devicePath"),
        "hostAliases" | "podIPs" | "hostIPs" => Rule::By("ip"),
        "ownerReferences" => Rule::By("uid"),
        "topologySpreadConstraints" => Rule::By("topologyKey"),
        "finalizers" | "podCIDRs" => Rule::Union,
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

fn merge_lists(kind: Kind, key: &str, target: &mut Value, patch: &[Value]) {
    let directive = |item: &Value, wanted: &str| item["$patch"] == wanted;
    let mut items = target.as_array().cloned().unwrap_or_default();
    if patch.iter().any(|item| directive(item, "replace")) {
        items = patch.iter().filter(|item| item["$patch"].is_null()).cloned().collect();
        *target = Value::Array(items);
        return;
    }
    for item in patch {
        let place = items.iter().position(|old| !item[key].is_null() && old[key] == item[key]);
        match place {
            Some(place) if directive(item, "delete") => drop(items.remove(place)),
            Some(place) => merge(kind, "", &mut items[place], item),
            None if directive(item, "delete") => {}
            None => {
                let mut fresh = Value::Null;
                merge(kind, "", &mut fresh, item);
                items.push(fresh);
            }
        }
    }
    *target = Value::Array(items);
}

fn delete_items(list: Option<&mut Value>, unwanted: &Value) {
    if let (Some(Value::Array(items)), Value::Array(unwanted)) = (list, unwanted) {
        items.retain(|item| !unwanted.contains(item));
    }
}

/// Sorts a list's items as the patch's author saw them; items he did not know keep their place at the end.
fn reorder(kind: Kind, field: &str, list: Option<&mut Value>, order: &Value) {
    let (Some(Value::Array(items)), Value::Array(order)) = (list, order) else { return };
    let place = |item: &Value| match list_rule(kind, field) {
        Rule::By(key) => order.iter().position(|wanted| wanted[key] == item[key]),
        Rule::Union => order.iter().position(|wanted| wanted == item),
        Rule::Replace => None,
    };
    items.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strategic_merges() {
        for (kind, object, patch, expected) in [
            (
                Kind::Pod,
                json!({"status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}]}}),
                json!({"status": {"phase": "Pending", "conditions": [
                    {"type": "Ready", "status": "True", "reason": "x"}, {"type": "New", "status": "True"}]}}),
            ),
            (
                Kind::Deployment,
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}}}}),
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "2"}, {"$patch": "delete", "name": "b"}]}}}}),
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "2"}]}}}}),
            ),
            (
                Kind::Service,
                json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
                json!({"spec": {"$setElementOrder/ports": [{"port": 443}, {"port": 80}], "ports": [{"port": 443}]}}),
                json!({"spec": {"ports": [{"port": 443}, {"port": 80, "nodePort": 30000}]}}),
            ),
            (
                Kind::EndpointSlice,
                json!({"endpoints": [{"addresses": ["a"]}]}),
                json!({"endpoints": [{"addresses": ["b"]}]}),
                json!({"endpoints": [{"addresses": ["b"]}]}),
            ),
            (
                Kind::Pod,
                json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}, "spec": {"s": {"a": 1}}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"x": null}}, "spec": {"s": {"$patch": "replace", "b": 2}}}),
                json!({"metadata": {"finalizers": ["b"], "labels": {}}, "spec": {"s": {"b": 2}}}),
            ),
        ] {
            assert_eq!(Patch::Strategic(patch).apply(kind, &object).unwrap(), expected);
        }
    }

    /// Each copy doubles the object or makes it deeper: a few dozen would fill any memory or stack.
    #[test]
    fn copies_of_copies_end() {
        for (from, path, code) in [("/data", "/data/x", 400), ("/list", "/list/-", 413)] {
            let copies: Vec<Value> =
                (0..120).map(|_| json!({"op": "copy", "from": from, "path": path})).collect();
            let patch = Patch::Json(Box::new(serde_json::from_value(copies.into()).unwrap()));
            let object = json!({"data": {"x": {}}, "list": ["x".repeat(100)]});
            let outcome = patch.apply(Kind::ConfigMap, &object).map_err(|error| error.code());
            assert_eq!(outcome.unwrap_err(), code, "{path}");
        }
    }

    #[test]
    fn json_patches_that_do_not_apply_are_refused() {
        let patch =
            serde_json::from_value(json!([{"op": "test", "path": "/a", "value": 1}])).unwrap();
        let refused = Patch::Json(Box::new(patch)).apply(Kind::Pod, &json!({}));
        assert!(matches!(refused, Err(Error::BadRequest { .. })));
    }
}
