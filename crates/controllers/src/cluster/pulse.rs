//! Signs of life of the nodes.

use super::Cluster;
use crate::task::Task;
use std::sync::Arc;
use std::time::Duration;

/// Namespace of the nodes' Leases.
pub(crate) const LEASES: &str = "kube-node-lease";

/// When a node was last heard of. Only *changes* of its Lease count, by our own clock: clocks of nodes may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) heard: Duration,
    /// It has a Lease, so its kubelet once ran.
    pub(crate) leased: bool,
    /// We hold it to be dead.
    pub(crate) silent: bool,
    renewed: Option<String>,
    heartbeat: Option<String>,
}

/// Something a kubelet writes now and then.
pub(super) enum Sign {
    /// `renewTime` of the Lease.
    Lease(String),
    /// `lastHeartbeatTime` of the node's Ready condition.
    Heartbeat(Option<String>),
    /// It says that it is ready, or not, after we said that nobody knows.
    Contradiction,
}

impl Pulse {
    pub(super) fn new(now: Duration) -> Self {
        Pulse { heard: now, leased: false, silent: false, renewed: None, heartbeat: None }
    }

    /// True for a sign not seen before.
    fn feel(&mut self, sign: Sign) -> bool {
        match sign {
            Sign::Lease(time) => {
                self.leased = true;
                self.renewed.replace(time.clone()) != Some(time)
            }
            Sign::Contradiction => true,
            Sign::Heartbeat(None) => false,
            Sign::Heartbeat(time) => std::mem::replace(&mut self.heartbeat, time.clone()) != time,
        }
    }
}

impl Cluster {
    pub(crate) fn pulse(&self, node: &str) -> Option<&Pulse> {
        self.pulses.get(node)
    }

    /// Holds the node to be dead until it is heard of again.
    pub(crate) fn silence(&mut self, node: &str) {
        if let Some(pulse) = self.pulses.get_mut(node) {
            pulse.silent = true;
        }
    }

    /// No node could write, or nobody listened: all of them get their full time again.
    pub(crate) fn pardon(&mut self, now: Duration) {
        for pulse in self.pulses.values_mut() {
            pulse.heard = now;
        }
    }

    /// Forgets a node that is gone with all its pods.
    pub(crate) fn bury(&mut self, node: &str) {
        self.pulses.remove(node);
    }

    pub(super) fn hear(&mut self, node: &Arc<str>, sign: Sign, now: Duration) {
        let pulse = self.watched_pulse(node, now);
        let leased = pulse.leased;
        if pulse.feel(sign) {
            pulse.heard = now;
            // With its first Lease the deadline comes nearer than when it was last looked at.
            if std::mem::take(&mut pulse.silent) || pulse.leased != leased {
                self.dirty.insert(Task::NodeLife(node.clone()));
            }
        }
    }

    /// A pod changed on the node: one that is dead or gone must not have pods that look alive.
    pub(super) fn mind(&mut self, node: &Arc<str>, now: Duration) {
        if self.watched_pulse(node, now).silent {
            self.dirty.insert(Task::NodeLife(node.clone()));
        }
    }

    fn watched_pulse(&mut self, node: &Arc<str>, now: Duration) -> &mut Pulse {
        let dirty = &mut self.dirty;
        self.pulses.entry(node.clone()).or_insert_with(|| {
            dirty.insert(Task::NodeLife(node.clone()));
            Pulse::new(now)
        })
    }
}
