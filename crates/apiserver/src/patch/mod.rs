//! The three kinds of patches: RFC 7386, RFC 6902, and Kubernetes' strategic merge.
//!
//! Strategic merge: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

mod strategic;

use crate::error::Error;
use crate::managed::typed;
use crate::resources::Resource;
use crate::schema::Root;
use json_patch::PatchOperation;
use serde_json::Value;

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
    pub(crate) fn apply(&self, resource: &Resource, object: &Value) -> Result<Value, Error> {
        let mut changed = object.clone();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut changed, patch),
            Self::Json(patch) => operate(&mut changed, patch)?,
            Self::Strategic(patch) => {
                let root = resource.root().unwrap_or(Root::untyped());
                if let Some(misfit) = strategic::misfit(root, patch) {
                    let why = format!("cannot restore struct from: {}", typed::go_type(misfit));
                    return Err(Error::BadPatch { patched: typed::in_go(patch), why });
                }
                strategic::merge(root, &mut changed, patch);
            }
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
        json_patch::patch(object, std::slice::from_ref(operation))
            .map_err(|_why| Error::Inapplicable)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
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
                json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}, "spec": {"affinity": {"a": 1}, "tolerations": [1]}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"x": null}}, "spec": {"affinity": {"$patch": "replace", "b": 2}, "dnsConfig": {"$patch": "delete"}, "tolerations": [2]}}),
                json!({"metadata": {"finalizers": ["b"], "labels": {}}, "spec": {"affinity": {"b": 2}, "tolerations": [2]}}),
            ),
        ] {
            assert_eq!(Patch::Strategic(patch).apply(kind.resource(), &object).unwrap(), expected);
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
            let outcome =
                patch.apply(Kind::ConfigMap.resource(), &object).map_err(|error| error.code());
            assert_eq!(outcome.unwrap_err(), code, "{path}");
        }
    }

    #[test]
    fn json_patches_that_do_not_apply_are_refused() {
        let patch =
            serde_json::from_value(json!([{"op": "test", "path": "/a", "value": 1}])).unwrap();
        let refused = Patch::Json(Box::new(patch)).apply(Kind::Pod.resource(), &json!({}));
        assert!(matches!(refused, Err(Error::Inapplicable)));
    }
}
