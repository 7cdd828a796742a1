//! What people hear of workloads, and what these say of themselves when the API refuses their pods.

use crate::cluster::{Cluster, deployment};
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Kind and name of what it is about, type, reason and message, without the random ends of names.
fn lines(view: &View) -> BTreeSet<String> {
    let line = |event: &Value| {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap();
        let about = format!("{} {}", text("/involvedObject/kind"), text("/involvedObject/name"));
        format!("{about}: {} {} {}", text("/type"), text("/reason"), text("/message"))
    };
    view.all(Kind::EVENT).map(line).collect()
}

#[tokio::test]
async fn a_rollout_is_told() {
    rollout(&mut Cluster::start().await).await;
}

pub(crate) async fn rollout(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(deployment(2)).await;
    let available = |view: &View, count: u32| {
        let status = &view.one(Kind::DEPLOYMENT, "web")["status"];
        status["availableReplicas"] == count && status["updatedReplicas"] == count
    };
    view.until("up", |view| available(view, 2)).await;
    let old = set(&view);
    cluster.patch(Kind::DEPLOYMENT, "web", json!({"spec": {"replicas": 1}})).await;
    view.until("one pod", |view| available(view, 1) && view.all(Kind::POD).count() == 1).await;
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "echo", "image": "two"}]}}}});
    cluster.patch(Kind::DEPLOYMENT, "web", image).await;
    view.until("rolled", |view| available(view, 1) && view.images() == ["two"].into()).await;
    let new = view.all(Kind::REPLICA_SET).filter_map(|it| it["metadata"]["name"].as_str());
    let new = new.into_iter().find(|name| **name != old).unwrap();
    let pod = view.all(Kind::POD).next().unwrap()["metadata"]["name"].as_str().unwrap();
    let node = view.one(Kind::POD, pod)["spec"]["nodeName"].as_str().unwrap();
    let scaled = "Deployment web: Normal ScalingReplicaSet Scaled";
    let expected = [
        format!("{scaled} up replica set {old} from 0 to 2"),
        format!("{scaled} down replica set {old} from 2 to 1"),
        format!("{scaled} up replica set {new} from 0 to 1"),
        format!("{scaled} down replica set {old} from 1 to 0"),
        format!("ReplicaSet {new}: Normal SuccessfulCreate Created pod: {pod}"),
        format!("Pod {pod}: Normal Scheduled Successfully assigned default/{pod} to {node}"),
        "Node a: Normal RegisteredNode Node a event: Registered Node a in Controller".to_owned(),
    ];
    let mut events = View::of(&cluster.client, &[Kind::EVENT]);
    events
        .until("all told", |events| {
            let told = lines(events);
            expected.iter().all(|line| told.contains(line))
        })
        .await;
    let deleted = format!("ReplicaSet {old}: Normal SuccessfulDelete Deleted pod: {old}-");
    let told = lines(&events);
    assert_eq!(told.iter().filter(|line| line.starts_with(&deleted)).count(), 2, "{told:#?}");
}

fn set(view: &View) -> String {
    let set = view.all(Kind::REPLICA_SET).next().unwrap();
    set["metadata"]["name"].as_str().unwrap().to_owned()
}

fn failure(view: &View, kind: Kind) -> Option<&Value> {
    let conditions = view.all(kind).next()?["status"]["conditions"].as_array()?;
    conditions.iter().find(|it| it["type"] == "ReplicaFailure")
}

/// Only a real server refuses pods without their account, and only a real one is asked.
pub(crate) async fn refusals(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    let mut events = View::of(&cluster.client, &[Kind::EVENT]);
    let mut wanted = deployment(2);
    wanted["spec"]["template"]["spec"]["serviceAccountName"] = "late".into();
    cluster.create(wanted).await;
    view.until("refused", |view| {
        [Kind::REPLICA_SET, Kind::DEPLOYMENT].into_iter().all(|kind| {
            failure(view, kind).is_some_and(|it| {
                let message = it["message"].as_str().unwrap();
                it["reason"] == "FailedCreate"
                    && message.contains("serviceaccount \"late\" not found")
            })
        })
    })
    .await;
    let told = format!("ReplicaSet {}: Warning FailedCreate Error creating: pods ", set(&view));
    events.until("told", |events| lines(events).iter().any(|it| it.starts_with(&told))).await;
    let metadata = json!({"name": "late"});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
        .await;
    view.until("all there", |view| {
        let status = &view.one(Kind::DEPLOYMENT, "web")["status"];
        status["availableReplicas"] == 2
            && failure(view, Kind::REPLICA_SET).is_none()
            && failure(view, Kind::DEPLOYMENT).is_none()
    })
    .await;
}
