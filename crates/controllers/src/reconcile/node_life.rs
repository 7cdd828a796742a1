//! Dead nodes: not ready, their pods out of traffic, and later away.

use super::disruption;
use super::status::earliest;
use crate::cluster::{Cluster, Turnover};
use crate::record::{Effect, Pod, Taint};
use crate::settings::Settings;
use crate::write::{Condition, NOT_READY, Outcome, Write};
use client::Kind;
use model::ObjectKey;
use std::time::Duration;

/// When the node counts as dead if nothing is heard of it; `None`: not watched.
///
/// A Node object without a Lease has a kubelet that may yet start; a node that pods name and that does not exist
/// (scheduled to while it was being deleted) has none.
pub(crate) fn deadline(cluster: &Cluster, name: &str, settings: &Settings) -> Option<Duration> {
    let pulse = cluster.pulse(name)?;
    let starting = !pulse.leased && cluster.node(name).is_some();
    let grace = if starting { settings.node_startup_grace } else { settings.node_monitor_grace };
    Some(pulse.heard + grace)
}

/// What people hear of a node that came or went.
pub(super) fn enrol(cluster: &mut Cluster, name: &str) -> Option<Write> {
    let (about, reason, what) = match cluster.turnover(name)? {
        Turnover::Came(about) => (about, "RegisteredNode", format!("Registered Node {name} in")),
        Turnover::Went(about) => (about, "RemovingNode", format!("Removing Node {name} from")),
    };
    let message = format!("Node {name} event: {what} Controller");
    Some(Write::Tell(about.normal("node-controller", reason, message)))
}

/// The caller has made sure, where the deadline is over, that the API really has no newer sign of life.
pub(super) fn plan(
    cluster: &mut Cluster,
    name: &str,
    settings: &Settings,
    uptime: Duration,
) -> Outcome {
    if cluster.is_dark() && !disruption::is_total(cluster, settings, uptime) {
        cluster.lighten(uptime);
    }
    let Some(deadline) = deadline(cluster, name, settings) else { return Outcome::default() };
    if uptime >= deadline {
        cluster.silence(name);
    }
    let unready = cluster.pulse(name).and_then(|pulse| pulse.unready);
    if (uptime >= deadline || unready.is_some()) && disruption::is_total(cluster, settings, uptime)
    {
        cluster.darken();
    }
    if uptime < deadline {
        let mut outcome =
            Outcome::from(taint(cluster, name, false).into_iter().collect::<Vec<_>>());
        if let Some(since) = unready {
            let (pods, wait) = leaving(cluster, name, Cause::SaysSo, since, settings, uptime);
            outcome.writes.extend(pods.iter().map(|pod| delete(pod, None)));
            outcome.again = wait;
        }
        outcome.again = earliest(outcome.again, Some(deadline - uptime));
        return outcome;
    }
    if cluster.node(name).is_none() && cluster.pods_on(name).next().is_none() {
        cluster.bury(name);
        return Outcome::default();
    }
    let mut writes: Vec<_> = mark_unknown(cluster, name).into_iter().collect();
    writes.extend(taint(cluster, name, true));
    let (pods, again) = leaving(cluster, name, Cause::Silent, deadline, settings, uptime);
    writes.extend(pods.iter().map(evict));
    let stays = |pod: &&Pod| pods.iter().all(|it| it.base.meta.uid != pod.base.meta.uid);
    let ready = cluster.pods_on(name).filter(|pod| pod.base.ready);
    writes.extend(ready.filter(stays).map(mark_not_ready));
    Outcome { writes, again }
}

/// Why pods leave a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    SaysSo,
    Silent,
}

impl Cause {
    /// What a pod has to tolerate to stay, in the words of its specification.
    fn taint(self) -> Taint {
        Taint::no_execute(match self {
            Cause::SaysSo => NOT_READY[0],
            Cause::Silent => NOT_READY[1],
        })
    }
}

/// The pods that leave a node now that has not been well since some moment, and how long until the next look.
fn leaving(
    cluster: &mut Cluster,
    name: &str,
    cause: Cause,
    since: Duration,
    settings: &Settings,
    uptime: Duration,
) -> (Vec<Pod>, Option<Duration>) {
    let (mut due, mut wait) = (Vec::new(), None);
    for pod in cluster.pods_on(name).filter(|pod| is_evictable(pod)) {
        let Some(patience) = patience(pod, &cause.taint(), settings) else { continue };
        match (since + patience).saturating_sub(uptime) {
            Duration::ZERO => due.push(pod.clone()),
            left => wait = earliest(wait, Some(left)),
        }
    }
    if due.is_empty() {
        return (due, wait);
    }
    match turn(cluster, name, settings, uptime) {
        Some(Duration::ZERO) => (due, wait),
        pause => (Vec::new(), earliest(wait, pause)),
    }
}

/// How long the pod stays; `None`: for ever. What the API server lets pods say that say nothing is for the settings to
/// change.
fn patience(pod: &Pod, taint: &Taint, settings: &Settings) -> Option<Duration> {
    const UNSAID: Duration = Duration::from_secs(300);
    let mut periods = taint.tolerations_of(pod).map(|toleration| toleration.period).peekable();
    if periods.peek().is_none() {
        return Some(settings.pod_eviction);
    }
    periods
        .flatten()
        .min()
        .map(|period| if period == UNSAID { settings.pod_eviction } else { period })
}

/// How long until the node's pods may go; `None`: not before other nodes are better.
fn turn(
    cluster: &mut Cluster,
    name: &str,
    settings: &Settings,
    uptime: Duration,
) -> Option<Duration> {
    // Nobody will ever hear of a node that does not exist: its pods are none of a zone's.
    let Some(node) = cluster.node(name) else { return Some(Duration::ZERO) };
    let pause =
        if cluster.is_dark() { None } else { disruption::pause(cluster, node, settings, uptime) };
    cluster.take_turn(name, pause, uptime)
}

/// The taint by which kube-scheduler knows that a node takes no pods. The API server gives each new node one.
fn taint(cluster: &Cluster, name: &str, silent: bool) -> Option<Write> {
    let node = cluster.node(name)?;
    let wanted = match node.readiness.as_deref() {
        _ if silent => Some(NOT_READY[1]),
        Some("True") => None,
        Some("Unknown") => Some(NOT_READY[1]),
        _ => Some(NOT_READY[0]),
    };
    let found = node.taints.iter().filter(|taint| {
        taint.effect == Effect::NoSchedule && NOT_READY.contains(&taint.key.as_str())
    });
    if found.map(|taint| taint.key.as_str()).eq(wanted) {
        return None;
    }
    let uid = node.base.meta.uid.clone();
    Some(Write::SetTaint { node: ObjectKey::new("", name), uid, taint: wanted })
}

fn mark_unknown(cluster: &Cluster, name: &str) -> Option<Write> {
    let node = cluster.node(name).filter(|node| !node.is_unknown())?;
    Some(Write::SetCondition {
        kind: Kind::NODE,
        key: ObjectKey::new("", name),
        uid: node.base.meta.uid.clone(),
        condition: Condition {
            kind: "Ready",
            status: "Unknown",
            reason: "NodeStatusUnknown",
            message: "Kubelet stopped posting node status.".to_owned(),
        },
    })
}

fn mark_not_ready(pod: &Pod) -> Write {
    Write::SetCondition {
        kind: Kind::POD,
        key: pod.base.meta.key.clone(),
        uid: pod.base.meta.uid.clone(),
        condition: Condition {
            kind: "Ready",
            status: "False",
            reason: "NodeNotReady",
            message: "The node does not answer.".to_owned(),
        },
    }
}

/// A daemon's pod would come back to the same node, a mirror pod is the kubelet's own.
fn is_evictable(pod: &Pod) -> bool {
    !pod.mirror && pod.owner.as_ref().is_none_or(|owner| owner.kind != "DaemonSet")
}

/// By force: the kubelet that would confirm a graceful end is dead. But of a StatefulSet's pod there must never be two,
/// and a node that is silent may still run it.
fn evict(pod: &Pod) -> Write {
    let is_single = pod.owner.as_ref().is_some_and(|owner| owner.kind == "StatefulSet");
    delete(pod, if is_single { None } else { Some(0) })
}

fn delete(pod: &Pod, grace: Option<u32>) -> Write {
    Write::Delete { kind: Kind::POD, key: pod.base.meta.key.clone(), grace }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{apply_at, lease, node, pod};
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
        outcome.writes.iter().filter(|write| matches!(write, Write::Delete { .. })).count()
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
        assert_eq!(look("a", 5999), (0, Some(at(1))));
        assert_eq!(look("a", 6000), (1, None));
        assert_eq!(look("b", 6000), (0, Some(at(300))));
        assert_eq!(look("a", 6100), (1, None), "it had its turn");
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
        assert_eq!(deletions(&plan(&mut cluster, "a", &settings, at(6100))), 1);
    }

    /// All but the taints.
    fn plan(cluster: &mut Cluster, name: &str, settings: &Settings, uptime: Duration) -> Outcome {
        let mut outcome = super::plan(cluster, name, settings, uptime);
        outcome.writes.retain(|write| !matches!(write, Write::SetTaint { .. }));
        outcome
    }

    #[test]
    fn a_node_that_is_not_ready_is_tainted() {
        let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
        for (status, time, expected) in [
            (json!({}), 100, Some(NOT_READY[0])),
            (ready("False"), 100, Some(NOT_READY[0])),
            (ready("Unknown"), 100, Some(NOT_READY[1])),
            (ready("True"), 100, None),
            (ready("True"), 1100, Some(NOT_READY[1])),
        ] {
            let mut cluster = Cluster::default();
            let mut object = node("a", json!({}));
            object["status"] = status.clone();
            apply_at(&mut cluster, [object, lease("a", 1)], at(0));
            let outcome = super::plan(&mut cluster, "a", &quick(), at(time));
            let taints = outcome.writes.iter().filter_map(|write| match write {
                Write::SetTaint { taint, .. } => Some(*taint),
                _ => None,
            });
            assert_eq!(taints.flatten().next(), expected, "{status} {time}");
        }
    }

    fn describe(outcome: &Outcome) -> Vec<String> {
        let line = |write: &Write| match write {
            Write::SetCondition { kind, key, condition, .. } => {
                format!("{kind} {key} {}={}", condition.kind, condition.status)
            }
            Write::Delete { key, grace, .. } => format!("delete {key} {grace:?}"),
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
        assert_eq!(describe(&dead), ["Node a Ready=Unknown", "Pod default/web Ready=False"]);
        assert_eq!(dead.again, Some(at(5000)));
        let evicting = look(&mut cluster, 6900);
        let deletions = ["delete default/idle Some(0)", "delete default/web Some(0)"];
        assert_eq!(describe(&evicting)[1..], deletions);

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
            (2999, vec![]),
            (3000, vec!["hasty"]),
            (6000, vec!["a", "hasty", "usual"]),
            (10_000, vec!["a", "hasty", "patient", "usual"]),
        ] {
            apply_at(
                &mut cluster,
                [lease("a", time / 1000), lease("b", time / 1000)],
                at(time.into()),
            );
            let outcome = plan(&mut cluster, "a", &settings, at(time.into()));
            let expected: Vec<_> =
                expected.iter().map(|name| format!("delete default/{name} None")).collect();
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
        assert_eq!(plan(&mut cluster, "ghost", &settings, at(0)).again, Some(at(1000)));
        let outcome = plan(&mut cluster, "ghost", &settings, at(6000));
        assert_eq!(describe(&outcome), ["delete default/web Some(0)"]);
    }
}
