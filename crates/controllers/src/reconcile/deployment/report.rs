//! What a Deployment says of itself.

use super::{Change, Member, Stage};
use crate::reconcile::replica_set::REPLICA_FAILURE;
use crate::reconcile::rollout::Bounds;
use crate::reconcile::status::{Tally, differences};
use crate::record::{Deployment, Strategy, stamp};
use crate::write::{Condition, Write};
use client::Kind;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::time::Duration;

const PROGRESSING: &str = "Progressing";
const DONE: &str = "NewReplicaSetAvailable";
const LATE: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const REFUSED: &str = "ReplicaSetCreateError";

/// Counts over all sets, and over the new one.
struct Totals {
    all: Tally,
    /// Wanted of all sets.
    sized: u32,
    updated: u32,
}

impl Totals {
    fn of(new: Option<Member<'_>>, members: &[Member<'_>]) -> Self {
        let (mut all, mut sized) = (Tally::default(), 0);
        for Member { tally, set } in members {
            sized += set.replicas;
            all.active += tally.active;
            all.ready += tally.ready;
            all.available += tally.available;
            all.present += tally.present;
        }
        Totals { all, sized, updated: new.map_or(0, |new| new.tally.active) }
    }

    fn are_complete(&self, wanted: u32) -> bool {
        [self.updated, self.all.active, self.all.available] == [wanted; 3]
    }

    /// Something has changed for the better since the status was written.
    fn are_ahead_of(&self, status: &Value) -> bool {
        let said = |field: &str| {
            status[field].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0)
        };
        let old = |all: u32, updated: u32| all.saturating_sub(updated);
        self.updated > said("updatedReplicas")
            || old(self.all.active, self.updated) < old(said("replicas"), said("updatedReplicas"))
            || self.all.ready > said("readyReplicas")
            || self.all.available > said("availableReplicas")
    }

    fn to_status(&self, deployment: &Deployment) -> Map<String, Value> {
        let unavailable = self.sized.saturating_sub(self.all.available);
        Map::from_iter([
            ("replicas".to_owned(), self.all.active.into()),
            ("updatedReplicas".to_owned(), self.updated.into()),
            ("readyReplicas".to_owned(), self.all.ready.into()),
            ("availableReplicas".to_owned(), self.all.available.into()),
            ("unavailableReplicas".to_owned(), unavailable.into()),
            ("terminatingReplicas".to_owned(), self.all.terminating().into()),
            ("observedGeneration".to_owned(), deployment.generation.into()),
        ])
    }
}

/// The status, where it changes, and how long until the progress deadline.
pub(super) fn report(
    deployment: &Deployment,
    stage: Stage,
    new: Option<Member<'_>>,
    change: Change<'_>,
    members: &[Member<'_>],
    now: Timestamp,
) -> (Option<Write>, Option<Duration>) {
    let totals = Totals::of(new, members);
    let mut changed = differences(&deployment.status, totals.to_status(deployment));
    let old = deployment.status["conditions"].as_array().cloned().unwrap_or_default();
    let mut conditions = Conditions { listed: old.clone(), now };
    conditions.set(&availability(deployment, &totals), false);
    let deadline = match deployment.progress_deadline {
        None => {
            conditions.listed.retain(|found| found["type"] != PROGRESSING);
            None
        }
        Some(deadline) => {
            conditions.note_pause(deployment.paused);
            conditions.note_set(new, change);
            match stage {
                Stage::Rolling if matches!(change, Change::Refused(..)) => None,
                Stage::Rolling => conditions.judge(deployment, new, &totals, deadline),
                Stage::Paused | Stage::Scaling => None,
            }
        }
    };
    conditions.note_failure(new, members);
    if conditions.listed != old {
        changed.insert("conditions".to_owned(), conditions.listed.into());
    }
    let write = (!changed.is_empty()).then(|| Write::PatchStatus {
        kind: Kind::DEPLOYMENT,
        key: deployment.meta.key.clone(),
        patch: json!({"status": changed}),
    });
    (write, deadline)
}

fn availability(deployment: &Deployment, totals: &Totals) -> Condition {
    let least = match deployment.strategy {
        Strategy::Rolling { .. } => Bounds::of(deployment.strategy, deployment.replicas).least,
        Strategy::Recreate => deployment.replicas,
    };
    let (status, reason, message) = if totals.all.available >= least {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    Condition { kind: "Available", status, reason, message: message.to_owned() }
}

/// `status.conditions`, on the way from what was said to what is so.
struct Conditions {
    listed: Vec<Value>,
    now: Timestamp,
}

impl Conditions {
    /// A condition with the same status and reason stays as it is, with its times, unless it is said `anew`.
    fn set(&mut self, condition: &Condition, anew: bool) {
        let position = self.listed.iter().position(|found| found["type"] == condition.kind);
        let old = position.map(|position| self.listed[position].clone()).unwrap_or_default();
        let same = old["status"] == condition.status;
        if same && old["reason"] == condition.reason && !anew {
            return;
        }
        let turned = same.then(|| old["lastTransitionTime"].clone());
        let new = json!({
            "type": condition.kind,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "lastUpdateTime": stamp(self.now),
            "lastTransitionTime": turned.unwrap_or_else(|| stamp(self.now).into()),
        });
        match position {
            Some(position) => self.listed[position] = new,
            None => self.listed.push(new),
        }
    }

    fn progressing(&mut self, status: &'static str, reason: &'static str, message: String) {
        let condition = Condition { kind: PROGRESSING, status, reason, message };
        self.set(&condition, reason == "ReplicaSetUpdated");
    }

    /// Reason and time of the last progress.
    fn progress(&self) -> Option<(String, Option<Timestamp>)> {
        let last = self.listed.iter().find(|found| found["type"] == PROGRESSING)?;
        let time = last["lastUpdateTime"].as_str().and_then(|time| time.parse().ok());
        Some((last["reason"].as_str().unwrap_or_default().to_owned(), time))
    }

    /// The time that a Deployment was paused does not count against its deadline; one that is late already stays so.
    fn note_pause(&mut self, paused: bool) {
        let reason = self.progress().map(|(reason, _)| reason).unwrap_or_default();
        match (paused, &*reason) {
            (_, LATE) | (true, PAUSED) => {}
            (true, _) => self.progressing("Unknown", PAUSED, "Deployment is paused".to_owned()),
            (false, PAUSED) => {
                let message = "Deployment is resumed".to_owned();
                self.progressing("Unknown", "DeploymentResumed", message);
            }
            (false, _) => {}
        }
    }

    /// A rollout begins with its set.
    fn note_set(&mut self, new: Option<Member<'_>>, change: Change<'_>) {
        let created = |name: &str| format!("Created new replica set {name:?}");
        let name = |set: &Value| set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let reason = self.progress().map(|(reason, _)| reason);
        match (change, new.map(|new| &*new.set.meta.key.name), reason.as_deref()) {
            (Change::Made(set), ..) => {
                self.progressing("True", "NewReplicaSetCreated", created(&name(set)));
            }
            (Change::Refused(set, why), ..) => {
                let message = format!("Failed to create new replica set {:?}: {why}", name(set));
                self.progressing("False", REFUSED, message);
            }
            (Change::None, Some(name), Some(REFUSED)) => {
                self.progressing("True", "NewReplicaSetCreated", created(name));
            }
            (Change::None, Some(name), None) => {
                let message = format!("Found new replica set {name:?}");
                self.progressing("True", "FoundNewReplicaSet", message);
            }
            _ => {}
        }
    }

    /// That pods are refused, as their set says it: the new one before the others.
    fn note_failure(&mut self, new: Option<Member<'_>>, members: &[Member<'_>]) {
        let said = |member: &Member<'_>| {
            let conditions = member.set.status["conditions"].as_array()?;
            conditions.iter().find(|it| it["type"] == REPLICA_FAILURE).cloned()
        };
        let Some(mut failure) = new.iter().chain(members).find_map(said) else {
            return self.listed.retain(|it| it["type"] != REPLICA_FAILURE);
        };
        failure["lastUpdateTime"] = failure["lastTransitionTime"].clone();
        match self.listed.iter_mut().find(|it| it["type"] == REPLICA_FAILURE) {
            Some(told) if told["reason"] == failure["reason"] => {}
            Some(told) => *told = failure,
            None => self.listed.push(failure),
        }
    }

    /// How far a rollout is and, while it is open how it ends, the time until its deadline.
    fn judge(
        &mut self,
        deployment: &Deployment,
        new: Option<Member<'_>>,
        totals: &Totals,
        deadline: Duration,
    ) -> Option<Duration> {
        let (reason, last) = self.progress()?;
        if reason == DONE && totals.all.active == totals.updated {
            return None;
        }
        let subject = new.map_or_else(
            || format!("Deployment {:?}", &*deployment.meta.key.name),
            |new| format!("ReplicaSet {:?}", &*new.set.meta.key.name),
        );
        if totals.are_complete(deployment.replicas) {
            self.progressing("True", DONE, format!("{subject} has successfully progressed."));
            return None;
        }
        if totals.are_ahead_of(&deployment.status) {
            let message = format!("{subject} is progressing.");
            self.progressing("True", "ReplicaSetUpdated", message);
            return Some(deadline);
        }
        let idle = last.map(|last| self.now.duration_since(last)).unwrap_or_default();
        let left = deadline.saturating_sub(Duration::try_from(idle).unwrap_or_default());
        match &*reason {
            DONE | LATE => None,
            _ if left.is_zero() => {
                self.progressing("False", LATE, format!("{subject} has timed out progressing."));
                None
            }
            _ => Some(left),
        }
    }
}
