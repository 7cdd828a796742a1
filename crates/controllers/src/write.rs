//! What a reconcile wants written.

use crate::bond::Bond;
use crate::claim::Claimant;
use crate::event::Event;
use crate::record::stamp;
use crate::taints::Taints;
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Value, json};

/// One write. The writes of one reconcile go out together, in any order, but that [`Write::Ensure`] and [`Write::Entrust`] come
/// first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    Create(Value),
    /// Creates the object where there is none of its name; one that is there stays as it is. Others need it.
    Ensure(Value),
    /// JSON merge patch; with `metadata.resourceVersion` in it only if nobody else wrote since.
    Patch {
        kind: Kind,
        key: ObjectKey,
        patch: Value,
    },
    /// JSON merge patch of the status subresource: `{"status": …}`.
    PatchStatus {
        kind: Kind,
        key: ObjectKey,
        patch: Value,
    },
    /// Changes one of the object's conditions and leaves the others to their writers.
    SetCondition {
        kind: Kind,
        key: ObjectKey,
        /// Not another object of the same name.
        uid: String,
        condition: Condition,
    },
    /// Says in the node's taints how it is, and leaves those of others to them.
    SetTaints {
        node: ObjectKey,
        /// Not another node of the same name.
        uid: String,
        taints: Taints,
    },
    /// Says in the node's conditions that nobody hears of it.
    Silence {
        node: ObjectKey,
        /// Not another node of the same name.
        uid: String,
    },
    /// Says of a pod that it goes because of a taint, and deletes it then.
    Evict {
        pod: ObjectKey,
        /// Not another pod of the same name.
        uid: String,
        /// As of [`Write::Delete`].
        grace: Option<u32>,
    },
    /// Makes an object that nobody controls the owner's.
    Adopt {
        kind: Kind,
        key: ObjectKey,
        /// Not another object of the same name.
        uid: String,
        owner: Claimant,
    },
    /// Makes the owner's object nobody's.
    Release {
        kind: Kind,
        key: ObjectKey,
        /// Not another object of the same name.
        uid: String,
        owner: Claimant,
    },
    /// Makes the claim of a pod whose it shall be. Before the pod goes, where it goes.
    Entrust {
        claim: ObjectKey,
        bond: Bond,
    },
    /// Gives the pod its node.
    Bind {
        pod: ObjectKey,
        node: String,
    },
    Delete {
        kind: Kind,
        key: ObjectKey,
        /// Seconds; 0 is by force; `None`: the object's own.
        grace: Option<u32>,
    },
    /// Nothing for the API to refuse: something that people should hear of.
    Tell(Event),
}

impl Write {
    /// The kind of the object that is written.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Write::Create(object) | Write::Ensure(object) => {
                Kind::of(object["apiVersion"].as_str()?, object["kind"].as_str()?)
            }
            Write::Tell(_) => None,
            Write::Entrust { .. } => Some(Kind::PERSISTENT_VOLUME_CLAIM),
            Write::Bind { .. } | Write::Evict { .. } => Some(Kind::POD),
            Write::SetTaints { .. } | Write::Silence { .. } => Some(Kind::NODE),
            Write::Patch { kind, .. }
            | Write::PatchStatus { kind, .. }
            | Write::SetCondition { kind, .. }
            | Write::Adopt { kind, .. }
            | Write::Release { kind, .. }
            | Write::Delete { kind, .. } => Some(*kind),
        }
    }

    pub(crate) fn key(&self) -> Option<ObjectKey> {
        match self {
            Write::Create(object) | Write::Ensure(object) => crate::record::key(object),
            Write::Tell(_) => None,
            Write::Bind { pod: key, .. }
            | Write::Entrust { claim: key, .. }
            | Write::SetTaints { node: key, .. }
            | Write::Silence { node: key, .. }
            | Write::Evict { pod: key, .. }
            | Write::Patch { key, .. }
            | Write::PatchStatus { key, .. }
            | Write::SetCondition { key, .. }
            | Write::Adopt { key, .. }
            | Write::Release { key, .. }
            | Write::Delete { key, .. } => Some(key.clone()),
        }
    }
}

/// A condition as it should be; the time is that of the writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Condition {
    /// The list with this condition in it, or `None` if it says so already.
    pub(crate) fn set_in(&self, conditions: &[Value], now: Timestamp) -> Option<Vec<Value>> {
        let position = conditions.iter().position(|found| found["type"] == self.kind);
        let old = position.map(|position| &conditions[position]);
        if old.is_some_and(|old| self.is_said_by(old)) {
            return None;
        }
        let mut new = old.cloned().unwrap_or_else(|| json!({"type": self.kind}));
        if new["status"] != self.status {
            new["lastTransitionTime"] = stamp(now).into();
            new["status"] = self.status.into();
        }
        new["reason"] = self.reason.into();
        new["message"] = self.message.as_str().into();
        let mut conditions = conditions.to_vec();
        match position {
            Some(position) => conditions[position] = new,
            None => conditions.push(new),
        }
        Some(conditions)
    }

    fn is_said_by(&self, condition: &Value) -> bool {
        condition["status"] == self.status
            && condition["reason"].as_str().unwrap_or_default() == self.reason
            && condition["message"].as_str().unwrap_or_default() == self.message
    }
}

/// The conditions of a node that nobody hears of any more, or `None` if they say so already.
pub(crate) fn silenced(node: &Value, now: Timestamp) -> Option<Vec<Value>> {
    const KINDS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
    let listed = node.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = listed.cloned().unwrap_or_default();
    for kind in KINDS {
        match conditions.iter_mut().find(|condition| condition["type"] == kind) {
            Some(said) if said["status"] == "Unknown" => {}
            Some(said) => {
                said["status"] = "Unknown".into();
                said["reason"] = "NodeStatusUnknown".into();
                said["message"] = "Kubelet stopped posting node status.".into();
                said["lastTransitionTime"] = stamp(now).into();
            }
            None => conditions.push(json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": node["metadata"]["creationTimestamp"],
                "lastTransitionTime": stamp(now),
            })),
        }
    }
    (listed != Some(&conditions)).then_some(conditions)
}

/// The conditions of a pod that goes because of a taint, or `None` if they say so already.
pub(crate) fn evicted(pod: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let condition = Condition {
        kind: "DisruptionTarget",
        status: "True",
        reason: "DeletionByTaintManager",
        message: "Taint manager: deleting due to NoExecute taint".to_owned(),
    };
    let listed = pod.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = condition.set_in(listed.map_or(&[], Vec::as_slice), now)?;
    let generation = &pod["metadata"]["generation"];
    if let Some(ours) = conditions.iter_mut().find(|it| it["type"] == condition.kind)
        && generation.is_u64()
    {
        ours["observedGeneration"] = generation.clone();
    }
    Some(conditions)
}

/// What came of looking at one thing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) writes: Vec<Write>,
    /// Look again after so long, even if nothing changes.
    pub(crate) again: Option<std::time::Duration>,
}

impl From<Vec<Write>> for Outcome {
    fn from(writes: Vec<Write>) -> Self {
        Outcome { writes, again: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_turns() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let condition = |status, message: &str| Condition {
            kind: "Ready",
            status,
            reason: "Because",
            message: message.to_owned(),
        };
        let other = json!({"type": "Other", "status": "True"});
        let first = condition("True", "a").set_in(std::slice::from_ref(&other), at(10)).unwrap();
        assert_eq!(first[0], other);
        assert_eq!(first[1]["lastTransitionTime"], "1970-01-01T00:00:10Z");
        assert_eq!(condition("True", "a").set_in(&first, at(20)), None);
        let second = condition("True", "b").set_in(&first, at(20)).unwrap();
        assert_eq!(second[1]["lastTransitionTime"], "1970-01-01T00:00:10Z");
        let third = condition("False", "b").set_in(&second, at(30)).unwrap();
        assert_eq!(third[1]["lastTransitionTime"], "1970-01-01T00:00:30Z");
        assert_eq!(third.len(), 2);
    }

    #[test]
    fn a_silent_node_has_all_its_conditions_unknown() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut node = json!({
            "metadata": {"creationTimestamp": "1970-01-01T00:00:01Z"},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "Fine", "lastHeartbeatTime": "x"},
                {"type": "Ready", "status": "Unknown", "reason": "Mine"},
                {"type": "NetworkUnavailable", "status": "False"},
            ]},
        });
        let stopped = |kind: &str| {
            json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown", "lastHeartbeatTime": "x",
                "message": "Kubelet stopped posting node status.", "lastTransitionTime": "1970-01-01T00:00:10Z",
            })
        };
        let never = |kind: &str| {
            json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": "1970-01-01T00:00:01Z", "lastTransitionTime": "1970-01-01T00:00:10Z",
            })
        };
        let said = silenced(&node, at(10)).unwrap();
        let listed = node["status"]["conditions"].as_array().unwrap().clone();
        assert_eq!(
            said,
            [
                stopped("MemoryPressure"),
                listed[1].clone(),
                listed[2].clone(),
                never("DiskPressure"),
                never("PIDPressure"),
            ]
        );
        node["status"]["conditions"] = said.into();
        assert_eq!(silenced(&node, at(20)), None);
    }

    #[test]
    fn a_pod_that_goes_because_of_a_taint_says_so() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut pod = json!({
            "metadata": {"generation": 3},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let said = evicted(&pod, at(10)).unwrap();
        assert_eq!(
            said[1],
            json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": "1970-01-01T00:00:10Z", "observedGeneration": 3,
            })
        );
        pod["status"]["conditions"] = said.into();
        assert_eq!(evicted(&pod, at(20)), None);
    }
}
