use super::*;
use crate::fixture::{apply_at, lease, node, pod};
use crate::task::Task;
use crate::write::Write;
use model::ObjectKey;
use serde_json::{Value, json};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn taint(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value, "effect": "NoExecute"})
}

/// Node `a` in its version of this number.
fn tainted(version: u32, taints: Value) -> Value {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    node(
        "a",
        json!({
            "metadata": {"resourceVersion": version.to_string()},
            "spec": {"taints": taints}, "status": {"conditions": ready},
        }),
    )
}

/// A pod on `a` that bears what this says and no more.
fn bearing(name: &str, tolerations: Value) -> Value {
    let mut pod = pod(name, Some("a"), Some("10.0.0.2"), true);
    pod["spec"]["tolerations"] = tolerations;
    pod
}

fn said(outcome: &Outcome) -> Vec<String> {
    let line = |write: &Write| match write {
        Write::Evict { pod, grace, .. } => format!("evict {} {grace:?}", pod.name),
        Write::Delete { key, grace, .. } => format!("delete {} {grace:?}", key.name),
        Write::Tell(event) => event.message.clone(),
        other => format!("{other:?}"),
    };
    outcome.writes.iter().map(line).collect()
}

fn look(cluster: &mut Cluster, seconds: u64) -> Outcome {
    plan(cluster, "a", &Settings { pod_eviction: at(7), ..Settings::default() }, at(seconds))
}

#[test]
fn a_pod_stays_as_long_as_it_bears_all_taints() {
    let exists = |key: &str, seconds: Value| {
        let mut toleration = json!({"operator": "Exists", "tolerationSeconds": seconds});
        if !key.is_empty() {
            toleration["key"] = key.into();
        }
        toleration
    };
    let equal = |value: &str| json!({"key": "k", "value": value, "effect": "NoExecute"});
    let of_schedule = json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"});
    let one = || json!([taint("k", "v")]);
    let two = || json!([taint("k", "v"), taint("l", "")]);
    let not_ready = || json!([taint(NOT_READY[0], "")]);
    let rows = [
        ("not at all", one(), json!([]), Some(0)),
        ("its value", one(), json!([equal("v")]), None),
        ("another value", one(), json!([equal("w")]), Some(0)),
        ("another effect", one(), json!([of_schedule]), Some(0)),
        ("everything", two(), json!([exists("", json!(null))]), None),
        ("for a time", one(), json!([exists("k", json!(5))]), Some(5)),
        ("for no time", one(), json!([exists("k", json!(0))]), Some(0)),
        ("for less than no time", one(), json!([exists("k", json!(-1))]), Some(0)),
        ("the first counts", one(), json!([exists("k", json!(9)), exists("k", json!(3))]), Some(9)),
        ("one of two", two(), json!([exists("k", json!(5))]), Some(0)),
        ("the shorter time", two(), json!([exists("k", json!(5)), exists("l", json!(3))]), Some(3)),
        (
            "one of them for ever",
            two(),
            json!([exists("k", json!(null)), exists("l", json!(3))]),
            Some(3),
        ),
        ("what everybody says", not_ready(), json!([exists(NOT_READY[0], json!(300))]), Some(7)),
        ("what it says itself", not_ready(), json!([exists(NOT_READY[0], json!(301))]), Some(301)),
        ("the same of others", one(), json!([exists("k", json!(300))]), Some(300)),
    ];
    for (case, taints, tolerations, expected) in rows {
        let mut cluster = Cluster::default();
        apply_at(&mut cluster, [tainted(1, taints), bearing("p", tolerations)], at(0));
        assert!(cluster.take_dirty().contains(&Task::TaintEviction("a".into())), "{case}");
        let first = look(&mut cluster, 10);
        match expected {
            None => assert_eq!(first, Outcome::default(), "{case}"),
            Some(0) => assert_eq!(said(&first), ["evict p None"], "{case}"),
            Some(seconds) => {
                assert_eq!(first, Outcome { writes: vec![], again: Some(at(seconds)) }, "{case}");
                // Looks in between change nothing.
                assert_eq!(look(&mut cluster, 11).again, Some(at(seconds - 1)), "{case}");
                assert_eq!(said(&look(&mut cluster, 10 + seconds)), ["evict p None"], "{case}");
            }
        }
    }
}

#[test]
fn who_comes_later_has_his_own_time_and_who_is_pardoned_is_told() {
    let mut cluster = Cluster::default();
    let patient = |name: &str| {
        bearing(name, json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 5}]))
    };
    apply_at(&mut cluster, [tainted(1, json!([taint("k", "")])), patient("p")], at(0));
    assert_eq!(look(&mut cluster, 0).again, Some(at(5)));
    cluster.take_dirty();
    apply_at(&mut cluster, [patient("q")], at(3));
    assert!(cluster.take_dirty().contains(&Task::TaintEviction("a".into())));
    assert_eq!(look(&mut cluster, 3).again, Some(at(2)));
    let due = look(&mut cluster, 5);
    assert_eq!((said(&due), due.again), (vec!["evict p None".to_owned()], Some(at(3))));
    cluster.doom(Kind::POD, &ObjectKey::new("default", "p"));
    assert_eq!(said(&look(&mut cluster, 6)), Vec::<String>::new(), "it is on its way");
    cluster.take_dirty();
    apply_at(&mut cluster, [tainted(2, json!([]))], at(6));
    assert!(cluster.take_dirty().contains(&Task::TaintEviction("a".into())));
    let pardoned = look(&mut cluster, 6);
    assert_eq!(said(&pardoned), ["Cancelling deletion of Pod default/q"]);
    assert_eq!(look(&mut cluster, 60), Outcome::default(), "told once");
    apply_at(&mut cluster, [tainted(3, json!([taint("k", "")]))], at(60));
    assert_eq!(look(&mut cluster, 60).again, Some(at(5)), "the time begins anew");
    cluster.take_dirty();
    cluster.remove(Kind::NODE, &ObjectKey::new("", "a"), at(61));
    assert!(cluster.take_dirty().contains(&Task::TaintEviction("a".into())));
    assert_eq!(look(&mut cluster, 61), Outcome::default());
    apply_at(&mut cluster, [tainted(4, json!([taint("k", "")]))], at(62));
    assert_eq!(look(&mut cluster, 62).again, Some(at(5)), "it is another node");
}

#[test]
fn a_silent_node_confirms_nothing() {
    let single = |name: &str| {
        let mut pod = bearing(name, json!([]));
        pod["metadata"]["ownerReferences"] =
            json!([{"kind": "StatefulSet", "name": "s", "uid": "s", "controller": true}]);
        pod
    };
    let mut cluster = Cluster::default();
    let pods = [bearing("p", json!([])), bearing("q", json!([])), single("s"), single("t")];
    apply_at(&mut cluster, [tainted(1, json!([taint("k", "")])), lease("a", 1)], at(0));
    apply_at(&mut cluster, pods, at(0));
    for name in ["q", "t"] {
        cluster.doom(Kind::POD, &ObjectKey::new("default", name));
    }
    assert_eq!(said(&look(&mut cluster, 0)), ["evict p None", "evict s None"]);
    cluster.take_dirty();
    cluster.silence("a");
    assert!(cluster.take_dirty().contains(&Task::TaintEviction("a".into())));
    let forced = ["evict p Some(0)", "delete q Some(0)", "evict s None"];
    assert_eq!(said(&look(&mut cluster, 1)), forced);
}
