use super::*;
use crate::fixture::{apply_at, lease, node, pod};
use crate::reconcile::taint_eviction;
use crate::taints::PRESSURES;
use serde_json::{Value, json};

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Fixed here: the lab's own times may change.
fn quick() -> Settings {
    Settings { node_monitor_grace: at(1000), pod_eviction: at(5000), ..Settings::default() }
}

/// A node whose kubelet says so, in the version of this number.
fn said(name: &str, status: &str, version: u32) -> Value {
    node(
        name,
        json!({
            "metadata": {"resourceVersion": version.to_string()},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        }),
    )
}

/// One that is ready.
fn well(name: &str, version: u32) -> Value {
    said(name, "True", version)
}

fn deletions(outcome: &Outcome) -> usize {
    outcome
        .writes
        .iter()
        .filter(|write| matches!(write, Write::Delete { .. } | Write::Evict { .. }))
        .count()
}

/// Nodes of one zone, and a pod on each that runs.
fn zone(names: &[&str], down: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    for name in names {
        apply_at(
            &mut cluster,
            [well(name, 1), pod(name, Some(name), Some("10.0.0.2"), true)],
            at(0),
        );
    }
    for name in down {
        apply_at(&mut cluster, [lease(name, 1), said(name, "Unknown", 2)], at(0));
    }
    cluster
}

#[test]
fn where_no_node_is_ready_nobody_is_evicted_and_later_all_have_time_again() {
    let settings = quick();
    let mut cluster = zone(&["a", "b"], &["a", "b"]);
    for name in ["a", "b"] {
        for time in [1000, 6000, 60_000] {
            let outcome = plan(&mut cluster, name, &settings, at(time));
            assert_eq!(deletions(&outcome), 0, "{name} {time}");
        }
    }
    cluster.take_dirty();
    apply_at(&mut cluster, [well("b", 3), lease("b", 2)], at(60_001));
    plan(&mut cluster, "b", &settings, at(60_001));
    assert!(cluster.take_dirty().contains(&crate::task::Task::NodeLife("a".into())));
    let pardoned = plan(&mut cluster, "a", &settings, at(60_001));
    assert_eq!(pardoned, Outcome { writes: vec![], again: Some(at(1000)) });
    apply_at(&mut cluster, [lease("b", 3)], at(61_000));
    assert_eq!(plan(&mut cluster, "a", &settings, at(61_001)).again, Some(at(5000)));
    apply_at(&mut cluster, [lease("b", 4)], at(66_000));
    assert_eq!(deletions(&plan(&mut cluster, "a", &settings, at(66_001))), 1);
}

#[test]
fn dead_nodes_lose_their_pods_one_after_the_other() {
    let settings = Settings { eviction_pause: at(300), ..quick() };
    let mut cluster = zone(&["a", "b", "c", "d"], &["a", "b"]);
    let mut look = |name, time| {
        let outcome = plan(&mut cluster, name, &settings, at(time));
        (deletions(&outcome), outcome.again)
    };
    assert_eq!(look("a", 1000), (0, Some(at(5000))));
    assert_eq!(look("b", 1000), (0, Some(at(300))));
    assert_eq!(look("a", 1100), (0, Some(at(4900))), "it had its turn");
    assert_eq!(look("b", 1299), (0, Some(at(1))));
    assert_eq!(look("b", 1300), (0, Some(at(5000))));
    assert_eq!(look("a", 6000), (1, None));
    assert_eq!(look("b", 6299), (0, Some(at(1))));
    assert_eq!(look("b", 6300), (1, None));
}

#[test]
fn where_most_of_a_small_zone_is_dead_its_nodes_wait_for_better_times() {
    let settings = Settings { eviction_pause: Duration::ZERO, ..quick() };
    let mut cluster = zone(&["a", "b", "c", "d", "e"], &["a", "b", "c"]);
    let outcome = plan(&mut cluster, "a", &settings, at(6000));
    assert_eq!((deletions(&outcome), outcome.again), (0, None));
    cluster.take_dirty();
    apply_at(&mut cluster, [well("c", 3), lease("c", 2)], at(6100));
    assert!(cluster.take_dirty().contains(&crate::task::Task::NodeLife("a".into())));
    assert_eq!(plan(&mut cluster, "a", &settings, at(6100)).again, Some(at(5000)));
    assert_eq!(deletions(&plan(&mut cluster, "a", &settings, at(11_100))), 1);
}

/// What comes of both looks, that at the node and that at its taints, but for the taints and what is told.
fn plan(cluster: &mut Cluster, name: &str, settings: &Settings, uptime: Duration) -> Outcome {
    let mut outcome = super::plan(cluster, name, settings, uptime);
    for write in &outcome.writes {
        if let Write::SetTaints { taints, .. } = write {
            cluster.assume_taints(name, taints);
        }
    }
    let evictions = taint_eviction::plan(cluster, name, settings, uptime);
    outcome.writes.extend(evictions.writes);
    outcome.writes.retain(|write| !matches!(write, Write::SetTaints { .. } | Write::Tell(_)));
    outcome.again = earliest(outcome.again, evictions.again);
    outcome
}

#[test]
fn a_node_says_in_its_taints_how_it_is() {
    let is = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let conditions = |list: &[Value]| json!({"status": {"conditions": list}});
    let ready = |status: &str| conditions(&[is("Ready", status)]);
    let other = |name: &str| conditions(&[is("Ready", "True"), is(name, "True")]);
    let cordoned = json!({"spec": {"unschedulable": true}});
    let [not_ready, unreachable] = NOT_READY;
    type Expected<'a> = (Vec<&'a str>, Option<&'a str>);
    let rows: [(&str, Value, u64, Expected<'_>); 12] = [
        ("new", json!({}), 100, (vec![not_ready], None)),
        ("not ready", ready("False"), 100, (vec![not_ready], Some(not_ready))),
        // Whoever said so may be wrong: we have not waited for it ourselves.
        ("unknown", ready("Unknown"), 100, (vec![unreachable], None)),
        ("ready", ready("True"), 100, (vec![], None)),
        ("silent", ready("True"), 1100, (vec![unreachable], Some(unreachable))),
        ("memory", other("MemoryPressure"), 100, (vec![PRESSURES[0].1], None)),
        ("disk", other("DiskPressure"), 100, (vec![PRESSURES[1].1], None)),
        ("processes", other("PIDPressure"), 100, (vec![PRESSURES[2].1], None)),
        ("network", other("NetworkUnavailable"), 100, (vec![PRESSURES[3].1], None)),
        ("another condition", other("Other"), 100, (vec![], None)),
        (
            "no pressure",
            conditions(&[is("Ready", "True"), is("DiskPressure", "Unknown")]),
            100,
            (vec![], None),
        ),
        ("cordoned", cordoned, 100, (vec![not_ready, UNSCHEDULABLE], None)),
    ];
    for (case, state, time, (no_schedule, no_execute)) in rows {
        let mut cluster = Cluster::default();
        apply_at(&mut cluster, [node("a", state), lease("a", 1), well("b", 1)], at(0));
        let mut outcome = super::plan(&mut cluster, "a", &quick(), at(time));
        let taints = outcome.writes.iter().find_map(|write| match write {
            Write::SetTaints { taints, .. } => Some(taints.clone()),
            _ => None,
        });
        let found = taints.unwrap_or_default();
        assert_eq!(found.no_schedule, no_schedule, "{case}");
        assert_eq!(found.no_execute, no_execute, "{case}");
        cluster.assume_taints("a", &found);
        outcome = super::plan(&mut cluster, "a", &quick(), at(time));
        let more = outcome.writes.iter().any(|write| matches!(write, Write::SetTaints { .. }));
        assert!(!more, "{case}: nothing to do");
    }
}

#[test]
fn the_taint_of_a_node_turns_with_it() {
    let mut cluster = zone(&["a", "b"], &[]);
    let driving = |cluster: &Cluster| -> Vec<String> {
        cluster.node("a").unwrap().driving().map(|taint| taint.key.clone()).collect()
    };
    // A pause that nobody sees the end of: what is tainted needs no other turn.
    let settings = Settings { eviction_pause: at(1_000_000), ..quick() };
    for (version, status, expected) in
        [(2, "False", vec![NOT_READY[0]]), (3, "Unknown", vec![NOT_READY[1]]), (4, "True", vec![])]
    {
        let taints = cluster.node("a").unwrap().taints.clone();
        apply_at(&mut cluster, [said("a", status, version), lease("a", version)], at(100));
        cluster.restore_taints("a", taints);
        plan(&mut cluster, "a", &settings, at(100));
        assert_eq!(driving(&cluster), expected, "{status}");
    }
}

fn describe(outcome: &Outcome) -> Vec<String> {
    let line = |write: &Write| match write {
        Write::SetCondition { kind, key, condition, .. } => {
            format!("{kind} {key} {}={}", condition.kind, condition.status)
        }
        Write::Delete { key, grace, .. } => format!("delete {key} {grace:?}"),
        Write::Evict { pod, grace, .. } => format!("evict {pod} {grace:?}"),
        Write::Silence { node, .. } => format!("{node} is silent"),
        other => format!("{other:?}"),
    };
    outcome.writes.iter().map(line).collect()
}

#[test]
fn a_power_cut() {
    let settings = quick();
    let mut cluster = Cluster::default();
    apply_at(&mut cluster, [node("a", json!({})), lease("a", 1), well("b", 1)], at(0));
    let pods = [
        pod("web", Some("a"), Some("10.244.0.2"), true),
        pod("idle", Some("a"), Some("10.244.0.3"), false),
        pod("far", Some("b"), Some("10.244.1.2"), true),
    ];
    apply_at(&mut cluster, pods, at(0));
    let look = |cluster: &mut Cluster, time| plan(cluster, "a", &settings, at(time));

    assert_eq!(look(&mut cluster, 400), Outcome { writes: vec![], again: Some(at(600)) });
    apply_at(&mut cluster, [lease("a", 2)], at(900));
    // The same lease again is no sign of life.
    apply_at(&mut cluster, [lease("a", 2)], at(1500));
    assert_eq!(look(&mut cluster, 1899), Outcome { writes: vec![], again: Some(at(1)) });
    let dead = look(&mut cluster, 1900);
    assert_eq!(describe(&dead), ["a is silent", "Pod default/web Ready=False"]);
    assert_eq!(dead.again, Some(at(5000)));
    let evicting = look(&mut cluster, 6900);
    let evictions = ["evict default/idle Some(0)", "evict default/web Some(0)"];
    assert_eq!(describe(&evicting)[2..], evictions);

    apply_at(&mut cluster, [lease("a", 3)], at(7000));
    assert_eq!(look(&mut cluster, 7000), Outcome { writes: vec![], again: Some(at(1000)) });
}

#[test]
fn a_node_that_says_that_it_is_not_ready_loses_its_pods_gracefully() {
    let settings = quick();
    let mut cluster = zone(&["a", "b"], &[]);
    let tolerant = |name: &str, seconds: Value| {
        let mut pod = pod(name, Some("a"), Some("10.0.0.3"), true);
        let key = NOT_READY[0];
        pod["spec"]["tolerations"] = json!([
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds},
        ]);
        pod
    };
    let pods = [
        tolerant("usual", json!(300)),
        tolerant("hasty", json!(2)),
        tolerant("patient", json!(9)),
        tolerant("faithful", json!(null)),
    ];
    apply_at(&mut cluster, pods, at(0));
    apply_at(&mut cluster, [said("a", "False", 2)], at(1000));
    for (time, expected) in [
        (1000, vec![]),
        (2999, vec![]),
        (3000, vec!["hasty"]),
        (6000, vec!["a", "hasty", "usual"]),
        (10_000, vec!["a", "hasty", "patient", "usual"]),
    ] {
        apply_at(&mut cluster, [lease("a", time / 1000), lease("b", time / 1000)], at(time.into()));
        let outcome = plan(&mut cluster, "a", &settings, at(time.into()));
        let expected: Vec<_> =
            expected.iter().map(|name| format!("evict default/{name} None")).collect();
        assert_eq!(describe(&outcome), expected, "{time}");
        assert!(outcome.again.is_some_and(|again| again <= at(1000)), "{outcome:?}");
    }
    apply_at(&mut cluster, [well("a", 3)], at(10_000));
    assert_eq!(deletions(&plan(&mut cluster, "a", &settings, at(10_000))), 0);
}

#[test]
fn the_first_lease_makes_the_controller_look_again_others_do_not() {
    let mut cluster = Cluster::default();
    apply_at(&mut cluster, [node("a", json!({}))], at(0));
    cluster.take_dirty();
    for (renewal, marked) in [(1, true), (2, false), (3, false)] {
        apply_at(&mut cluster, [lease("a", renewal)], at(100));
        let dirty = cluster.take_dirty();
        assert_eq!(dirty.contains(&crate::task::Task::NodeLife("a".into())), marked);
    }
}

#[test]
fn a_node_that_says_it_is_ready_is_believed_before_its_lease_is_renewed() {
    let settings = quick();
    let mut cluster = Cluster::default();
    let state = |status: &str, version: &str| {
        node(
            "a",
            json!({
                "metadata": {"resourceVersion": version},
                "status": {"conditions": [{"type": "Ready", "status": status}]},
            }),
        )
    };
    apply_at(&mut cluster, [state("True", "1"), lease("a", 1)], at(0));
    assert_eq!(plan(&mut cluster, "a", &settings, at(1000)).writes.len(), 1);
    apply_at(&mut cluster, [state("Unknown", "3")], at(1000));
    // Late news from before.
    apply_at(&mut cluster, [state("True", "2")], at(1001));
    assert!(cluster.pulse("a").is_some_and(|pulse| pulse.silent));
    apply_at(&mut cluster, [state("True", "4")], at(1002));
    let outcome = plan(&mut cluster, "a", &settings, at(1002));
    assert_eq!(outcome, Outcome { writes: vec![], again: Some(at(1000)) });
}

#[test]
fn after_an_outage_of_the_api_everybody_has_time_again() {
    let settings = quick();
    let mut cluster = Cluster::default();
    apply_at(&mut cluster, [node("a", json!({})), lease("a", 1)], at(0));
    cluster.pardon(at(60_000));
    let outcome = plan(&mut cluster, "a", &settings, at(60_500));
    assert_eq!(outcome, Outcome { writes: vec![], again: Some(at(500)) });
}

#[test]
fn pods_of_a_deleted_node_go_and_it_is_forgotten() {
    let settings = quick();
    let mut cluster = Cluster::default();
    apply_at(&mut cluster, [node("a", json!({}))], at(0));
    apply_at(&mut cluster, [pod("web", Some("a"), Some("10.244.0.2"), true)], at(0));
    cluster.remove(Kind::NODE, &ObjectKey::new("", "a"), at(0));
    let evicting = plan(&mut cluster, "a", &settings, at(65_000));
    assert_eq!(describe(&evicting), ["delete default/web Some(0)"]);
    cluster.remove(Kind::POD, &ObjectKey::new("default", "web"), at(65_001));
    assert_eq!(plan(&mut cluster, "a", &settings, at(65_002)), Outcome::default());
    assert_eq!(cluster.pulse("a"), None);
}

#[test]
fn a_pod_on_a_node_that_does_not_exist_is_replaced() {
    let settings = quick();
    let mut cluster = Cluster::default();
    apply_at(&mut cluster, [pod("web", Some("ghost"), None, false)], at(0));
    assert_eq!(plan(&mut cluster, "ghost", &settings, at(0)).again, Some(at(6000)));
    let outcome = plan(&mut cluster, "ghost", &settings, at(6000));
    assert_eq!(describe(&outcome), ["delete default/web Some(0)"]);
}
