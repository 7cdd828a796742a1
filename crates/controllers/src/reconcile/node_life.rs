//! How nodes are, said in their taints; dead nodes: not ready, their pods out of traffic.
//!
//! Pods go by the taints, which is `taint_eviction`'s work.

use super::disruption;
use super::status::earliest;
use crate::cluster::{Cluster, Turnover};
use crate::record::{Node, Pod};
use crate::settings::Settings;
use crate::taints::{NOT_READY, Taints, UNSCHEDULABLE};
use crate::write::{Condition, Outcome, Write};
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
    let left = deadline.saturating_sub(uptime);
    let silent = left.is_zero();
    if silent {
        cluster.silence(name);
    }
    let unready = cluster.pulse(name).is_some_and(|pulse| pulse.unready.is_some());
    if (silent || unready) && disruption::is_total(cluster, settings, uptime) {
        cluster.darken();
    }
    if cluster.node(name).is_none() {
        return without_node(cluster, name, deadline + settings.pod_eviction, uptime);
    }
    let (taints, wait) = taint(cluster, name, silent, settings, uptime);
    let mut writes: Vec<_> = taints.into_iter().collect();
    if silent {
        writes.extend(mark_unknown(cluster, name));
        writes.extend(cluster.pods_on(name).filter(|pod| pod.base.ready).map(mark_not_ready));
    }
    Outcome { writes, again: earliest(wait, (!silent).then_some(left)) }
}

/// Pods of a node that does not exist go by force after a while: there is no kubelet that would confirm their end.
fn without_node(cluster: &mut Cluster, name: &str, end: Duration, uptime: Duration) -> Outcome {
    let gone = |pod: &Pod| Write::Delete {
        kind: Kind::POD,
        key: pod.base.meta.key.clone(),
        grace: Some(0),
    };
    let mut pods = cluster.pods_on(name).filter(|pod| !pod.mirror).peekable();
    match end.saturating_sub(uptime) {
        Duration::ZERO if pods.peek().is_some() => pods.map(gone).collect::<Vec<_>>().into(),
        left if pods.peek().is_some() => Outcome { writes: Vec::new(), again: Some(left) },
        _ => {
            drop(pods);
            cluster.bury(name);
            Outcome::default()
        }
    }
}

/// How a node is, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It has said nothing yet.
    Starting,
    Ready,
    /// It says so itself.
    NotReady,
    Unreachable,
}

impl Health {
    fn of(node: &Node, silent: bool) -> Self {
        match node.readiness.as_deref() {
            _ if silent => Health::Unreachable,
            Some("True") => Health::Ready,
            Some("Unknown") => Health::Unreachable,
            Some(_) => Health::NotReady,
            None => Health::Starting,
        }
    }

    /// The API server gives each new node the taint of one that is not ready.
    fn keeps_away(self) -> Option<&'static str> {
        match self {
            Health::Ready => None,
            Health::Starting | Health::NotReady => Some(NOT_READY[0]),
            Health::Unreachable => Some(NOT_READY[1]),
        }
    }

    fn drives_away(self) -> Option<&'static str> {
        self.keeps_away().filter(|_| self != Health::Starting)
    }
}

/// The taints that say how the node is, where they say something else, and how long until the next look.
fn taint(
    cluster: &mut Cluster,
    name: &str,
    silent: bool,
    settings: &Settings,
    uptime: Duration,
) -> (Option<Write>, Option<Duration>) {
    let Some(node) = cluster.node(name).cloned() else { return (None, None) };
    let health = Health::of(&node, silent);
    let (no_execute, wait) = match health.drives_away() {
        // Where no node is ready it is rather us who are cut off.
        Some(_) if cluster.is_dark() => (None, None),
        Some(key) if node.driving().any(|taint| NOT_READY.contains(&&*taint.key)) => {
            (Some(key), None)
        }
        // Whoever said so, as our predecessor, has not told us since when.
        Some(_) if health == Health::Unreachable && !silent => (None, None),
        Some(key) => match turn(cluster, &node, settings, uptime) {
            Some(Duration::ZERO) => (Some(key), None),
            wait => (None, wait),
        },
        None => (None, None),
    };
    let mut no_schedule: Vec<_> = health.keeps_away().into_iter().collect();
    no_schedule.extend(&node.pressures);
    no_schedule.extend(node.cordoned.then_some(UNSCHEDULABLE));
    let taints = Taints { no_schedule, no_execute };
    let listed = node.taints.iter().map(|taint| (&*taint.key, taint.effect.name()));
    let uid = node.base.meta.uid.clone();
    let write = (!taints.are_among(listed)).then(|| Write::SetTaints {
        node: ObjectKey::new("", name),
        uid,
        taints,
    });
    (write, wait)
}

/// How long until the node may lose its pods; `None`: not before other nodes are better.
fn turn(
    cluster: &mut Cluster,
    node: &Node,
    settings: &Settings,
    uptime: Duration,
) -> Option<Duration> {
    let pause = disruption::pause(cluster, node, settings, uptime);
    cluster.take_turn(node.name(), pause, uptime)
}

fn mark_unknown(cluster: &Cluster, name: &str) -> Option<Write> {
    let node = cluster.node(name).filter(|node| !node.is_unknown())?;
    Some(Write::Silence { node: ObjectKey::new("", name), uid: node.base.meta.uid.clone() })
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

#[cfg(test)]
mod tests;
