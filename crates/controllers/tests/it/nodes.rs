use crate::cluster::{Cluster, deployment, service};
use client::Kind;
use serde_json::Value;
use std::collections::BTreeSet;

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|found| found["type"] == kind)?["status"].as_str()
}

#[tokio::test]
async fn every_node_gets_a_subnet_of_its_own() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    let subnets = |view: &crate::view::View| {
        let subnets = view.all(Kind::NODE).filter_map(|node| node["spec"]["podCIDR"].as_str());
        subnets.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    view.until("three subnets", |view| subnets(view).len() == 3).await;
    let expected = ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"].map(str::to_owned);
    assert_eq!(subnets(&view), expected.into());
}

#[tokio::test]
async fn after_a_power_cut_the_pods_come_up_elsewhere() {
    power_cut(&mut Cluster::start().await).await;
}

pub(crate) async fn power_cut(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    cluster.create(deployment(3)).await;
    view.until("three ready", |view| view.ready_endpoints("web").len() == 3).await;
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
