use super::policy::kind_and_status;
use super::{Owner, condition, items, number, owned_text, strings, text, time, version};
use jiff::{SignedDuration, Timestamp};
use model::{Object, ObjectKey};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Finalizer of a Job's pod: it stays until the Job has counted it.
pub(crate) const COUNTED: &str = "batch.kubernetes.io/job-tracking";

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
    /// When it ended, or began to.
    pub(crate) ended: Option<Timestamp>,
    /// Of a Job that has not counted it yet.
    pub(crate) tracked: Option<Box<Tracked>>,
    /// For us to schedule: no other scheduler named, no gate closed.
    pub(crate) schedulable: bool,
    /// Kept by the kubelet from a file on the node: deleting it here ends nothing.
    pub(crate) mirror: bool,
}

/// What its Job must know of a pod with finalizer [`COUNTED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// The other finalizers.
    pub(crate) others: Vec<String>,
    /// Containers that have ended, those of `initContainers` last: name and exit code.
    pub(crate) exits: Vec<(String, i64)>,
    /// Type and status of each condition.
    pub(crate) conditions: Vec<(String, String)>,
}

/// Empty key: every taint. No value: any value. No effect: every effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toleration {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) effect: Option<String>,
    /// How long a taint is borne that drives pods away; `None`: for ever.
    pub(crate) period: Option<Duration>,
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
            restarts: containers(value)
                .filter_map(|status| super::count(status, "/restartCount"))
                .sum(),
            ended: ended(value, base.phase.is_over() || base.meta.terminating),
            tracked: Tracked::parse(value).map(Box::new),
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

    /// The Job that has to count it, there or not.
    pub(crate) fn counted_by(&self) -> Option<ObjectKey> {
        self.tracked.as_ref()?;
        let meta = &self.base.meta;
        let name = match &self.owner {
            Some(owner) => Some(&owner.name).filter(|_| owner.kind == "Job"),
            None => meta.labels.get("batch.kubernetes.io/job-name"),
        };
        name.map(|name| ObjectKey::new(&meta.key.namespace, name))
    }

    /// The same for everybody but the API server.
    pub(crate) fn is_same(&self, other: &Pod) -> bool {
        let others_version = Pod { version: other.version, ..self.clone() };
        others_version == *other
    }
}

/// Statuses of its containers, those of `initContainers` last.
fn containers(value: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["/status/containerStatuses", "/status/initContainerStatuses"];
    lists.into_iter().flat_map(|list| items(value, list))
}

/// When all containers have ended, else since when it is not ready, else when its deletion was asked for.
fn ended(value: &Value, over: bool) -> Option<Timestamp> {
    if !over {
        return None;
    }
    let ends = items(value, "/status/containerStatuses").iter();
    let ends: Option<Vec<_>> = ends.map(|it| time(it, "/state/terminated/finishedAt")).collect();
    let unready = condition(value, "Ready").filter(|ready| ready["status"] == "False");
    let asked = || {
        let grace = number(value, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
        let grace = SignedDuration::from_secs(grace.try_into().ok()?);
        time(value, "/metadata/deletionTimestamp")?.checked_sub(grace).ok()
    };
    ends.and_then(|ends| ends.into_iter().max())
        .or_else(|| time(unready?, "/lastTransitionTime"))
        .or_else(asked)
        .or_else(|| time(value, "/metadata/creationTimestamp"))
}

impl Tracked {
    fn parse(value: &Value) -> Option<Self> {
        let finalizers = items(value, "/metadata/finalizers").iter().filter_map(Value::as_str);
        if !finalizers.clone().any(|it| it == COUNTED) {
            return None;
        }
        let exit = |status: &Value| {
            let code = status.pointer("/state/terminated/exitCode")?.as_i64()?;
            Some((text(status, "/name")?.to_owned(), code))
        };
        let conditions = items(value, "/status/conditions").iter();
        Some(Tracked {
            others: finalizers.filter(|it| *it != COUNTED).map(str::to_owned).collect(),
            exits: containers(value).filter_map(exit).collect(),
            conditions: conditions.filter_map(kind_and_status).collect(),
        })
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
            period: value["tolerationSeconds"]
                .as_i64()
                .map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(0))),
        }
    }
}
