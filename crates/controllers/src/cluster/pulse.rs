//! Signs of life of the nodes.

use super::Cluster;
use crate::task::Task;
use std::collections::BTreeMap;
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
    /// Since when it says itself that it is not ready.
    pub(crate) unready: Option<Duration>,
    turn: Turn,
    renewed: Option<String>,
    heartbeat: Option<String>,
}

/// Nodes of a zone lose their pods one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    /// It is not dead for long enough.
    #[default]
    NotYet,
    /// Others of its zone have to become ready before.
    Waits,
    Has,
}

/// Regions and zones, and when the last of their nodes began to lose its pods.
pub(super) type Turns = BTreeMap<[Option<String>; 2], Duration>;

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
        let (turn, renewed, heartbeat) = (Turn::NotYet, None, None);
        Pulse { heard: now, leased: false, silent: false, unready: None, turn, renewed, heartbeat }
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
        let Some(pulse) = self.pulses.get_mut(node) else { return };
        if !std::mem::replace(&mut pulse.silent, true) {
            self.dirty.insert(Task::TaintEviction(node.into()));
        }
    }

    /// No node could write, or nobody listened: all of them get their full time again.
    pub(crate) fn pardon(&mut self, now: Duration) {
        for pulse in self.pulses.values_mut() {
            pulse.heard = now;
            pulse.unready = pulse.unready.map(|_| now);
        }
    }

    /// No node was ready when we last looked.
    pub(crate) fn is_dark(&self) -> bool {
        self.dark
    }

    /// No node is ready: whoever had his turn has it no longer.
    pub(crate) fn darken(&mut self) {
        if std::mem::replace(&mut self.dark, true) {
            return;
        }
        for (name, pulse) in &mut self.pulses {
            pulse.turn = Turn::Waits;
            self.dirty.insert(Task::NodeLife(name.clone()));
        }
    }

    /// Some node is ready again. The others have time to say so, too.
    pub(crate) fn lighten(&mut self, now: Duration) {
        self.dark = false;
        self.pardon(now);
        self.touch_waiting();
    }

    /// Has the pod go at this time, unless one was set before; gives back the time that holds.
    pub(crate) fn mark_eviction(&mut self, uid: &str, time: Duration) -> Duration {
        *self.marked.entry(uid.to_owned()).or_insert(time)
    }

    /// The pod may stay; true: it was to go.
    pub(crate) fn unmark_eviction(&mut self, uid: &str) -> bool {
        self.marked.remove(uid).is_some()
    }

    /// How long a dead node has to wait until its pods may go, where `pause` lies between any two of its zone; `None`:
    /// until others of its zone are ready. One that has had its turn keeps it until it is heard of.
    pub(crate) fn take_turn(
        &mut self,
        name: &str,
        pause: Option<Duration>,
        now: Duration,
    ) -> Option<Duration> {
        let zone = self.nodes.get(name)?.failure_domain().map(|part| part.map(str::to_owned));
        let pulse = self.pulses.get_mut(name)?;
        if pulse.turn == Turn::Has {
            return Some(Duration::ZERO);
        }
        let Some(pause) = pause else {
            pulse.turn = Turn::Waits;
            return None;
        };
        let next = self.turns.get(&zone).map_or(now, |last| *last + pause);
        if next <= now {
            pulse.turn = Turn::Has;
            self.turns.insert(zone, now);
        }
        Some(next.saturating_sub(now))
    }

    /// Other nodes are ready or gone: those who wait for that may have their turn.
    pub(super) fn touch_waiting(&mut self) {
        let waiting = self.pulses.iter().filter(|(_, pulse)| pulse.turn == Turn::Waits);
        self.dirty.extend(waiting.map(|(name, _)| Task::NodeLife(name.clone())));
    }

    /// Forgets a node that is gone with all its pods.
    pub(crate) fn bury(&mut self, node: &str) {
        self.pulses.remove(node);
    }

    /// What the node says of itself; of one that nobody hears of, what it said last.
    pub(super) fn note_readiness(
        &mut self,
        node: &Arc<str>,
        readiness: Option<&str>,
        now: Duration,
    ) {
        let pulse = self.watched_pulse(node, now);
        match readiness {
            Some("False") => drop(pulse.unready.get_or_insert(now)),
            Some("True") if pulse.unready.take().is_some() => pulse.turn = Turn::NotYet,
            _ => {}
        }
    }

    pub(super) fn hear(&mut self, node: &Arc<str>, sign: Sign, now: Duration) {
        let pulse = self.watched_pulse(node, now);
        let leased = pulse.leased;
        if pulse.feel(sign) {
            pulse.heard = now;
            // One that is heard of and is not well keeps its turn.
            if pulse.unready.is_none() {
                pulse.turn = Turn::NotYet;
            }
            // With its first Lease the deadline comes nearer than when it was last looked at.
            if std::mem::take(&mut pulse.silent) || pulse.leased != leased {
                self.dirty.insert(Task::NodeLife(node.clone()));
            }
        }
    }

    /// A pod changed on the node: one that is dead or gone must not have pods that look alive.
    pub(super) fn mind(&mut self, node: &Arc<str>, now: Duration) {
        let pulse = self.watched_pulse(node, now);
        if pulse.silent || pulse.unready.is_some() {
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
