//! Workloads other than Deployments.

use crate::cluster::Cluster;
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn set(kind: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "db"},
        "spec": {
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            },
        },
    });
    for (name, value) in spec.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    object
}

fn new_image() -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}})
}

fn names(view: &View) -> BTreeSet<&str> {
    view.all(Kind::POD).filter_map(|pod| pod["metadata"]["name"].as_str()).collect()
}

fn ready(view: &View) -> usize {
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    view.all(Kind::POD).filter(is_ready).count()
}

#[tokio::test]
async fn a_stateful_set_keeps_its_names_through_an_update() {
    let mut cluster = Cluster::start().await;
    stateful_set(&mut cluster).await;
    cluster.delete(Kind::STATEFUL_SET, "db").await;
    cluster.view().until("none", |view| names(view).is_empty()).await;
}

pub(crate) async fn stateful_set(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(set("StatefulSet", json!({"replicas": 3, "serviceName": "db"}))).await;
    // One after the other: the second is not there before the first is ready.
    let in_order = |view: &View| names(view).len() <= ready(view) + 1;
    view.through("three", |view| ready(view) == 3, in_order).await;
    assert_eq!(names(&view), ["db-0", "db-1", "db-2"].into());
    let pod = view.one(Kind::POD, "db-1");
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("db-1"), &json!("db"))
    );
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    let first = pod["metadata"]["labels"]["controller-revision-hash"].clone();

    cluster.patch(Kind::STATEFUL_SET, "db", new_image()).await;
    let renewed = |view: &View| {
        let status = &view.one(Kind::STATEFUL_SET, "db")["status"];
        view.images() == ["two"].into()
            && ready(view) == 3
            && status["updatedReplicas"] == 3
            && status["currentRevision"] == status["updateRevision"]
    };
    view.through("all new", renewed, |view| ready(view) >= 2).await;
    assert_eq!(names(&view), ["db-0", "db-1", "db-2"].into());

    // Going back makes the first revision the latest again, as `kubectl rollout undo` expects.
    let old =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    cluster.patch(Kind::STATEFUL_SET, "db", old).await;
    view.until("all old", |view| view.images() == ["one"].into() && ready(view) == 3).await;
    let hash = |view: &View| {
        view.one(Kind::POD, "db-1")["metadata"]["labels"]["controller-revision-hash"].clone()
    };
    assert_eq!(hash(&view), first);
    let mut numbers: Vec<_> =
        view.all(Kind::CONTROLLER_REVISION).filter_map(|it| it["revision"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);

    let one = json!({"spec": {"replicas": 1, "revisionHistoryLimit": 0}});
    cluster.patch(Kind::STATEFUL_SET, "db", one).await;
    view.until("no way back", |view| view.all(Kind::CONTROLLER_REVISION).count() == 1).await;
    view.until("one", |view| names(view) == ["db-0"].into()).await;
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_every_node_that_suits() {
    daemon_set(&mut Cluster::start().await).await;
}

pub(crate) async fn daemon_set(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(set("DaemonSet", json!({}))).await;
    view.until("three", |view| ready(view) == 3).await;
    assert_eq!(view.spread(), [("a", 1), ("b", 1), ("c", 1)].into());
    cluster.add_node("d", json!({})).await;
    view.until("four", |view| ready(view) == 4 && view.spread().contains_key("d")).await;

    cluster.patch(Kind::DAEMON_SET, "db", new_image()).await;
    let renewed = |view: &View| {
        view.images() == ["two"].into()
            && ready(view) == 4
            && view.one(Kind::DAEMON_SET, "db")["status"]["updatedNumberScheduled"] == 4
    };
    view.through("all new", renewed, |view| ready(view) >= 3).await;

    let taint = json!({"spec": {"taints": [{"key": "gpu", "effect": "NoExecute"}]}});
    client::patch_merge(&cluster.client, Kind::NODE, None, "a", &taint).await.unwrap();
    view.until("none on a", |view| !view.spread().contains_key("a")).await;
    let selector = json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}});
    cluster.patch(Kind::DAEMON_SET, "db", selector).await;
    view.until("nowhere", |view| {
        names(view).is_empty()
            && view.one(Kind::DAEMON_SET, "db")["status"]["desiredNumberScheduled"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_daemon_set_that_surges_is_never_away() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    let rules = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    cluster.create(set("DaemonSet", json!({"updateStrategy": rules}))).await;
    view.until("three", |view| ready(view) == 3).await;
    cluster.patch(Kind::DAEMON_SET, "db", new_image()).await;
    let always = |view: &View| ready(view) >= 3 && names(view).len() <= 5;
    view.through("all new", |view| view.images() == ["two"].into() && ready(view) == 3, always)
        .await;
}

fn job(spec: Value, ends: &str) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"},
        "spec": {"template": {
            "metadata": {"annotations": {"test/ends": ends}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]},
        }},
    });
    for (name, value) in spec.as_object().unwrap() {
        job["spec"][name] = value.clone();
    }
    job
}

fn has(job: &Value, condition: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == condition && it["status"] == "True")
}

#[tokio::test]
async fn jobs_complete_or_fail() {
    let mut cluster = Cluster::start().await;
    jobs(&mut cluster).await;
    for job in ["hopeless", "numbered", "paused"] {
        cluster.delete(Kind::JOB, job).await;
    }
    cluster.view().until("gone", |view| names(view).is_empty()).await;
}

pub(crate) async fn jobs(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    let named = |name: &str, mut job: Value| {
        job["metadata"]["name"] = name.into();
        job
    };
    let is = |view: &View, name: &str, condition: &str| {
        view.all(Kind::JOB).any(|job| job["metadata"]["name"] == name && has(job, condition))
    };
    cluster.create(job(json!({"completions": 5, "parallelism": 2}), "Succeeded")).await;
    let two_at_once = |view: &View| {
        let active = view.all(Kind::POD).filter(|pod| pod["status"]["phase"] != "Succeeded");
        active.count() <= 2
    };
    view.through("complete", |view| is(view, "work", "Complete"), two_at_once).await;
    let status = &view.one(Kind::JOB, "work")["status"];
    assert_eq!((&status["succeeded"], names(&view).len()), (&json!(5), 5));
    assert!(status["completionTime"].is_string());
    assert!(is(&view, "work", "SuccessCriteriaMet"));
    let is_free = |view: &View| {
        view.all(Kind::POD)
            .all(|pod| pod["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty))
    };
    view.until("all pods may go", is_free).await;
    let at_once = json!({"spec": {"ttlSecondsAfterFinished": 0}});
    cluster.patch(Kind::JOB, "work", at_once).await;
    let is_gone = |view: &View| view.all(Kind::JOB).all(|job| job["metadata"]["name"] != "work");
    view.until("gone by itself", is_gone).await;

    cluster.create(named("hopeless", job(json!({"backoffLimit": 0}), "Failed"))).await;
    view.until("failed", |view| is(view, "hopeless", "Failed")).await;
    let status = &view.one(Kind::JOB, "hopeless")["status"];
    assert_eq!((&status["failed"], status["active"].as_u64().unwrap_or(0)), (&json!(1), 0));

    let numbers = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0, "successPolicy": {"rules": [{"succeededCount": 3}]}});
    cluster.create(named("numbered", job(numbers, "Succeeded"))).await;
    view.until("numbered", |view| is(view, "numbered", "Complete")).await;
    assert_eq!(view.one(Kind::JOB, "numbered")["status"]["completedIndexes"], "0-2");

    let paused = json!({"suspend": true, "completions": 1, "ttlSecondsAfterFinished": 1000});
    cluster.create(named("paused", job(paused, "Succeeded"))).await;
    view.until("suspended", |view| is(view, "paused", "Suspended")).await;
    cluster.patch(Kind::JOB, "paused", json!({"spec": {"suspend": false}})).await;
    view.until("resumed and complete", |view| is(view, "paused", "Complete")).await;
}

#[tokio::test]
async fn a_cron_job_begins_what_is_due() {
    cron_job(&mut Cluster::start().await).await;
}

pub(crate) async fn cron_job(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    let template = job(json!({}), "Succeeded")["spec"].clone();
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": template}},
    });
    cluster.create(cron).await;
    // A run two minutes ago: the one after it is due.
    let ago = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(2);
    let status =
        json!({"status": {"lastScheduleTime": ago.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}});
    client::patch_status(&cluster.client, Kind::CRON_JOB, Some("default"), "tick", &status)
        .await
        .unwrap();
    view.until("a job is done", |view| view.all(Kind::JOB).any(|it| has(it, "Complete"))).await;
    view.until("that is told", |view| {
        let status = &view.one(Kind::CRON_JOB, "tick")["status"];
        status["lastSuccessfulTime"].is_string()
            && status["active"].as_array().is_none_or(Vec::is_empty)
    })
    .await;
    let owner = view.all(Kind::JOB).next().unwrap()["metadata"]["ownerReferences"][0].clone();
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("CronJob"), &json!("tick")));
}
