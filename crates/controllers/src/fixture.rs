//! Objects for tests.

use crate::cluster::Cluster;
use client::Kind;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) fn apply(cluster: &mut Cluster, objects: impl IntoIterator<Item = Value>) {
    apply_at(cluster, objects, Duration::ZERO);
}

pub(crate) fn apply_at(
    cluster: &mut Cluster,
    objects: impl IntoIterator<Item = Value>,
    now: Duration,
) {
    for object in objects {
        let text = |name: &str| object[name].as_str().unwrap().to_owned();
        let kind = Kind::of(&text("apiVersion"), &text("kind")).unwrap();
        cluster.apply(kind, &object, now);
    }
}

/// Puts `other` into `value`, objects member by member.
pub(crate) fn merge(value: &mut Value, other: Value) {
    match (value, other) {
        (Value::Object(members), Value::Object(others)) => {
            for (name, other) in others {
                merge(members.entry(name).or_insert(Value::Null), other);
            }
        }
        (value, other) => *value = other,
    }
}

pub(crate) fn node(name: &str, with: Value) -> Value {
    let mut node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}});
    merge(&mut node, with);
    node
}

/// A node's Lease, renewed at second `renewed` of some hour.
pub(crate) fn lease(node: &str, renewed: u32) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {"renewTime": format!("2026-01-01T00:00:{renewed:02}.000000Z")},
    })
}

pub(crate) fn pod(name: &str, node: Option<&str>, address: Option<&str>, ready: bool) -> Value {
    // What an API server lets each pod say that says nothing.
    let tolerations = ["not-ready", "unreachable"].map(|key| {
        json!({
            "key": format!("node.kubernetes.io/{key}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 300,
        })
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "labels": {"app": "web"},
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 9376}]}],
            "tolerations": tolerations,
        },
        "status": {
            "phase": if address.is_some() { "Running" } else { "Pending" },
            "podIP": address,
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    })
}

pub(crate) fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {
            "clusterIP": "10.96.0.10", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    });
    merge(&mut service["spec"], spec);
    service
}
