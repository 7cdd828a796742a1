//! The same by kube-controller-manager and by these controllers: a user sees no difference.

use crate::beside::{MANAGER, Program, given, start};
use crate::cluster::{Cluster, deployment, settings};
use crate::view::View;
use client::Kind;
use controllers::{Controller, Settings};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What both clusters have from here.
const SHARED: [Controller; 6] = [
    Controller::Scheduler,
    Controller::NodeLifecycle,
    Controller::TaintEviction,
    Controller::NodeIpam,
    Controller::EndpointSlice,
    Controller::EndpointSliceMirroring,
];

fn compared() -> impl Iterator<Item = Controller> {
    Controller::ALL.into_iter().filter(|it| !SHARED.contains(it))
}

/// Beside the real server of this cluster.
fn manage(cluster: &Cluster) -> Program {
    let names: Vec<_> = compared().map(Controller::name).collect();
    start(MANAGER, cluster.folder(), &[format!("--controllers={}", names.join(","))])
}

/// Changes an object; gives back its new generation, by which its controller says that it has seen the change.
async fn change(cluster: &Cluster, kind: Kind, name: &str, patch: Value) -> Value {
    let patched = client::patch_merge(&cluster.client, kind, Some("default"), name, &patch).await;
    patched.unwrap()["metadata"]["generation"].clone()
}

/// Up, scaled, rolled, paused, resumed and back.
async fn deployments(cluster: &Cluster, view: &mut View) {
    let created = cluster.create(deployment(3)).await;
    complete(view, "up", &created["metadata"]["generation"], 3).await;
    let image = |name: &str| {
        let container = json!({"name": "echo", "image": name});
        json!({"template": {"spec": {"containers": [container]}}})
    };
    let steps = [
        ("scaled", json!({"replicas": 5}), 5),
        ("rolled", image("two"), 5),
        ("paused", json!({"paused": true}), 5),
        ("waiting", image("three"), 5),
        ("resumed", json!({"paused": null}), 5),
        ("back", image("two"), 5),
        ("fewer", json!({"replicas": 2}), 2),
    ];
    for (what, spec, replicas) in steps {
        let generation = change(cluster, Kind::DEPLOYMENT, "web", json!({"spec": spec})).await;
        match what {
            "paused" | "waiting" => {
                let is_paused =
                    |view: &View| reason(view) == "DeploymentPaused" && has_seen(view, &generation);
                view.until(what, is_paused).await;
            }
            _ => complete(view, what, &generation, replicas).await,
        }
    }
}

fn has_seen(view: &View, generation: &Value) -> bool {
    let mut found = view.all(Kind::DEPLOYMENT);
    let observed = found.next().and_then(|it| it["status"]["observedGeneration"].as_u64());
    observed >= generation.as_u64()
}

async fn complete(view: &mut View, what: &str, generation: &Value, replicas: u32) {
    view.until(what, |view| {
        let pods = view.all(Kind::POD).count();
        let Some(found) = view.all(Kind::DEPLOYMENT).next() else { return false };
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        counts.iter().all(|count| found["status"][count] == replicas)
            && has_seen(view, generation)
            && reason(view) == "NewReplicaSetAvailable"
            && usize::try_from(replicas) == Ok(pods)
            && found["status"]["terminatingReplicas"] == 0
    })
    .await;
}

fn reason(view: &View) -> &str {
    let conditions = view.one(Kind::DEPLOYMENT, "web")["status"]["conditions"].as_array();
    let mut listed = conditions.into_iter().flatten();
    let found = listed.find(|it| it["type"] == "Progressing");
    found.and_then(|it| it["reason"].as_str()).unwrap_or_default()
}

/// One that takes a pod over, grows, loses it and shrinks.
async fn replication_controllers(cluster: &Cluster, view: &mut View) {
    const KIND: Kind = Kind::REPLICATION_CONTROLLER;
    let labels = json!({"app": "old"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose"}});
    pod["metadata"]["labels"] = labels.clone();
    pod["spec"] = template["spec"].clone();
    cluster.create(pod).await;
    let controller = |name: &str, replicas: u32| {
        json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name},
            "spec": {"replicas": replicas, "template": template}})
    };
    let created = cluster.create(controller("old", 2)).await;
    replicated(view, "old", &created["metadata"]["generation"], 2).await;
    let generation = change(cluster, KIND, "old", json!({"spec": {"replicas": 4}})).await;
    replicated(view, "old", &generation, 4).await;
    let loose = json!({"metadata": {"labels": {"app": "new"}}});
    cluster.patch(Kind::POD, "loose", loose).await;
    view.until("let go", |view| {
        view.one(Kind::POD, "loose")["metadata"]["ownerReferences"].is_null()
    })
    .await;
    replicated(view, "old", &generation, 4).await;
    let generation = change(cluster, KIND, "old", json!({"spec": {"replicas": 1}})).await;
    replicated(view, "old", &generation, 1).await;
    cluster.delete(Kind::POD, "loose").await;
}

async fn replicated(view: &mut View, name: &str, generation: &Value, replicas: u32) {
    view.until("replicated", |view| {
        let Some(found) = view.all(Kind::REPLICATION_CONTROLLER).next() else { return false };
        let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        found["metadata"]["name"] == name
            && counts.iter().all(|count| found["status"][count] == replicas)
            && found["status"]["observedGeneration"] == *generation
    })
    .await;
}

/// Jobs that end well, do not, and wait for it.
async fn jobs(cluster: &Cluster, view: &mut View) {
    let job = |name: &str, ends: Option<&str>, with: Value| {
        let ends = ends.map_or(json!({}), |ends| json!({"test/ends": ends}));
        let mut spec = json!({"backoffLimit": 1, "completions": 2, "parallelism": 2, "template": {
            "metadata": {"annotations": ends},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
        for (field, value) in with.as_object().unwrap() {
            spec[field] = value.clone();
        }
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    };
    cluster.create(job("good", Some("Succeeded"), json!({"completionMode": "Indexed"}))).await;
    cluster.create(job("bad", Some("Failed"), json!({}))).await;
    cluster.create(job("late", None, json!({"suspend": true}))).await;
    let has = |view: &View, name: &str, kind: &str, status: &str| {
        let job = view.all(Kind::JOB).find(|job| job["metadata"]["name"] == name);
        let conditions = job.and_then(|job| job["status"]["conditions"].as_array());
        conditions
            .is_some_and(|it| it.iter().any(|it| it["type"] == kind && it["status"] == status))
    };
    view.until("over", |view| {
        has(view, "good", "Complete", "True")
            && has(view, "bad", "Failed", "True")
            && has(view, "late", "Suspended", "True")
    })
    .await;
    cluster.patch(Kind::JOB, "late", json!({"spec": {"suspend": false}})).await;
    let active = |view: &View| view.one(Kind::JOB, "late")["status"]["ready"] == 2;
    view.until("resumed", active).await;
    cluster.patch(Kind::JOB, "late", json!({"spec": {"suspend": true}})).await;
    let idle = |view: &View| {
        let status = &view.one(Kind::JOB, "late")["status"];
        status["active"].is_null() && status["ready"] == 0 && status["terminating"] == 0
    };
    view.until("suspended", |view| has(view, "late", "Suspended", "True") && idle(view)).await;
}

/// Up, rolled and smaller.
async fn sets(cluster: &Cluster, view: &mut View) {
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    for (kind, name) in [(Kind::STATEFUL_SET, "db"), (Kind::DAEMON_SET, "log")] {
        let labels = json!({"app": name});
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "one"}]}}});
        if kind == Kind::STATEFUL_SET {
            spec["replicas"] = 3.into();
            spec["serviceName"] = name.into();
            spec["volumeClaimTemplates"] = json!([claim]);
        }
        let metadata = json!({"name": name});
        cluster
            .create(json!({"apiVersion": "apps/v1", "kind": kind.kind, "metadata": metadata, "spec": spec}))
            .await;
        settled(view, kind, name, &json!(1), 3).await;
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
        let generation = change(cluster, kind, name, image).await;
        settled(view, kind, name, &generation, 3).await;
    }
    let fewer = json!({"spec": {"replicas": 2}});
    let generation = change(cluster, Kind::STATEFUL_SET, "db", fewer).await;
    settled(view, Kind::STATEFUL_SET, "db", &generation, 2).await;
}

async fn settled(view: &mut View, kind: Kind, name: &str, generation: &Value, count: u32) {
    view.until("settled", |view| {
        let Some(found) = view.all(kind).find(|it| it["metadata"]["name"] == name) else {
            return false;
        };
        let status = &found["status"];
        let counts = match kind {
            Kind::STATEFUL_SET => ["replicas", "updatedReplicas", "availableReplicas"],
            _ => ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable"],
        };
        counts.iter().all(|field| status[field] == count)
            && status["observedGeneration"] == *generation
            && (kind != Kind::STATEFUL_SET || status["currentRevision"] == status["updateRevision"])
    })
    .await;
}

/// The last Events of each kind: pods that went with updates and with what was left out in the end.
fn are_told(events: &View) -> bool {
    let went = |kind: &str| {
        let about = events.all(Kind::EVENT).filter(|event| event["involvedObject"]["kind"] == kind);
        let went = about.filter(|event| event["reason"] == "SuccessfulDelete");
        went.filter_map(|event| event["count"].as_u64()).sum::<u64>()
    };
    [("StatefulSet", 4), ("DaemonSet", 3), ("Job", 2)]
        .iter()
        .all(|(kind, count)| went(kind) >= *count)
}

/// What a user sees in the end, a line each, without times and random names.
async fn seen(cluster: &Cluster, view: &View) -> BTreeSet<String> {
    let mut names = names(view);
    let kinds = [
        Kind::DEPLOYMENT,
        Kind::REPLICA_SET,
        Kind::REPLICATION_CONTROLLER,
        Kind::STATEFUL_SET,
        Kind::DAEMON_SET,
        Kind::JOB,
    ];
    let mut lines = Vec::new();
    for object in kinds.into_iter().flat_map(|kind| view.all(kind)) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        for part in ["/metadata/annotations", "/metadata/labels", "/metadata/finalizers", "/status"]
        {
            for (field, value) in
                object.pointer(part).and_then(Value::as_object).into_iter().flatten()
            {
                let value = without_times(value.clone());
                // How often a set was changed on its way is nobody's business.
                if (kind, field.as_str()) != ("ReplicaSet", "observedGeneration") && !is_time(field)
                {
                    lines.push(format!("{kind} {name} {part}/{field}: {value}"));
                }
            }
        }
    }
    for event in client::list(&cluster.client, &Kind::EVENT.into()).await.unwrap() {
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let component = event["source"]["component"].as_str().unwrap_or_default();
        let is_old = component == "replication-controller";
        if is_old || compared().any(|controller| controller.name() == component) {
            let (kind, name) = (text("/involvedObject/kind"), text("/involvedObject/name"));
            let (severity, reason, message) = (text("/type"), text("/reason"), text("/message"));
            // Which of many are combined, and in which steps sets are scaled, depends on which pod was ready first.
            let message = message.trim_start_matches("(combined from similar events): ").to_owned();
            let message = match &*reason {
                "ScalingReplicaSet" => message.contains("Scaled up").to_string(),
                _ => message,
            };
            if let Some(pod) = message.strip_prefix("Created pod: ") {
                names.insert(pod.to_owned(), "POD".to_owned());
            }
            lines.push(format!("{component} {kind} {name}: {severity} {reason} {message}"));
        }
    }
    let hide = |line: String| {
        names.iter().rev().fold(line, |line, (name, other)| line.replace(name, other))
    };
    lines.into_iter().map(hide).collect()
}

/// Random names, and what stands for them.
fn names(view: &View) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for object in view.all(Kind::REPLICA_SET).chain(view.all(Kind::CONTROLLER_REVISION)) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let spec = object.get("spec").unwrap_or(&object["data"]["spec"]);
        let image = spec["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
        names.insert(name.rsplit('-').next().unwrap().to_owned(), format!("IMAGE-{image}"));
    }
    for object in [Kind::JOB, Kind::DEPLOYMENT].into_iter().flat_map(|kind| view.all(kind)) {
        names.insert(object["metadata"]["uid"].as_str().unwrap().to_owned(), "UID".to_owned());
    }
    names
}

fn is_time(field: &str) -> bool {
    ["lastTransitionTime", "lastUpdateTime", "lastProbeTime", "startTime", "completionTime"]
        .contains(&field)
}

fn without_times(mut value: Value) -> Value {
    for condition in value.as_array_mut().into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.retain(|field, _| !is_time(field));
        }
    }
    value
}

async fn play(
    settings: Settings,
    by: impl FnOnce(&Cluster) -> Option<Program>,
) -> BTreeSet<String> {
    let mut cluster = Cluster::real_with(settings).await;
    let manager = by(&cluster);
    cluster.add_nodes().await;
    let mut view = cluster.view();
    deployments(&cluster, &mut view).await;
    jobs(&cluster, &mut view).await;
    sets(&cluster, &mut view).await;
    replication_controllers(&cluster, &mut view).await;
    let mut events = View::of(&cluster.client, &[Kind::EVENT]);
    events.until("all is told", are_told).await;
    let seen = seen(&cluster, &view).await;
    drop(manager);
    seen
}

#[tokio::test]
async fn a_user_sees_what_kube_controller_manager_would_show() {
    if given(MANAGER).is_none() || !crate::real_server::is_given() {
        eprintln!(
            "left out: {MANAGER} names no kube-controller-manager, or there is no real server"
        );
        return;
    }
    let patient = settings(Duration::from_secs(60));
    let mut others = patient.clone();
    others.controllers = SHARED.into();
    let theirs = play(others, |cluster| Some(manage(cluster))).await;
    let ours = play(patient, |_| None).await;
    let more = |of: &BTreeSet<String>, than: &BTreeSet<String>| {
        of.difference(than).cloned().collect::<Vec<_>>()
    };
    let differences = (more(&theirs, &ours), more(&ours, &theirs));
    assert_eq!(differences, (vec![], vec![]), "theirs, ours");
    assert!(theirs.len() > 80, "{theirs:#?}");
}
