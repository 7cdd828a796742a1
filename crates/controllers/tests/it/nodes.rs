use crate::cluster::{Cluster, deployment, service};
use crate::view::View;
use client::Kind;
use serde_json::Value;
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
    let six = serde_json::json!({"spec": {"replicas": 6}});
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
    cluster.add_node("d", serde_json::json!({})).await;
    let is_in_use = |view: &View| condition(view.one(Kind::NODE, "b"), "Ready") == Some("True");
    let takes_pods = |view: &View| {
        let node = view.all(Kind::NODE).find(|node| node["metadata"]["name"] == "d");
        node.is_some_and(|node| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty))
    };
    view.through("the work goes on", takes_pods, is_in_use).await;
    assert_eq!(view.ready_endpoints("web"), pods);
}
