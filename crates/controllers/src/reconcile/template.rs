//! Pods from templates.

use model::ObjectKey;
use serde_json::{Value, json};

/// A pod of this name with the labels, annotations and spec of the template, in the namespace of its owner.
pub(super) fn pod(template: &Value, namespace: &str, name: &str, owner: Value) -> Value {
    let mut metadata = json!({"name": name, "namespace": namespace, "ownerReferences": [owner]});
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field).filter(|value| value.is_object()) {
            metadata[field] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// The number at the end of `OWNER-NUMBER`.
pub(super) fn ordinal(owner: &ObjectKey, pod: &ObjectKey) -> Option<u32> {
    let number = pod.name.strip_prefix(&*owner.name)?.strip_prefix('-')?;
    let plain = number == "0" || !number.starts_with(['0', '+']);
    number.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals() {
        let rows = [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web-", None),
            ("web-+1", None),
            ("web-x", None),
            ("other-1", None),
        ];
        let key = |name: &str| ObjectKey::new("default", name);
        for (name, expected) in rows {
            assert_eq!(ordinal(&key("web"), &key(name)), expected, "{name}");
        }
    }
}
