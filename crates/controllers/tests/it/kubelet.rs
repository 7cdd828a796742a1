//! A kubelet without containers: what it is given is up, what shall go is gone.

use client::{Client, Event, Kind, Watch, watch_kinds};
use serde_json::{Value, json};
use std::time::Duration;

const RENEWAL: Duration = Duration::from_millis(200);
const LEASES: Option<&str> = Some("kube-node-lease");

/// Runs until it is aborted, as by a power cut.
pub(crate) async fn kubelet(client: Client, node: String) {
    post_ready(&client, &node).await;
    let fields = Some(format!("spec.nodeName={node}"));
    let mut pods = watch_kinds(&client, &[Watch { fields, ..Watch::from(Kind::POD) }]);
    let mut renewal = tokio::time::interval(RENEWAL);
    let mut renewals = 0;
    loop {
        tokio::select! {
            _ = renewal.tick() => {
                renewals += 1;
                renew(&client, &node, renewals).await;
            }
            event = pods.next() => match event {
                Event::Applied { object, .. } => look_after(&client, &node, &object).await,
                Event::Restarted { objects, .. } => {
                    for object in &objects {
                        look_after(&client, &node, object).await;
                    }
                }
                _ => {}
            },
        }
    }
}

async fn post_ready(client: &Client, node: &str) {
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    let ready = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "capacity": room,
        "allocatable": room,
    }});
    client::patch_status(client, Kind::NODE, None, node, &ready).await.unwrap();
}

async fn renew(client: &Client, node: &str, renewals: u32) {
    let spec = json!({
        "holderIdentity": node,
        "renewTime": format!("2026-01-01T00:00:00.{renewals:06}Z"),
    });
    let patch = json!({"spec": spec});
    match client::patch_merge(client, Kind::LEASE, LEASES, node, &patch).await {
        Err(client::Error::NotFound { .. }) => {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"}, "spec": spec,
            });
            client::create(client, &lease).await.unwrap();
        }
        answer => drop(answer.unwrap()),
    }
}

/// The pod may be gone meanwhile, and another have its name.
async fn look_after(client: &Client, node: &str, pod: &Value) {
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap();
    let namespace = pod["metadata"]["namespace"].as_str();
    if pod["metadata"].get("deletionTimestamp").is_some() {
        match client::delete_this(client, Kind::POD, namespace, name, uid).await {
            Err(client::Error::Conflict { .. }) => {}
            answer => drop(answer.unwrap()),
        }
    } else if pod.pointer("/status/podIP").is_none() || is_doubted(pod) {
        // A pod that says so has done its work at once.
        let ends = pod["metadata"]["annotations"]["test/ends"].as_str();
        let address = address(node, uid);
        let status = json!({"metadata": {"uid": uid}, "status": {
            "phase": ends.unwrap_or("Running"),
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": if ends.is_some() { "False" } else { "True" }}],
        }});
        match client::patch_status(client, Kind::POD, namespace, name, &status).await {
            Err(client::Error::NotFound { .. } | client::Error::Conflict { .. }) => {}
            answer => drop(answer.unwrap()),
        }
    }
}

/// Somebody else says that it is not ready, since its node was silent.
fn is_doubted(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == "Ready" && it["reason"] == "NodeNotReady")
}

/// An address that no other pod has, near enough.
fn address(node: &str, uid: &str) -> String {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(uid);
    let [_, _, _, _, _, _, high, low] = hash.to_be_bytes();
    format!("10.{}.{high}.{low}", node.as_bytes()[0])
}
