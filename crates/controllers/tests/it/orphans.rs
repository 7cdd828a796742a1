//! What loses its owner, and who takes it.

use crate::cluster::{Cluster, deployment, service};
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Names and uids.
fn identities(view: &View, kind: Kind) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let metadata = view.all(kind).map(|object| &object["metadata"]);
    metadata.map(|it| (text(&it["name"]), text(&it["uid"]))).collect()
}

fn owner(object: &Value) -> Option<&str> {
    object["metadata"]["ownerReferences"].as_array()?.first()?["uid"].as_str()
}

/// Uids of those who own something of this kind.
fn owners(view: &View, kind: Kind) -> BTreeSet<Option<&str>> {
    view.all(kind).map(owner).collect()
}

fn uid<'a>(view: &'a View, kind: Kind, name: &str) -> Option<&'a str> {
    let mut objects = view.all(kind);
    let object = objects.find(|object| object["metadata"]["name"] == name)?;
    object["metadata"]["uid"].as_str()
}

/// All of `kind` are owned by the one of this kind and name.
fn all_owned(view: &View, kind: Kind, owner: Kind, name: &str) -> bool {
    let uid = uid(view, owner, name);
    uid.is_some() && owners(view, kind) == [uid].into()
}

/// Says how many of its pods are available, up to date.
fn is_settled(view: &View, kind: Kind, name: &str, field: &str, count: u32) -> bool {
    view.all(kind).any(|object| {
        object["metadata"]["name"] == name
            && object["status"][field] == count
            && object["status"]["observedGeneration"] == object["metadata"]["generation"]
    })
}

#[tokio::test]
async fn a_deployment_that_comes_back_finds_its_pods_as_they_were() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    cluster.create(deployment(3)).await;
    view.until("three ready", |view| view.ready_endpoints("web").len() == 3).await;
    let (sets, pods) = (identities(&view, Kind::REPLICA_SET), identities(&view, Kind::POD));
    let set = sets.keys().next().unwrap().clone();
    let undisturbed = |view: &View| identities(view, Kind::POD) == pods;

    cluster.orphan(Kind::DEPLOYMENT, "web").await;
    let alone = |view: &View| owners(view, Kind::REPLICA_SET) == [None].into();
    view.through("a set without a Deployment", alone, undisturbed).await;
    cluster.create(deployment(3)).await;
    let settled = |view: &View| {
        all_owned(view, Kind::REPLICA_SET, Kind::DEPLOYMENT, "web")
            && is_settled(view, Kind::DEPLOYMENT, "web", "availableReplicas", 3)
    };
    view.through("the set adopted", settled, undisturbed).await;
    assert_eq!(identities(&view, Kind::REPLICA_SET), sets);

    // Without the set, too: the one that is made takes the pods.
    cluster.orphan(Kind::DEPLOYMENT, "web").await;
    cluster.orphan(Kind::REPLICA_SET, &set).await;
    let alone = |view: &View| owners(view, Kind::POD) == [None].into();
    view.through("pods without a set", alone, undisturbed).await;
    cluster.create(deployment(3)).await;
    let settled = |view: &View| {
        all_owned(view, Kind::POD, Kind::REPLICA_SET, &set)
            && is_settled(view, Kind::DEPLOYMENT, "web", "availableReplicas", 3)
    };
    view.through("the pods adopted", settled, undisturbed).await;
    assert_ne!(identities(&view, Kind::REPLICA_SET), sets, "another one of the same name");
    assert_eq!(view.ready_endpoints("web").len(), 3);
}

#[tokio::test]
async fn a_stateful_set_and_a_daemon_set_that_come_back_find_theirs() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    for (kind, field) in
        [(Kind::STATEFUL_SET, "availableReplicas"), (Kind::DAEMON_SET, "numberAvailable")]
    {
        let mut spec = deployment(3)["spec"].clone();
        if kind == Kind::DAEMON_SET {
            spec.as_object_mut().unwrap().remove("replicas");
        }
        let object = json!({
            "apiVersion": "apps/v1", "kind": kind.kind, "metadata": {"name": "web"}, "spec": spec,
        });
        cluster.create(object.clone()).await;
        let settled = |view: &View| is_settled(view, kind, "web", field, 3);
        view.until("three", settled).await;
        let pods = identities(&view, Kind::POD);
        let revisions = identities(&view, Kind::CONTROLLER_REVISION);
        let undisturbed = |view: &View| identities(view, Kind::POD) == pods;
        cluster.orphan(kind, "web").await;
        let alone = |view: &View| owners(view, Kind::POD) == [None].into();
        view.through("without a set", alone, undisturbed).await;
        cluster.create(object).await;
        let adopted = |view: &View| {
            all_owned(view, Kind::POD, kind, "web")
                && all_owned(view, Kind::CONTROLLER_REVISION, kind, "web")
                && settled(view)
        };
        view.through("all adopted", adopted, undisturbed).await;
        assert_eq!(identities(&view, Kind::CONTROLLER_REVISION), revisions);
        cluster.delete(kind, "web").await;
        view.until("gone", |view| view.all(Kind::POD).count() == 0).await;
    }
}

#[tokio::test]
async fn a_job_that_comes_back_counts_the_pods_that_it_had() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum"},
        "spec": {
            "manualSelector": true, "parallelism": 2, "completions": 2,
            "selector": {"matchLabels": {"app": "sum"}},
            "template": {
                "metadata": {"labels": {"app": "sum"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    cluster.create(job.clone()).await;
    let active = |view: &View| {
        view.all(Kind::JOB).any(|job| job["status"]["active"] == 2 && job["status"]["ready"] == 2)
    };
    view.until("two pods", active).await;
    let pods = identities(&view, Kind::POD);
    let undisturbed = |view: &View| identities(view, Kind::POD) == pods;
    cluster.orphan(Kind::JOB, "sum").await;
    let alone =
        |view: &View| view.all(Kind::JOB).count() == 0 && owners(view, Kind::POD) == [None].into();
    view.through("without a Job", alone, undisturbed).await;
    cluster.create(job).await;
    let adopted = |view: &View| {
        let tracked = json!(["batch.kubernetes.io/job-tracking"]);
        all_owned(view, Kind::POD, Kind::JOB, "sum")
            && view.all(Kind::POD).all(|pod| pod["metadata"]["finalizers"] == tracked)
            && active(view)
    };
    view.through("adopted", adopted, undisturbed).await;
    let done = json!({"status": {"phase": "Succeeded"}});
    for pod in pods.keys() {
        let patched = client::patch_status(&cluster.client, Kind::POD, Some("default"), pod, &done);
        patched.await.unwrap();
    }
    view.until("both counted", |view| {
        let status = &view.one(Kind::JOB, "sum")["status"];
        status["succeeded"] == 2 && view.all(Kind::POD).count() == 2
    })
    .await;
}

#[tokio::test]
async fn what_has_another_label_is_let_go_and_what_has_no_owner_is_taken() {
    claims(&mut Cluster::start().await).await;
}

pub(crate) async fn claims(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(deployment(2)).await;
    let settled = |view: &View| is_settled(view, Kind::DEPLOYMENT, "web", "availableReplicas", 2);
    view.until("two", settled).await;
    let pods = identities(&view, Kind::POD);
    let (set, sets) = {
        let sets = identities(&view, Kind::REPLICA_SET);
        (sets.keys().next().unwrap().clone(), sets)
    };

    // As who wants to look at a pod that misbehaves.
    let aside = pods.keys().next().unwrap();
    cluster.patch(Kind::POD, aside, json!({"metadata": {"labels": {"app": "aside"}}})).await;
    let stays = |view: &View| uid(view, Kind::POD, aside) == Some(&pods[aside]);
    let replaced = |view: &View| {
        view.all(Kind::POD).count() == 3
            && owner(view.one(Kind::POD, aside)).is_none()
            && settled(view)
    };
    view.through("a replacement", replaced, stays).await;
    let members = identities(&view, Kind::POD);

    let nobodys = json!({"metadata": {"ownerReferences": null}});
    let other = members.keys().find(|name| *name != aside).unwrap();
    cluster.patch(Kind::POD, other, nobodys.clone()).await;
    cluster.patch(Kind::REPLICA_SET, &set, nobodys).await;
    let taken = |view: &View| {
        let set_uid = uid(view, Kind::REPLICA_SET, &set);
        let pods = view.all(Kind::POD).filter(|pod| pod["metadata"]["name"] != **aside);
        pods.into_iter().all(|pod| owner(pod) == set_uid)
            && all_owned(view, Kind::REPLICA_SET, Kind::DEPLOYMENT, "web")
            && settled(view)
    };
    view.until("nobody's", |view| owner(view.one(Kind::POD, other)).is_none()).await;
    view.through("all taken", taken, |view| identities(view, Kind::POD) == members).await;
    assert_eq!(identities(&view, Kind::REPLICA_SET), sets);

    // One too many comes back, and one goes: it is as young as the others, or younger.
    cluster.patch(Kind::POD, aside, json!({"metadata": {"labels": {"app": "web"}}})).await;
    let full = |view: &View| view.all(Kind::POD).count() == 2 && taken(view);
    view.until("two again", full).await;
}
