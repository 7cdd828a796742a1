//! A pod's conditions that are the kubelet's, in its order.

use super::{COMPLETED, ContainerView, FAILED, GATED, NOT_READY, View};
use crate::kubelet::spec::Role;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Whether something holds, and why it does not, or nevertheless does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Condition {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Condition {
    fn plain(holds: bool) -> Condition {
        Condition { holds, ..Condition::default() }
    }

    fn because(reason: &'static str, message: Option<String>) -> Condition {
        Condition { holds: false, reason: Some(reason), message }
    }
}

impl View<'_> {
    /// `known` keeps when each condition last changed, and learns of changes `now`.
    pub(super) fn conditions(
        &self,
        known: &mut BTreeMap<String, (bool, String)>,
        now: &str,
    ) -> Vec<Value> {
        let containers_ready = self.containers_ready();
        let ready = self.ready(&containers_ready);
        let all = [
            ("PodReadyToStartContainers", Condition::plain(self.has_sandbox)),
            ("Initialized", self.initialized()),
            ("Ready", ready),
            ("ContainersReady", containers_ready),
            ("PodScheduled", Condition::plain(true)),
        ];
        let told = all.into_iter().map(|(kind, it)| self.told(kind, it, known, now));
        told.collect()
    }

    fn told(
        &self,
        kind: &str,
        condition: Condition,
        known: &mut BTreeMap<String, (bool, String)>,
        now: &str,
    ) -> Value {
        let Condition { holds, reason, message } = condition;
        let (before, since) =
            known.entry(kind.to_owned()).or_insert_with(|| (holds, now.to_owned()));
        if *before != holds {
            (*before, *since) = (holds, now.to_owned());
        }
        // The API merges it with what it has: what it is to have no longer must be said.
        json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "observedGeneration": self.generation,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        })
    }

    fn containers_ready(&self) -> Condition {
        match self.phase() {
            "Succeeded" => return Condition::because(COMPLETED, None),
            "Failed" => return Condition::because(FAILED, None),
            _ => {}
        }
        let stays = |role| matches!(role, Role::Main | Role::Sidecar);
        let staying = self.containers.iter().filter(|it| stays(it.role));
        let unready = names(staying.filter(|it| !it.is_ready()));
        match unready {
            None => Condition::plain(true),
            Some(names) => Condition::because(
                NOT_READY,
                Some(format!("containers with unready status: {names}")),
            ),
        }
    }

    fn ready(&self, containers: &Condition) -> Condition {
        if !containers.holds {
            return containers.clone();
        }
        let closed = self.gates.iter().filter(|(_, status)| *status != Some("True"));
        let messages: Vec<_> = closed
            .map(|(gate, status)| match status {
                None => {
                    format!(
                        "corresponding condition of pod readiness gate {gate:?} does not exist."
                    )
                }
                Some(status) => format!(
                    "the status of pod readiness gate {gate:?} is not \"True\", but {status}"
                ),
            })
            .collect();
        if messages.is_empty() {
            return Condition::plain(true);
        }
        Condition::because(GATED, Some(messages.join(", ")))
    }

    fn initialized(&self) -> Condition {
        if self.phase() == "Succeeded" {
            return Condition { reason: Some(COMPLETED), ..Condition::plain(true) };
        }
        let mut regular = self.containers.iter().filter(|it| it.role == Role::Main);
        if regular.any(ContainerView::has_begun) {
            return Condition::plain(true);
        }
        match names(self.containers.iter().filter(|it| !it.is_initialized())) {
            None => Condition::plain(true),
            Some(names) => Condition::because(
                "ContainersNotInitialized",
                Some(format!("containers with incomplete status: {names}")),
            ),
        }
    }
}

/// As Go prints a list: `[a b]`; none where it is empty.
fn names<'a>(containers: impl Iterator<Item = &'a ContainerView<'a>>) -> Option<String> {
    let names: Vec<_> = containers.map(|it| it.name).collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(" ")))
}
