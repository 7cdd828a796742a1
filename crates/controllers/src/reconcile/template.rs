//! Pods from templates.

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
