//! Taints that drive pods away, whoever wrote them → these pods deleted, each when its patience is over.

use super::status::earliest;
use crate::cluster::Cluster;
use crate::event::About;
use crate::record::{Pod, Taint};
use crate::settings::Settings;
use crate::taints::NOT_READY;
use crate::write::{Outcome, Write};
use client::Kind;
use std::time::Duration;

pub(super) fn plan(
    cluster: &mut Cluster,
    name: &str,
    settings: &Settings,
    uptime: Duration,
) -> Outcome {
    let Some(node) = cluster.node(name) else { return forget(cluster, name) };
    let taints: Vec<_> = node.driving().cloned().collect();
    let silent = cluster.pulse(name).is_some_and(|pulse| pulse.silent);
    let pods: Vec<_> = cluster.pods_on(name).cloned().collect();
    let mut outcome = Outcome::default();
    for pod in &pods {
        let uid = &pod.base.meta.uid;
        let Some(patience) = patience(pod, &taints, settings) else {
            let cancelled = cluster.unmark_eviction(uid) && !pod.base.meta.terminating;
            outcome.writes.extend(cancelled.then(|| tell_cancelled(pod)));
            continue;
        };
        if patience.is_zero() {
            cluster.unmark_eviction(uid);
        }
        let time = cluster.mark_eviction(uid, uptime + patience);
        match time.saturating_sub(uptime) {
            Duration::ZERO => outcome.writes.extend(evict(pod, silent)),
            left => outcome.again = earliest(outcome.again, Some(left)),
        }
    }
    outcome
}

/// Its pods have all their time again, should a node of this name come back.
fn forget(cluster: &mut Cluster, name: &str) -> Outcome {
    let uids: Vec<_> = cluster.pods_on(name).map(|pod| pod.base.meta.uid.clone()).collect();
    for uid in uids {
        cluster.unmark_eviction(&uid);
    }
    Outcome::default()
}

/// How long the pod bears the taints; `None`: for ever. What the API server lets pods say that say nothing is for the
/// settings to change.
fn patience(pod: &Pod, taints: &[Taint], settings: &Settings) -> Option<Duration> {
    const UNSAID: Duration = Duration::from_secs(300);
    let mut shortest = None;
    for taint in taints {
        let Some(toleration) = taint.tolerations_of(pod).next() else {
            return Some(Duration::ZERO);
        };
        let said = |period: Duration| {
            let is_unsaid = period == UNSAID && NOT_READY.contains(&&*taint.key);
            if is_unsaid { settings.pod_eviction } else { period }
        };
        shortest = earliest(shortest, toleration.period.map(said));
    }
    shortest
}

/// Of a node that is silent by force: the kubelet that would confirm a graceful end is dead. But of a StatefulSet's pod
/// there must never be two, and a node that is silent may still run it.
fn evict(pod: &Pod, silent: bool) -> Option<Write> {
    let meta = &pod.base.meta;
    let is_single = pod.owner.as_ref().is_some_and(|owner| owner.kind == "StatefulSet");
    let grace = (silent && !is_single).then_some(0);
    if meta.terminating {
        // It waits for a kubelet.
        let key = meta.key.clone();
        return grace.map(|_| Write::Delete { kind: Kind::POD, key, grace });
    }
    Some(Write::Evict { pod: meta.key.clone(), uid: meta.uid.clone(), grace })
}

fn tell_cancelled(pod: &Pod) -> Write {
    let message = format!("Cancelling deletion of Pod {}", pod.base.meta.key);
    let about = About::new(Kind::POD, &pod.base.meta);
    Write::Tell(about.normal("taint-eviction-controller", "TaintManagerEviction", message))
}

#[cfg(test)]
mod tests;
