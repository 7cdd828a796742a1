//! The lab's API is enough for Kubernetes' own scheduler and controllers.

use crate::beside::{Folder, MANAGER, SCHEDULER, given, start};
use crate::cluster::{Cluster, deployment, service};
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};

fn is_complete(view: &View, replicas: u32, image: &str) -> bool {
    let Some(found) = view.all(Kind::DEPLOYMENT).next() else { return false };
    let status = &found["status"];
    let counts = ["replicas", "updatedReplicas", "availableReplicas"];
    counts.iter().all(|count| status[count] == replicas)
        && status["observedGeneration"] == found["metadata"]["generation"]
        && view.images().into_iter().eq([image])
        && usize::try_from(replicas) == Ok(view.ready_endpoints("web").len())
}

/// Addresses of all subsets.
fn addresses(view: &View) -> usize {
    let endpoints = view.all(Kind::ENDPOINTS).filter(|it| it["metadata"]["name"] == "web");
    let subsets = endpoints.filter_map(|it| it["subsets"].as_array()).flatten();
    subsets.filter_map(|it| it["addresses"].as_array()).map(Vec::len).sum()
}

#[tokio::test]
async fn a_deployment_is_rolled_out_by_kube_controller_manager_and_kube_scheduler() {
    for variable in [MANAGER, SCHEDULER] {
        if given(variable).is_none() {
            eprintln!("left out: {variable} names no program");
            return;
        }
    }
    let mut cluster = Cluster::without_controllers().await;
    let folder = Folder::of(&cluster);
    let _manager = start(MANAGER, &folder.0, &["--controllers=*".to_owned()]);
    let _scheduler = start(SCHEDULER, &folder.0, &[]);
    cluster.add_nodes().await;
    let mut view = cluster.view_with(&[Kind::ENDPOINTS]);
    cluster.create(service()).await;
    cluster.create(deployment(3)).await;
    view.until("up", |view| is_complete(view, 3, "one")).await;
    assert_eq!(view.spread().len(), 3, "spread over all nodes: {:?}", view.spread());

    let mut two = deployment(3)["spec"].take();
    two["template"]["spec"]["containers"][0]["image"] = "two".into();
    let two = json!({"spec": two});
    cluster.patch(Kind::DEPLOYMENT, "web", two).await;
    view.until("rolled out", |view| is_complete(view, 3, "two") && addresses(view) == 3).await;

    // What it owns goes after it.
    cluster.delete(Kind::DEPLOYMENT, "web").await;
    let none = |view: &View| {
        view.all(Kind::REPLICA_SET).next().is_none() && view.all(Kind::POD).next().is_none()
    };
    view.until("gone", none).await;
    let told = client::list(&cluster.client, &Kind::EVENT.into()).await.unwrap();
    let said = |component: &str, reason: &str| {
        told.iter().any(|event: &Value| {
            let by = [&event["source"]["component"], &event["reportingComponent"]];
            event["reason"] == reason && by.iter().any(|it| **it == component)
        })
    };
    assert!(said("deployment-controller", "ScalingReplicaSet"), "{told:#?}");
    assert!(said("default-scheduler", "Scheduled"), "{told:#?}");
}
