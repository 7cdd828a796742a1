use super::{Amount, Owner, Pod, meta, number, part, seconds, text, version};
use model::{Meta, Selector};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DaemonSet {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) generation: u64,
    pub(crate) owner: Option<Owner>,
    pub(crate) selector: Option<Selector>,
    /// `None`: pods are renewed only when somebody deletes them.
    pub(crate) rolling: Option<Bounds>,
    pub(crate) min_ready: Duration,
    /// How many old revisions to keep.
    pub(crate) history: usize,
    pub(crate) template: Arc<Value>,
    /// A pod as it would be, to ask nodes about.
    pub(crate) sample: Pod,
    pub(crate) status: Arc<Value>,
}

/// How far a rolling update may go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) surge: Amount,
    pub(crate) unavailable: Amount,
}

/// What a daemon bears beyond what its template says (`AddOrUpdateDaemonPodTolerations`).
const BORNE: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const BORNE_IN_HOST_NETWORK: (&str, &str) =
    ("node.kubernetes.io/network-unavailable", "NoSchedule");

impl DaemonSet {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let meta = meta(value)?;
        let mut template = value.pointer("/spec/template")?.clone();
        tolerate(&mut template);
        let sample = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": &*meta.key.name, "namespace": &*meta.key.namespace},
            "spec": template["spec"],
        });
        let rules = value.pointer("/spec/updateStrategy/rollingUpdate");
        let amount = |name: &str, default| {
            rules.and_then(|rules| rules.get(name)).and_then(Amount::parse).unwrap_or(default)
        };
        let bounds = Bounds {
            surge: amount("maxSurge", Amount::Count(0)),
            unavailable: amount("maxUnavailable", Amount::Count(1)),
        };
        let on_delete = text(value, "/spec/updateStrategy/type") == Some("OnDelete");
        Some(DaemonSet {
            version: version(value),
            generation: number(value, "/metadata/generation").unwrap_or(0),
            owner: Owner::of(value),
            selector: super::selector(value),
            rolling: (!on_delete).then_some(bounds),
            min_ready: seconds(value, "/spec/minReadySeconds").unwrap_or_default(),
            history: super::history(value),
            sample: Pod::parse(&sample)?,
            template: Arc::new(value.pointer("/spec/template").cloned().unwrap_or_default()),
            status: part(value, "status"),
            meta,
        })
    }
}

/// Adds to a pod template what every daemon bears.
pub(crate) fn tolerate(template: &mut Value) {
    let in_host_network = template.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
    let more = in_host_network.then_some(BORNE_IN_HOST_NETWORK);
    let mut listed = template
        .pointer("/spec/tolerations")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for (key, effect) in BORNE.into_iter().chain(more) {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !listed.contains(&toleration) {
            listed.push(toleration);
        }
    }
    if template["spec"].is_object() {
        template["spec"]["tolerations"] = listed.into();
    }
}
