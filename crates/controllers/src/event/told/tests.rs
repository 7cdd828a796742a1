use super::*;
use crate::fixture::{apply, node, pod};
use crate::write::Condition;
use serde_json::json;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// A workload of this kind, named `web`.
fn owner(kind: &str, group: &str, with: Value) -> Value {
    let mut owner = json!({
        "apiVersion": format!("{group}/v1"), "kind": kind,
        "metadata": {"name": "web", "namespace": "default", "uid": kind},
        "spec": {"replicas": 3, "completions": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}},
    });
    crate::fixture::merge(&mut owner, with);
    owner
}

fn cluster() -> Cluster {
    let conditions = json!([{"type": "Suspended", "status": "True"}]);
    let mut failed = pod("failed", Some("a"), None, false);
    failed["status"]["phase"] = "Failed".into();
    let mut ended = owner("Job", "batch", json!({"metadata": {"name": "web-1", "uid": "web-1"}}));
    ended["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let mut cluster = Cluster::default();
    apply(
        &mut cluster,
        [
            owner("Deployment", "apps", json!({})),
            owner("ReplicaSet", "apps", json!({})),
            owner("StatefulSet", "apps", json!({})),
            owner("DaemonSet", "apps", json!({})),
            owner("Job", "batch", json!({"status": {"conditions": conditions}})),
            owner(
                "CronJob",
                "batch",
                json!({"status": {"active": [{"name": "web-0"}, {"name": "web-1"}]}}),
            ),
            ended,
            failed,
            crate::fixture::service("web", json!({})),
            pod("p", Some("a"), None, true),
            node("a", ready),
        ],
    );
    cluster
}

fn create(kind: &str, api_version: &str, name: &str) -> Write {
    let metadata = json!({"name": name, "namespace": "default"});
    Write::Create(json!({
        "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {"replicas": 2},
    }))
}

fn delete(kind: Kind, name: &str) -> Write {
    Write::Delete { kind, key: key(name), grace: None }
}

fn status(kind: Kind, status: &Value) -> Write {
    Write::PatchStatus { kind, key: key("web"), patch: json!({"status": status}) }
}

fn condition(kind: Kind, key: ObjectKey, message: &str) -> Write {
    let (status, reason, message) = ("False", "Because", message.to_owned());
    let condition = Condition { kind: "Ready", status, reason, message };
    Write::SetCondition { kind, key, uid: String::new(), condition }
}

fn resized(replicas: u32) -> Write {
    let patch = json!({"spec": {"replicas": replicas}});
    Write::Patch { kind: Kind::REPLICA_SET, key: key("web"), patch }
}

/// Severity, reason, message and what it is about, where that is not what the task is about.
fn lines(task: &Task, write: &Write, answer: Answer<'_>) -> Vec<String> {
    let cluster = cluster();
    let own = cluster.about(task);
    let line = |event: Event| {
        let about = Some(&event.about).filter(|about| own.as_ref() != Some(about));
        let about = about.map(|it| format!(" [{} {}]", it.kind, it.key)).unwrap_or_default();
        format!("{:?} {}: {}{about}", event.severity, event.reason, event.message)
    };
    told(&cluster, task, write, answer).into_iter().map(line).collect()
}

const NO: Answer<'_> = Err("exceeded quota");
const YES: Answer<'_> = Ok(None);

/// Writes, what came of them and what is told.
fn check(task: &Task, rows: &[(Write, Answer<'_>, &[&str])]) {
    for (write, answer, expected) in rows {
        assert_eq!(lines(task, write, *answer), *expected, "{task:?} {write:?} {answer:?}");
    }
}

fn new_pod(name: &str) -> Write {
    create("Pod", "v1", name)
}

#[test]
fn of_pods() {
    check(
        &Task::ReplicaSet(key("web")),
        &[
            (new_pod("x"), YES, &["Normal SuccessfulCreate: Created pod: x"]),
            (new_pod("x"), NO, &["Warning FailedCreate: Error creating: exceeded quota"]),
            (delete(Kind::POD, "p"), YES, &["Normal SuccessfulDelete: Deleted pod: p"]),
            (delete(Kind::POD, "p"), NO, &["Warning FailedDelete: Error deleting: exceeded quota"]),
            (status(Kind::REPLICA_SET, &json!({})), YES, &[]),
        ],
    );
    let found = "Warning FailedDaemonPod: Found failed daemon pod default/failed on node a, will try to kill it";
    check(
        &Task::DaemonSet(key("web")),
        &[
            (new_pod("x"), YES, &["Normal SuccessfulCreate: Created pod: x"]),
            (
                delete(Kind::POD, "failed"),
                YES,
                &[found, "Normal SuccessfulDelete: Deleted pod: failed"],
            ),
        ],
    );
}

#[test]
fn of_pods_with_names_that_stay_and_their_claims() {
    let claim = || match create("PersistentVolumeClaim", "v1", "data-web-1") {
        Write::Create(claim) => Write::Ensure(claim),
        other => panic!("{other:?}"),
    };
    let there = json!({});
    check(
        &Task::StatefulSet(key("web")),
        &[
            (
                new_pod("web-1"),
                YES,
                &["Normal SuccessfulCreate: Create Pod web-1 in StatefulSet web successful"],
            ),
            (
                new_pod("web-1"),
                NO,
                &[
                    "Warning FailedCreate: Create Pod web-1 in StatefulSet web failed error: exceeded quota",
                ],
            ),
            (
                delete(Kind::POD, "web-1"),
                YES,
                &["Normal SuccessfulDelete: Delete Pod web-1 in StatefulSet web successful"],
            ),
            (
                claim(),
                Ok(Some(&there)),
                &[
                    "Normal SuccessfulCreate: Create Claim data-web-1 Pod web-1 in StatefulSet web success",
                ],
            ),
            (claim(), YES, &[]),
            (
                claim(),
                NO,
                &[
                    "Warning FailedCreate: Create Claim data-web-1 for Pod web-1 in StatefulSet web failed error: exceeded quota",
                ],
            ),
        ],
    );
}

#[test]
fn of_sets() {
    let new = || create("ReplicaSet", "apps/v1", "web-1");
    let refused =
        "Warning ReplicaSetCreateError: Failed to create new replica set \"web-1\": exceeded quota";
    check(
        &Task::Deployment(key("web")),
        &[
            (new(), YES, &["Normal ScalingReplicaSet: Scaled up replica set web-1 from 0 to 2"]),
            (new(), NO, &[refused]),
            (resized(5), YES, &["Normal ScalingReplicaSet: Scaled up replica set web from 3 to 5"]),
            (
                resized(1),
                YES,
                &["Normal ScalingReplicaSet: Scaled down replica set web from 3 to 1"],
            ),
            (resized(3), YES, &[]),
            (resized(1), NO, &[]),
        ],
    );
}

#[test]
fn of_jobs_and_their_runs() {
    let over = |kind: &str| {
        let end = json!({
            "type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "too often",
        });
        let listed = json!([{"type": "Suspended", "status": "True"}, end]);
        status(Kind::JOB, &json!({"conditions": listed, "succeeded": 4}))
    };
    let resumed = json!({"conditions": [{"type": "Suspended", "status": "False"}]});
    let too_many = "Warning TooManySucceededPods: Too many succeeded pods running after completion count reached";
    check(
        &Task::Job(key("web")),
        &[
            (over("Complete"), YES, &[too_many, "Normal Completed: Job completed"]),
            (over("Failed"), YES, &["Warning BackoffLimitExceeded: too often"]),
            (over("Failed"), NO, &[]),
            (status(Kind::JOB, &resumed), YES, &["Normal Resumed: Job resumed"]),
            (new_pod("x"), YES, &["Normal SuccessfulCreate: Created pod: x"]),
        ],
    );
    let idle = json!({"active": []});
    let ends = [
        "Normal MissingJob: Active job went missing: web-0",
        "Normal SawCompletedJob: Saw completed job: web-1, condition: Complete",
    ];
    check(
        &Task::CronJob(key("web")),
        &[
            (
                create("Job", "batch/v1", "web-2"),
                YES,
                &["Normal SuccessfulCreate: Created job web-2"],
            ),
            (delete(Kind::JOB, "web-1"), YES, &["Normal SuccessfulDelete: Deleted job web-1"]),
            (status(Kind::CRON_JOB, &idle), YES, &ends),
        ],
    );
}

#[test]
fn of_nodes_and_of_pods_that_get_theirs() {
    let silent = Write::Silence { node: ObjectKey::new("", "a"), uid: String::new() };
    let evicted = Write::Evict { pod: key("p"), uid: String::new(), grace: None };
    let unready = condition(Kind::POD, key("p"), "");
    check(
        &Task::NodeLife("a".into()),
        &[
            (silent, YES, &["Normal NodeNotReady: Node a status is now: NodeNotReady"]),
            (unready, YES, &["Warning NodeNotReady: Node is not ready [Pod default/p]"]),
        ],
    );
    check(
        &Task::TaintEviction("a".into()),
        &[(
            evicted,
            YES,
            &["Normal TaintManagerEviction: Marking for deletion Pod default/p [Pod default/p]"],
        )],
    );
    let bound = Write::Bind { pod: key("p"), node: "a".to_owned() };
    check(
        &Task::Schedule(key("p")),
        &[
            (bound, YES, &["Normal Scheduled: Successfully assigned default/p to a"]),
            (
                condition(Kind::POD, key("p"), "no room"),
                YES,
                &["Warning FailedScheduling: no room"],
            ),
        ],
    );
    check(
        &Task::Slices(key("web")),
        &[
            (delete(Kind::ENDPOINT_SLICE, "web-1"), YES, &[]),
            (
                delete(Kind::ENDPOINT_SLICE, "web-1"),
                NO,
                &[
                    "Warning FailedToUpdateEndpointSlices: Error updating Endpoint Slices for Service default/web: exceeded quota",
                ],
            ),
        ],
    );
}
