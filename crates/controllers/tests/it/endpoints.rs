use crate::cluster::{Cluster, deployment, service};
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn by_hand() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "legacy"},
        "subsets": [{
            "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}],
            "notReadyAddresses": [{"ip": "192.0.2.3"}],
            "ports": [{"port": 5432}],
        }],
    })
}

fn endpoints(slice: &Value) -> Vec<(String, bool)> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let of = |endpoint: &Value| {
        let address = endpoint["addresses"][0].as_str().unwrap().to_owned();
        (address, endpoint["conditions"]["ready"] == true)
    };
    endpoints.map(of).collect()
}

#[tokio::test]
async fn endpoints_written_by_hand_become_slices_and_go_with_them() {
    mirror(&mut Cluster::start().await).await;
}

pub(crate) async fn mirror(cluster: &mut Cluster) {
    let mut view = cluster.view();
    cluster
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "legacy"},
            "spec": {"ports": [{"port": 5432}]},
        }))
        .await;
    cluster.create(by_hand()).await;
    view.until("mirrored", |view| view.slices("legacy").len() == 1).await;
    let expected = [("192.0.2.1", true), ("192.0.2.2", true), ("192.0.2.3", false)];
    assert_eq!(endpoints(view.slices("legacy")[0]), expected.map(|(a, r)| (a.to_owned(), r)));

    let fewer =
        json!({"subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 5432}]}]});
    cluster.patch(Kind::ENDPOINTS, "legacy", fewer).await;
    let one = [("192.0.2.9".to_owned(), true)];
    view.until("followed", |view| {
        view.slices("legacy").iter().any(|slice| endpoints(slice) == one)
    })
    .await;
    cluster.delete(Kind::ENDPOINTS, "legacy").await;
    view.until("gone", |view| view.slices("legacy").is_empty()).await;
}

/// Names and addresses of the Endpoints of a Service, the ready ones.
fn addresses(view: &View, service: &str) -> BTreeSet<String> {
    let found = view.all(Kind::ENDPOINTS).filter(|it| it["metadata"]["name"] == service);
    let subsets = found.filter_map(|it| it["subsets"].as_array()).flatten();
    let ready = subsets.filter_map(|it| it["addresses"].as_array()).flatten();
    ready.map(|it| it["targetRef"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn endpoints_follow_a_selector_and_are_no_reason_for_slices() {
    selected(&mut Cluster::start().await).await;
}

pub(crate) async fn selected(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view_with(&[Kind::ENDPOINTS]);
    cluster.create(service()).await;
    cluster.create(deployment(3)).await;
    let same = |view: &View| addresses(view, "web") == view.ready_endpoints("web");
    let count =
        |count: usize| move |view: &View| same(view) && addresses(view, "web").len() == count;
    view.until("three addresses", count(3)).await;
    cluster.patch(Kind::DEPLOYMENT, "web", json!({"spec": {"replicas": 2}})).await;
    view.until("two addresses", count(2)).await;
    let managers = view.slices("web").into_iter().map(|slice| {
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"].as_str().unwrap()
    });
    assert_eq!(managers.collect::<Vec<_>>(), ["endpointslice-controller.k8s.io"]);

    cluster.delete(Kind::ENDPOINTS, "web").await;
    view.until("deleted", |view| addresses(view, "web").is_empty()).await;
    view.until("made again", count(2)).await;
    cluster.delete(Kind::SERVICE, "web").await;
    let gone =
        |view: &View| view.all(Kind::ENDPOINTS).all(|it| it["metadata"]["name"] == "kubernetes");
    view.until("gone with the Service", gone).await;
    // Of a Service that may yet come, but not for ever.
    cluster.create(by_hand()).await;
    cluster.restart_controllers();
    view.until("left over", |view| !gone(view)).await;
    view.until("cleared away", gone).await;
}

#[tokio::test]
async fn weights_and_hints_reach_the_slices() {
    let mut cluster = Cluster::start().await;
    cluster.add_node("a", json!({"topology.kubernetes.io/zone": "z"})).await;
    let mut view = cluster.view();
    let mut service = service();
    service["spec"]["trafficDistribution"] = "PreferSameZone".into();
    cluster.create(service).await;
    let mut heavy = deployment(2);
    heavy["spec"]["template"]["metadata"]["annotations"] = json!({"podway.io/weight": "3"});
    cluster.create(heavy).await;
    view.until("two ready", |view| view.ready_endpoints("web").len() == 2).await;
    let slice = view.slices("web")[0];
    for endpoint in slice["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["hints"], json!({"forZones": [{"name": "z"}]}));
        let said = format!("{}=3", endpoint["addresses"][0].as_str().unwrap());
        let weights = slice["metadata"]["annotations"]["podway.io/weights"].as_str().unwrap();
        assert!(weights.split(',').any(|entry| entry == said), "{weights}");
    }
}
