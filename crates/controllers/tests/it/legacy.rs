//! Endpoints by kube-controller-manager and by these controllers: the same, to the order of their addresses.

use crate::beside::{MANAGER, Program, given, start};
use crate::cluster::{Cluster, settings};
use crate::view::View;
use client::Kind;
use controllers::{Controller, Settings};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn with(controllers: impl Into<BTreeSet<Controller>>) -> Settings {
    Settings { controllers: controllers.into(), ..settings(Duration::from_secs(60)) }
}

fn manage(cluster: &Cluster) -> Program {
    let only = format!("--controllers={}", Controller::Endpoints.name());
    start(MANAGER, cluster.folder(), &[only])
}

/// A pod on node `a` whose status is this; `second` is when it got so.
async fn pod(cluster: &Cluster, number: u32, with: Value, second: u32) {
    let name = format!("p{number}");
    let http = 8000 + number % 2;
    let mut spec = json!({"nodeName": "a", "containers": [{"name": "c", "image": "i",
        "ports": [{"name": "http", "containerPort": http}]}]});
    for field in ["hostname", "subdomain"] {
        spec[field] = with[field].clone();
    }
    let metadata = json!({"name": name, "labels": {"app": "web"}});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        .await;
    turn(cluster, &name, &format!("10.0.0.{number}"), with["ready"] == true, second).await;
}

async fn turn(cluster: &Cluster, name: &str, address: &str, ready: bool, second: u32) {
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" },
        "lastTransitionTime": format!("2026-01-01T00:00:{second}Z")});
    let status = json!({"status": {"phase": "Running", "podIP": address,
        "podIPs": [{"ip": address}], "conditions": [condition]}});
    let patched =
        client::patch_status(&cluster.client, Kind::POD, Some("default"), name, &status).await;
    patched.unwrap();
}

async fn service(cluster: &Cluster, name: &str, spec: Value) {
    let mut all = json!({"selector": {"app": "web"}, "ports": [
        {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"},
        {"name": "https", "port": 443}, {"name": "dns", "port": 53, "protocol": "UDP"}]});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    let metadata = json!({"name": name, "labels": {"team": name}});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": all}))
        .await;
}

const SERVICES: [&str; 4] = ["all", "bare", "none", "web"];

/// What a look at each of them shows, by name; `kubernetes` is the server's own.
fn seen(view: &View) -> BTreeMap<String, Value> {
    let shown = |object: &Value| {
        let metadata = &object["metadata"];
        let parts = json!([metadata["labels"], metadata["annotations"], object["subsets"]]);
        (metadata["name"].as_str().unwrap().to_owned(), parts)
    };
    let ours = view.all(Kind::ENDPOINTS).filter(|it| it["metadata"]["name"] != "kubernetes");
    ours.map(shown).collect()
}

fn is_ready(subsets: &Value, address: &str) -> bool {
    let ready =
        subsets.as_array().into_iter().flatten().filter_map(|it| it["addresses"].as_array());
    ready.flatten().any(|it| it["ip"] == address)
}

fn versions(view: &View) -> Vec<String> {
    let ours = view.all(Kind::ENDPOINTS).filter(|it| it["metadata"]["name"] != "marker");
    ours.map(|it| it["metadata"]["resourceVersion"].to_string()).collect()
}

#[tokio::test]
async fn kube_controller_manager_would_write_the_same_endpoints() {
    if given(MANAGER).is_none() || !crate::real_server::is_given() {
        eprintln!("left out: {MANAGER} names no program, or there is no real server");
        return;
    }
    let mut cluster = Cluster::real_with(with([])).await;
    cluster.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}})).await;
    for number in 1..=12 {
        let named = json!({"ready": number % 3 != 0, "hostname": "h", "subdomain": "web"});
        let plain = json!({"ready": number % 3 != 0});
        pod(&cluster, number, if number == 4 { named } else { plain }, 10 + number).await;
    }
    service(&cluster, "web", json!({})).await;
    service(&cluster, "bare", json!({"clusterIP": "None", "ports": null})).await;
    service(&cluster, "all", json!({"publishNotReadyAddresses": true})).await;
    service(&cluster, "none", json!({"selector": {"app": "no"}})).await;
    let mut view = View::of(&cluster.client, &[Kind::ENDPOINTS]);
    let all = |view: &View| seen(view).keys().eq(SERVICES);

    let manager = manage(&cluster);
    view.until("theirs", all).await;
    let theirs = seen(&view);
    drop(manager);
    for name in SERVICES {
        cluster.delete(Kind::ENDPOINTS, name).await;
    }
    view.until("none", |view| seen(view).is_empty()).await;
    cluster.run_controllers(with([Controller::Endpoints]));
    view.until("ours", all).await;
    assert_eq!(seen(&view), theirs);

    // What ours make of changes is no reason for theirs to write.
    turn(&cluster, "p3", "10.0.0.3", true, 40).await;
    let gone = client::delete(&cluster.client, Kind::POD, Some("default"), "p7", Some(0)).await;
    assert!(gone.unwrap());
    let relabelled = json!({"metadata": {"labels": {"team": null, "more": "b"}}});
    cluster.patch(Kind::SERVICE, "bare", relabelled).await;
    let changed = |view: &View| {
        let seen = seen(view);
        ["web", "all", "bare"].iter().all(|name| !is_ready(&seen[*name][2], "10.0.0.7"))
            && ["web", "bare"].iter().all(|name| is_ready(&seen[*name][2], "10.0.0.3"))
            && seen["bare"][0]["more"] == "b"
    };
    view.until("changed", changed).await;
    cluster.stop_controllers();
    let before = versions(&view);
    let manager = manage(&cluster);
    service(&cluster, "marker", json!({})).await;
    view.until("looked at", |view| seen(view).contains_key("marker")).await;
    assert_eq!(versions(&view), before);
    drop(manager);
}
