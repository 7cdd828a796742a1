//! Taints of nodes, and what they drive away, by kube-controller-manager and by these controllers: the same.

use crate::beside::{MANAGER, Program, given, start};
use crate::cluster::{Cluster, settings};
use crate::view::View;
use client::Kind;
use controllers::{Controller, Settings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const COMPARED: [Controller; 2] = [Controller::NodeLifecycle, Controller::TaintEviction];

fn with(controllers: impl Into<BTreeSet<Controller>>) -> Settings {
    Settings { controllers: controllers.into(), ..settings(Duration::from_secs(60)) }
}

fn manage(cluster: &Cluster) -> Program {
    let names = COMPARED.map(Controller::name).join(",");
    let arguments = [format!("--controllers={names}"), "--node-eviction-rate=100".to_owned()];
    start(MANAGER, cluster.folder(), &arguments)
}

/// A node with these conditions, and what else its specification says.
async fn node(cluster: &Cluster, name: &str, conditions: &[(&str, &str)], spec: Value) {
    let metadata = json!({"name": name});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}))
        .await;
    let said = |(kind, status): &(&str, &str)| json!({"type": kind, "status": status});
    let conditions: Vec<_> = conditions.iter().map(said).collect();
    let status = json!({"status": {"conditions": conditions}});
    client::patch_status(&cluster.client, Kind::NODE, None, name, &status).await.unwrap();
}

async fn pod(cluster: &Cluster, name: &str, seconds: Option<Value>) {
    let bears = |seconds| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    let spec = json!({
        "nodeName": "cordoned", "tolerations": seconds.map(bears),
        "containers": [{"name": "c", "image": "i"}],
    });
    let metadata = json!({"name": name});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        .await;
}

/// Taints of nodes, and how pods go, a line each, without times.
fn seen(view: &View) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    for node in view.all(Kind::NODE) {
        for mut taint in node["spec"]["taints"].as_array().into_iter().flatten().cloned() {
            let added = taint.as_object_mut().unwrap().remove("timeAdded").is_some();
            lines.insert(format!("{}: {taint} {added}", name(node)));
        }
    }
    for pod in view.all(Kind::POD) {
        let goes = !pod["metadata"]["deletionTimestamp"].is_null();
        lines.insert(format!("{} goes: {goes}", name(pod)));
        for mut condition in pod["status"]["conditions"].as_array().into_iter().flatten().cloned() {
            condition.as_object_mut().unwrap().remove("lastTransitionTime");
            lines.insert(format!("{}: {condition}", name(pod)));
        }
    }
    lines
}

/// Nodes in many states, and pods on one that somebody has tainted.
async fn play(
    settings: Settings,
    by: impl FnOnce(&Cluster) -> Option<Program>,
) -> BTreeSet<String> {
    let cluster = Cluster::real_with(settings).await;
    let ready = ("Ready", "True");
    let taint = |key: &str, effect: &str| json!({"key": key, "value": "v", "effect": effect});
    node(
        &cluster,
        "pressed",
        &[("MemoryPressure", "True"), ("DiskPressure", "True"), ready],
        json!({}),
    )
    .await;
    node(&cluster, "crowded", &[("PIDPressure", "True"), ("Other", "True"), ready], json!({}))
        .await;
    node(&cluster, "ill", &[("Ready", "False"), ("NetworkUnavailable", "True")], json!({})).await;
    let foreign = [taint("k", "NoExecute"), taint("k", "NoSchedule")];
    node(&cluster, "cordoned", &[ready], json!({"unschedulable": true, "taints": foreign})).await;
    let was_silent = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]);
    node(&cluster, "back", &[ready], json!({"taints": was_silent})).await;
    node(&cluster, "half", &[("Ready", "False")], json!({"taints": was_silent})).await;
    pod(&cluster, "faint", None).await;
    pod(&cluster, "patient", Some(json!(1))).await;
    pod(&cluster, "faithful", Some(Value::Null)).await;
    let program = by(&cluster);
    let mut view = cluster.view();
    view.until("all is said", |view| {
        let seen = seen(view);
        let count = |node: &str| seen.iter().filter(|line| line.starts_with(node)).count();
        let counts = ["pressed:", "crowded:", "ill:", "cordoned:", "back:", "half:"].map(count);
        counts == [2, 1, 3, 3, 0, 2]
            && ["faint goes: true", "patient goes: true"].iter().all(|line| seen.contains(*line))
    })
    .await;
    drop(program);
    seen(&view)
}

#[tokio::test]
async fn kube_controller_manager_would_taint_and_evict_the_same() {
    if given(MANAGER).is_none() || !crate::real_server::is_given() {
        eprintln!("left out: {MANAGER} names no program, or there is no real server");
        return;
    }
    let theirs = play(with([]), |cluster| Some(manage(cluster))).await;
    let ours = play(with(COMPARED), |_| None).await;
    assert_eq!(ours, theirs);
}
