//! The schema of `podway.io/v1alpha1` VirtualIP.

use serde_json::{Value, json};

pub(super) fn schema() -> Value {
    json!({
        "description": "VirtualIP is an address for the outside that one node holds at a time, and the TCP ports that are balanced behind it.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this schema: podway.io/v1alpha1."},
            "kind": {"type": "string", "description": "VirtualIP"},
            "metadata": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
            "spec": spec(),
            "status": {
                "type": "object",
                "description": "What the nodes report.",
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": {
                    "node": {"type": "string", "description": "The node that holds the addresses, as it reported last."},
                },
            },
        },
        "required": ["spec"],
    })
}

fn spec() -> Value {
    json!({
        "type": "object",
        "description": "What is wanted.",
        "properties": {
            "addresses": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The addresses, at least one.",
            },
            "nodeSelector": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
                "x-kubernetes-map-type": "atomic",
                "description": "Labels, or matchLabels and matchExpressions, of the nodes that take part; all nodes where it is empty.",
            },
            "vrrp": {
                "type": "object",
                "description": "How the nodes elect the holder (RFC 9568).",
                "properties": {
                    "virtualRouterId": {"type": "integer", "format": "int32", "description": "1 to 255, different for each VirtualIP of a segment."},
                    "advertisementInterval": {"type": "string", "description": "10ms to 40.95s in steps of 10ms."},
                    "preempt": {"type": "boolean", "description": "Whether a node of higher priority takes the address back when it returns."},
                },
            },
            "listeners": {
                "type": "array",
                "items": listener(),
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "description": "The ports that are balanced.",
            },
        },
        "required": ["addresses"],
    })
}

fn listener() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "A name for people."},
            "protocol": {"type": "string", "default": "TCP", "description": "TCP, the only one that is balanced."},
            "port": {"type": "integer", "format": "int32", "description": "The port of the address."},
            "algorithm": {"type": "string", "description": "RoundRobin or LeastConnections."},
            "backends": {
                "type": "object",
                "description": "Where connections go.",
                "properties": {
                    "nodes": {
                        "type": "object",
                        "description": "To the nodes themselves.",
                        "properties": {
                            "port": {"type": "integer", "format": "int32", "description": "The port of every node's InternalIP that connections go to."},
                        },
                    },
                },
            },
            "healthCheck": {
                "type": "object",
                "description": "How back ends are checked: by TCP connections.",
                "properties": {
                    "interval": {"type": "string", "description": "Time between checks."},
                    "timeout": {"type": "string", "description": "How long a check may take."},
                    "fall": {"type": "integer", "format": "int32", "description": "Failed checks in a row until a back end counts as down."},
                    "rise": {"type": "integer", "format": "int32", "description": "Good checks in a row until it counts as up again."},
                },
            },
        },
        "required": ["port"],
    })
}
