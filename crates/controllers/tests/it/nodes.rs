use crate::cluster::{Cluster, deployment, service};
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|found| found["type"] == kind)?["status"].as_str()
}

#[tokio::test]
async fn every_node_gets_a_subnet_of_its_own() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    let subnets = |view: &View| {
        let subnets = view.all(Kind::NODE).filter_map(|node| node["spec"]["podCIDR"].as_str());
        subnets.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    view.until("three subnets", |view| subnets(view).len() == 3).await;
    let expected = ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"].map(str::to_owned);
    assert_eq!(subnets(&view), expected.into());
}

/// Three nodes with a pod of a Service each.
async fn serving(cluster: &mut Cluster) -> View {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    cluster.create(deployment(3)).await;
    view.until("three ready", |view| view.ready_endpoints("web").len() == 3).await;
    view
}

#[tokio::test]
async fn after_a_power_cut_the_pods_come_up_elsewhere() {
    power_cut(&mut Cluster::impatient().await).await;
}

pub(crate) async fn power_cut(cluster: &mut Cluster) {
    let mut view = serving(cluster).await;
    cluster.cut_power("b");
    view.until("its endpoint out", |view| view.ready_endpoints("web").len() == 2).await;
    assert_eq!(condition(view.one(Kind::NODE, "b"), "Ready"), Some("Unknown"));
    view.until("all elsewhere", |view| {
        view.ready_endpoints("web").len() == 3 && !view.spread().contains_key("b")
    })
    .await;
    assert_eq!(condition(view.one(Kind::NODE, "a"), "Ready"), Some("True"));

    cluster.power_on("b");
    view.until("b ready", |view| condition(view.one(Kind::NODE, "b"), "Ready") == Some("True"))
        .await;
    let six = json!({"spec": {"replicas": 6}});
    cluster.patch(Kind::DEPLOYMENT, "web", six).await;
    view.until("b in use", |view| view.ready_endpoints("web").len() == 6).await;
    assert!(view.spread()["b"] >= 2, "{:?}", view.spread());
}

/// No node is heard of, as when the network between them and the API fails: their pods may well serve.
#[tokio::test]
async fn where_all_nodes_fall_silent_no_pod_goes() {
    let mut cluster = Cluster::impatient().await;
    let mut view = serving(&mut cluster).await;
    let pods = view.ready_endpoints("web");
    let all_there = |view: &View| {
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let names = view.all(Kind::POD).filter(stays);
        names.filter_map(|pod| pod["metadata"]["name"].as_str()).eq(pods.iter())
    };
    for node in ["a", "b", "c"] {
        cluster.cut_power(node);
    }
    let silent =
        |view: &View| view.all(Kind::NODE).all(|it| condition(it, "Ready") == Some("Unknown"));
    view.through("all silent", silent, all_there).await;
    // Twice as long as one of several would keep its pods.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.power_on("a");
    let back = |view: &View| condition(view.one(Kind::NODE, "a"), "Ready") == Some("True");
    view.through("one is back", back, all_there).await;
    // The others are given time, too, and have not come.
    view.until("all on a", |view| {
        view.ready_endpoints("web").len() == 3 && view.spread() == [("a", 3)].into()
    })
    .await;
}

/// All stand still for longer than a node may be silent, as on a machine that was stopped: no node is dead because its
/// kubelet comes a moment later than the controllers.
#[tokio::test]
async fn who_stood_still_himself_takes_no_node_for_dead() {
    let mut cluster = Cluster::impatient().await;
    let mut view = serving(&mut cluster).await;
    let pods = view.ready_endpoints("web");
    cluster.cut_power("b");
    // Everything here runs on this thread.
    std::thread::sleep(Duration::from_secs(5));
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.power_on("b");
    cluster.add_node("d", json!({})).await;
    let is_in_use = |view: &View| condition(view.one(Kind::NODE, "b"), "Ready") == Some("True");
    let takes_pods = |view: &View| {
        let node = view.all(Kind::NODE).find(|node| node["metadata"]["name"] == "d");
        node.is_some_and(|node| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty))
    };
    view.through("the work goes on", takes_pods, is_in_use).await;
    assert_eq!(view.ready_endpoints("web"), pods);
}

/// Keys and effects of the node's taints.
fn taints(view: &View, node: &str) -> BTreeSet<(String, String)> {
    let listed = view.one(Kind::NODE, node)["spec"]["taints"].as_array().into_iter().flatten();
    let text = |taint: &Value, field: &str| taint[field].as_str().unwrap().to_owned();
    listed.map(|taint| (text(taint, "key"), text(taint, "effect"))).collect()
}

fn taint(name: &str, effect: &str) -> (String, String) {
    (format!("node.kubernetes.io/{name}"), effect.to_owned())
}

async fn say(cluster: &Cluster, node: &str, kind: &str, status: &str) {
    let condition = json!({"type": kind, "status": status});
    let found = client::get(&cluster.client, Kind::NODE, None, node).await.unwrap().unwrap();
    let mut conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|it| it["type"] != kind);
    conditions.push(condition);
    let patch = json!({"status": {"conditions": conditions}});
    client::patch_status(&cluster.client, Kind::NODE, None, node, &patch).await.unwrap();
}

#[tokio::test]
async fn a_node_that_says_that_it_is_not_ready_is_tainted_and_loses_its_pods() {
    not_ready(&mut Cluster::start().await).await;
}

pub(crate) async fn not_ready(cluster: &mut Cluster) {
    let mut view = serving(cluster).await;
    say(cluster, "b", "Ready", "False").await;
    let both = ["NoSchedule", "NoExecute"].map(|effect| taint("not-ready", effect));
    view.until("tainted", |view| taints(view, "b") == both.clone().into()).await;
    view.until("its pod elsewhere", |view| {
        view.ready_endpoints("web").len() == 3 && !view.spread().contains_key("b")
    })
    .await;
    say(cluster, "b", "Ready", "True").await;
    view.until("clean", |view| taints(view, "b").is_empty()).await;
    say(cluster, "b", "DiskPressure", "True").await;
    cluster.patch_node("b", json!({"spec": {"unschedulable": true}})).await;
    let kept_away = ["disk-pressure", "unschedulable"].map(|name| taint(name, "NoSchedule"));
    view.until("kept away", |view| taints(view, "b") == kept_away.clone().into()).await;
}

/// A pod that stays on `a`, and what it bears.
fn bearing(name: &str, tolerations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": "a", "tolerations": tolerations,
        "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn taints_of_others_drive_away_who_does_not_bear_them() {
    foreign_taint(&mut Cluster::start().await).await;
}

pub(crate) async fn foreign_taint(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view_with(&[Kind::EVENT]);
    let exists = |seconds: Value| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    let pods = [
        bearing("faint", &json!([])),
        bearing("patient", &exists(json!(2))),
        bearing("pardoned", &exists(json!(3600))),
        bearing("faithful", &exists(json!(null))),
    ];
    for pod in pods {
        cluster.create(pod).await;
    }
    let names = |view: &View| -> BTreeSet<String> {
        let names = view.all(Kind::POD).map(|pod| pod["metadata"]["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    };
    view.until("there", |view| {
        let up = view.all(Kind::POD).filter(|pod| pod["status"]["phase"] == "Running");
        up.count() == 4
    })
    .await;
    let driving = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}});
    cluster.patch_node("a", driving).await;
    let leaves = |name: &'static str| {
        move |view: &View| {
            let pod = view.all(Kind::POD).find(|pod| pod["metadata"]["name"] == name);
            pod.is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
        }
    };
    for (name, staying) in [("faint", 4), ("patient", 3)] {
        view.through(name, leaves(name), |view| names(view).len() >= staying).await;
        let pod = view.one(Kind::POD, name);
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let said = conditions.into_iter().find(|it| it["type"] == "DisruptionTarget");
        let said = said.unwrap_or_else(|| panic!("{pod:#}"));
        assert_eq!(
            (&said["status"], &said["reason"]),
            (&json!("True"), &json!("DeletionByTaintManager"))
        );
    }
    view.until("two stay", |view| names(view).len() == 2).await;
    cluster.patch_node("a", json!({"spec": {"taints": []}})).await;
    let told = |view: &View, message: &str| {
        let told = view.all(Kind::EVENT).filter(|it| it["reason"] == "TaintManagerEviction");
        told.into_iter().any(|it| it["message"] == message)
    };
    view.until("told", |view| {
        told(view, "Marking for deletion Pod default/faint")
            && told(view, "Marking for deletion Pod default/patient")
            && told(view, "Cancelling deletion of Pod default/pardoned")
    })
    .await;
    assert_eq!(names(&view), ["faithful", "pardoned"].map(str::to_owned).into());
}
