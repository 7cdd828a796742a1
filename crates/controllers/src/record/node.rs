use super::pod::Toleration;
use super::{Pod, condition, items, owned_text, text, version};
use crate::taints::PRESSURES;
use model::Object;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) base: model::Node,
    pub(crate) version: u64,
    /// `status` of the Ready condition.
    pub(crate) readiness: Option<String>,
    /// `lastHeartbeatTime` of the Ready condition, unparsed: only its change means something.
    pub(crate) heartbeat: Option<String>,
    /// Takes no new pods.
    pub(crate) cordoned: bool,
    pub(crate) taints: Vec<Taint>,
    /// Keys of the taints that its conditions amount to, but for the Ready condition.
    pub(crate) pressures: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    NoSchedule,
    NoExecute,
    /// `PreferNoSchedule`, or one we do not know: advice.
    Other,
}

impl Node {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let Ok(Object::Node(base)) = Object::parse(value) else { return None };
        let ready = condition(value, "Ready");
        Some(Node {
            base,
            version: version(value),
            readiness: ready.and_then(|ready| owned_text(ready, "/status")),
            heartbeat: ready.and_then(|ready| owned_text(ready, "/lastHeartbeatTime")),
            cordoned: value.pointer("/spec/unschedulable") == Some(&Value::Bool(true)),
            taints: items(value, "/spec/taints").iter().filter_map(Taint::parse).collect(),
            pressures: pressures(value),
        })
    }

    /// The same but for the time of its last heartbeat.
    pub(crate) fn is_same(&self, other: &Node) -> bool {
        let (version, heartbeat) = (other.version, other.heartbeat.clone());
        let later = Node { version, heartbeat, ..self.clone() };
        later == *other
    }

    /// The taints that drive pods away.
    pub(crate) fn driving(&self) -> impl Iterator<Item = &Taint> {
        self.taints.iter().filter(|taint| taint.effect == Effect::NoExecute)
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.readiness.as_deref() == Some("Unknown")
    }

    pub(crate) fn name(&self) -> &str {
        &self.base.meta.key.name
    }

    pub(crate) fn zone(&self) -> Option<&str> {
        self.base.meta.labels.get("topology.kubernetes.io/zone").map(String::as_str)
    }

    /// What fails together: its region and zone.
    pub(crate) fn failure_domain(&self) -> [Option<&str>; 2] {
        let labels = &self.base.meta.labels;
        let region = labels.get("topology.kubernetes.io/region").map(String::as_str);
        [region, self.zone()]
    }

    /// Says nothing about how well its zone is, as one that comes and goes.
    pub(crate) fn is_exempt(&self) -> bool {
        self.base.meta.labels.contains_key("node.kubernetes.io/exclude-disruption")
    }

    /// A taint that keeps the pod away.
    pub(crate) fn repels(&self, pod: &Pod) -> Option<&Taint> {
        self.taints.iter().find(|taint| {
            taint.effect != Effect::Other && !self.is_past(taint) && !taint.is_borne_by(pod)
        })
    }

    /// It says less than the node itself: that it has not been ready yet. It goes with the next look at the node, and
    /// nodes that got ready together are all there for the first pod.
    fn is_past(&self, taint: &Taint) -> bool {
        self.base.ready && *taint == Taint::no_schedule("node.kubernetes.io/not-ready")
    }

    /// A taint that drives the pod away even if it is there.
    pub(crate) fn expels(&self, pod: &Pod) -> bool {
        let drives = |taint: &Taint| taint.effect == Effect::NoExecute && !taint.is_borne_by(pod);
        self.taints.iter().any(drives)
    }
}

fn pressures(node: &Value) -> Vec<&'static str> {
    let holds = |kind: &str| condition(node, kind).is_some_and(|it| it["status"] == "True");
    PRESSURES.into_iter().filter(|(kind, _)| holds(kind)).map(|(_, taint)| taint).collect()
}

impl Effect {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Effect::NoSchedule => "NoSchedule",
            Effect::NoExecute => "NoExecute",
            Effect::Other => "PreferNoSchedule",
        }
    }
}

impl Taint {
    /// What a node's state amounts to, where nobody wrote it down as a taint.
    pub(crate) fn no_schedule(key: &str) -> Self {
        Taint { key: key.to_owned(), value: String::new(), effect: Effect::NoSchedule }
    }

    pub(crate) fn is_borne_by(&self, pod: &Pod) -> bool {
        self.tolerations_of(pod).next().is_some()
    }

    pub(crate) fn tolerations_of<'a>(
        &'a self,
        pod: &'a Pod,
    ) -> impl Iterator<Item = &'a Toleration> {
        pod.tolerations.iter().filter(|toleration| self.is_tolerated_by(toleration))
    }

    fn parse(value: &Value) -> Option<Self> {
        Some(Taint {
            key: owned_text(value, "/key")?,
            value: text(value, "/value").unwrap_or_default().to_owned(),
            effect: match text(value, "/effect") {
                Some("NoSchedule") => Effect::NoSchedule,
                Some("NoExecute") => Effect::NoExecute,
                _ => Effect::Other,
            },
        })
    }

    fn is_tolerated_by(&self, toleration: &Toleration) -> bool {
        if self.effect == Effect::Other {
            return true;
        }
        let effect = self.effect.name();
        toleration.key.as_ref().is_none_or(|key| *key == self.key)
            && toleration.value.as_ref().is_none_or(|value| *value == self.value)
            && toleration.effect.as_ref().is_none_or(|tolerated| tolerated == effect)
    }
}
