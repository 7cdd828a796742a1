use super::{Owner, condition, items, owned_text, strings, text, time, version};
use jiff::Timestamp;
use model::Object;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) base: model::Pod,
    pub(crate) version: u64,
    pub(crate) owner: Option<Owner>,
    pub(crate) created: Option<Timestamp>,
    /// When the Ready condition last turned.
    pub(crate) ready_since: Option<Timestamp>,
    /// Annotation `controller.kubernetes.io/pod-deletion-cost`: lower goes first.
    pub(crate) deletion_cost: i32,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
    /// Annotation `podway.io/weight`, 1 to 100: its share of a Service's connections against that of others.
    pub(crate) weight: u8,
    /// Only this node will do, as for a daemon's pod.
    pub(crate) pinned: Option<String>,
    /// Of all its containers.
    pub(crate) restarts: u32,
    /// For us to schedule: no other scheduler named, no gate closed.
    pub(crate) schedulable: bool,
    /// Kept by the kubelet from a file on the node: deleting it here ends nothing.
    pub(crate) mirror: bool,
}

/// Empty key: every taint. No value: any value. No effect: every effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toleration {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) effect: Option<String>,
}

impl Pod {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let Ok(Object::Pod(base)) = Object::parse(value) else { return None };
        let ready = condition(value, "Ready");
        let cost = base.meta.annotations.get("controller.kubernetes.io/pod-deletion-cost");
        let scheduler = text(value, "/spec/schedulerName").unwrap_or_default();
        Some(Pod {
            version: version(value),
            owner: Owner::of(value),
            created: time(value, "/metadata/creationTimestamp"),
            ready_since: ready.and_then(|ready| time(ready, "/lastTransitionTime")),
            deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
            weight: weight(&base),
            pinned: pinned(value),
            restarts: items(value, "/status/containerStatuses")
                .iter()
                .filter_map(|status| super::count(status, "/restartCount"))
                .sum(),
            node_selector: strings(value, "/spec/nodeSelector"),
            tolerations: items(value, "/spec/tolerations").iter().map(Toleration::parse).collect(),
            schedulable: matches!(scheduler, "" | "default-scheduler")
                && items(value, "/spec/schedulingGates").is_empty(),
            mirror: base.meta.annotations.contains_key("kubernetes.io/config.mirror"),
            base,
        })
    }

    /// Waits for a node.
    pub(crate) fn is_pending(&self) -> bool {
        self.base.node.is_none() && self.schedulable && self.is_active()
    }

    /// Counts for its workload: neither ended nor on its way out.
    pub(crate) fn is_active(&self) -> bool {
        !self.base.phase.is_over() && !self.base.meta.terminating
    }

    /// The same for everybody but the API server.
    pub(crate) fn is_same(&self, other: &Pod) -> bool {
        let others_version = Pod { version: other.version, ..self.clone() };
        others_version == *other
    }
}

/// The one node that required affinity by name leaves.
fn pinned(value: &Value) -> Option<String> {
    const REQUIRED: &str =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let terms = items(value.pointer(REQUIRED)?, "/nodeSelectorTerms");
    let field = terms.first()?.pointer("/matchFields/0")?;
    let by_name = text(field, "/key") == Some("metadata.name");
    owned_text(field, "/values/0").filter(|_| by_name)
}

/// What is no weight is none said.
fn weight(pod: &model::Pod) -> u8 {
    let said = pod.meta.annotations.get("podway.io/weight");
    let weight = said.and_then(|text| text.parse().ok());
    weight.filter(|weight| (1..=100).contains(weight)).unwrap_or(1)
}

impl Toleration {
    fn parse(value: &Value) -> Self {
        let exists = text(value, "/operator") == Some("Exists");
        let equal = text(value, "/value").unwrap_or_default().to_owned();
        Toleration {
            key: owned_text(value, "/key"),
            value: (!exists).then_some(equal),
            effect: owned_text(value, "/effect"),
        }
    }
}
