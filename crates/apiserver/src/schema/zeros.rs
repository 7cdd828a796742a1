//! Fields that Go's types always write, though nobody set them: they have neither a pointer nor `omitempty`.

use super::{Root, Type};
use serde_json::Value;

/// Type, field, the value that nobody set.
const ZEROS: [(&str, &str, &str); 42] = [
    ("Condition", "message", "\"\""),
    ("Condition", "reason", "\"\""),
    ("ContainerStateRunning", "startedAt", "null"),
    ("ContainerStateTerminated", "finishedAt", "null"),
    ("ContainerStateTerminated", "startedAt", "null"),
    ("ContainerStatus", "lastState", "{}"),
    ("ContainerStatus", "state", "{}"),
    ("CustomResourceDefinition", "status", "{}"),
    ("CustomResourceDefinitionStatus", "acceptedNames", r#"{"kind":"","plural":""}"#),
    ("CustomResourceDefinitionStatus", "conditions", "null"),
    ("CustomResourceDefinitionStatus", "storedVersions", "null"),
    ("DeviceClaim", "requests", "null"),
    ("DeviceClass", "spec", "{}"),
    ("EndpointSlice", "endpoints", "null"),
    ("EndpointSlice", "ports", "null"),
    ("HorizontalPodAutoscaler", "status", "{}"),
    ("HorizontalPodAutoscalerStatus", "currentMetrics", "null"),
    ("HorizontalPodAutoscalerStatus", "desiredReplicas", "0"),
    ("NetworkPolicySpec", "podSelector", "{}"),
    ("Node", "status", "{}"),
    ("NodeCondition", "lastHeartbeatTime", "null"),
    ("NodeCondition", "lastTransitionTime", "null"),
    ("NodeStatus", "daemonEndpoints", r#"{"kubeletEndpoint":{"Port":0}}"#),
    (
        "NodeStatus",
        "nodeInfo",
        r#"{"architecture":"","bootID":"","containerRuntimeVersion":"","kernelVersion":"","kubeProxyVersion":"",
            "kubeletVersion":"","machineID":"","operatingSystem":"","osImage":"","systemUUID":""}"#,
    ),
    ("PodCondition", "lastProbeTime", "null"),
    ("PodCondition", "lastTransitionTime", "null"),
    ("PodDisruptionBudget", "status", "{}"),
    ("PodDisruptionBudgetStatus", "currentHealthy", "0"),
    ("PodDisruptionBudgetStatus", "desiredHealthy", "0"),
    ("PodDisruptionBudgetStatus", "disruptionsAllowed", "0"),
    ("PodDisruptionBudgetStatus", "expectedPods", "0"),
    ("ReplicationControllerCondition", "lastTransitionTime", "null"),
    ("ResourceClaim", "status", "{}"),
    ("ResourceClaimSpec", "devices", "{}"),
    ("ResourceClaimTemplateSpec", "metadata", "{}"),
    ("ResourcePool", "generation", "0"),
    ("ResourcePool", "name", "\"\""),
    ("ResourcePool", "resourceSliceCount", "0"),
    ("ServiceCIDR", "status", "{}"),
    ("ValidatingAdmissionPolicy", "status", "{}"),
    ("VolumeAttachment", "status", r#"{"attached":false}"#),
    ("VolumeAttachmentStatus", "attached", "false"),
];

/// The fields of a type that are always there.
pub(super) fn of(name: &str) -> Vec<(&'static str, Value)> {
    let of_type = ZEROS.iter().filter(|(of, _, _)| *of == name);
    let parse = |zero: &str| serde_json::from_str(zero).unwrap_or_default();
    of_type.map(|(_, field, zero)| (*field, parse(zero))).collect()
}

/// Adds what an object's types always write.
pub(crate) fn fill(root: Root<'_>, value: &mut Value) {
    match (root.node(), value) {
        (Type::Struct(node), Value::Object(fields)) => {
            for (field, zero) in &node.zeros {
                fields.entry(*field).or_insert_with(|| zero.clone());
            }
            for (name, value) in fields.iter_mut().filter(|(_, value)| !value.is_null()) {
                root.field(name).into_iter().for_each(|root| fill(root, value));
            }
        }
        (Type::Map { values, .. }, Value::Object(fields)) => {
            fields.values_mut().for_each(|value| fill(root.at(*values), value));
        }
        (Type::List { items, .. }, Value::Array(list)) => {
            list.iter_mut().for_each(|value| fill(root.at(*items), value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use serde_json::json;

    #[test]
    fn what_nobody_set_is_there() {
        for (kind, mut object, expected) in [
            (Kind::ServiceCIDR, json!({"spec": {}}), json!({"spec": {}, "status": {}})),
            (
                Kind::HorizontalPodAutoscaler,
                json!({}),
                json!({"status": {"currentMetrics": null, "desiredReplicas": 0}}),
            ),
            (
                Kind::Pod,
                json!({"status": {"conditions": [{"type": "a", "lastProbeTime": "x"}]}}),
                json!({"status": {"conditions": [{"type": "a", "lastProbeTime": "x", "lastTransitionTime": null}]}}),
            ),
        ] {
            fill(kind.resource().root().expect("a root"), &mut object);
            assert_eq!(object, expected);
        }
    }

    #[test]
    fn every_zero_is_a_field_of_a_type() {
        let roots = crate::resources::RESOURCES.iter().filter_map(crate::resources::Resource::root);
        let types: Vec<_> = roots.flat_map(|root| &root.types.nodes).collect();
        for (name, field, _) in ZEROS {
            let known = types.iter().any(|node| {
                matches!(node, Type::Struct(node) if &*node.name == name && node.fields.contains_key(field))
            });
            assert!(known, "{name}.{field}");
        }
    }
}
