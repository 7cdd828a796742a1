//! The taints that say how a node is.

use crate::record::stamp;
use jiff::Timestamp;
use serde_json::{Value, json};

/// One that says that it is not ready, or has never said anything else, and one that is silent.
pub(crate) const NOT_READY: [&str; 2] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions of a node that are taints when they are True.
pub(crate) const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The keys of a node's taints of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Taints {
    pub(crate) no_schedule: Vec<&'static str>,
    /// Drives pods away.
    pub(crate) no_execute: Option<&'static str>,
}

/// Whether a taint is ours to write.
pub(crate) fn is_ours(key: &str, effect: &str) -> bool {
    match effect {
        "NoSchedule" => {
            let pressure = || PRESSURES.iter().any(|(_, taint)| *taint == key);
            NOT_READY.contains(&key) || key == UNSCHEDULABLE || pressure()
        }
        "NoExecute" => NOT_READY.contains(&key),
        _ => false,
    }
}

impl Taints {
    fn wanted(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let no_schedule = self.no_schedule.iter().map(|key| (*key, "NoSchedule"));
        no_schedule.chain(self.no_execute.map(|key| (key, "NoExecute")))
    }

    /// These and no others of ours are among them.
    pub(crate) fn are_among<'a>(&self, listed: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let mut listed: Vec<_> = listed.filter(|(key, effect)| is_ours(key, effect)).collect();
        let mut wanted: Vec<(&str, &str)> = self.wanted().collect();
        listed.sort_unstable();
        wanted.sort_unstable();
        listed == wanted
    }

    /// The list with these and no others of ours, or `None` where it is so already.
    pub(crate) fn set_in(&self, taints: &[Value], now: Timestamp) -> Option<Vec<Value>> {
        fn key(taint: &Value) -> (&str, &str) {
            let text = |field: &str| taint[field].as_str().unwrap_or_default();
            (text("key"), text("effect"))
        }
        if self.are_among(taints.iter().map(key)) {
            return None;
        }
        let stays = |taint: &&Value| {
            let (name, effect) = key(taint);
            !is_ours(name, effect) || self.wanted().any(|wanted| wanted == (name, effect))
        };
        let mut kept: Vec<_> = taints.iter().filter(stays).cloned().collect();
        for (name, effect) in self.wanted() {
            if !kept.iter().any(|taint| key(taint) == (name, effect)) {
                kept.push(json!({"key": name, "effect": effect, "timeAdded": stamp(now)}));
            }
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_taints_are_touched() {
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let added = |key: &str, effect: &str| json!({"key": key, "effect": effect, "timeAdded": "1970-01-01T00:00:10Z"});
        let other = json!({"key": "mine", "effect": "NoExecute", "value": "x"});
        let theirs = taint(UNSCHEDULABLE, "NoExecute");
        let [not_ready, unreachable] = NOT_READY;
        let wanted = |no_schedule: &[&'static str], no_execute| Taints {
            no_schedule: no_schedule.to_vec(),
            no_execute,
        };
        let rows = [
            (vec![], wanted(&[], None), None),
            (vec![other.clone()], wanted(&[], None), None),
            (vec![taint(not_ready, "NoSchedule")], wanted(&[], None), Some(vec![])),
            (vec![taint(not_ready, "NoSchedule")], wanted(&[not_ready], None), None),
            (
                vec![taint(not_ready, "NoExecute"), taint(not_ready, "NoSchedule")],
                wanted(&[not_ready], Some(not_ready)),
                None,
            ),
            (
                vec![taint(not_ready, "NoSchedule")],
                wanted(&[not_ready, UNSCHEDULABLE], None),
                Some(vec![taint(not_ready, "NoSchedule"), added(UNSCHEDULABLE, "NoSchedule")]),
            ),
            (
                vec![taint(not_ready, "NoExecute"), other.clone(), theirs.clone()],
                wanted(&[unreachable, PRESSURES[0].1], Some(unreachable)),
                Some(vec![
                    other,
                    theirs,
                    added(unreachable, "NoSchedule"),
                    added(PRESSURES[0].1, "NoSchedule"),
                    added(unreachable, "NoExecute"),
                ]),
            ),
        ];
        let now = Timestamp::from_second(10).unwrap();
        for (taints, wanted, expected) in rows {
            assert_eq!(wanted.set_in(&taints, now), expected, "{taints:?} {wanted:?}");
        }
    }
}
