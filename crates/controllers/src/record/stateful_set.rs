use super::{Amount, Owner, count, meta, number, owned_text, part, seconds, text, version};
use model::{Meta, ObjectKey, Selector};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatefulSet {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) generation: u64,
    pub(crate) owner: Option<Owner>,
    pub(crate) selector: Option<Selector>,
    pub(crate) replicas: u32,
    /// Number of the first pod.
    pub(crate) start: u32,
    /// The headless Service that names its pods.
    pub(crate) service: Option<String>,
    /// All pods at once, not one after the other.
    pub(crate) parallel: bool,
    /// `None`: pods are renewed only when somebody deletes them.
    pub(crate) rolling: Option<Partition>,
    pub(crate) min_ready: Duration,
    /// How many old revisions to keep.
    pub(crate) history: usize,
    pub(crate) template: Arc<Value>,
    /// PersistentVolumeClaims that each pod has of its own.
    pub(crate) claims: Vec<Value>,
    /// Labels that its pods, and so their claims, have at least.
    pub(crate) labels: Value,
    /// Claims go with the set.
    pub(crate) drops_claims: bool,
    /// Claims go with pods that are too many.
    pub(crate) sheds_claims: bool,
    pub(crate) status: Arc<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Pods with lower numbers stay as they are.
    pub(crate) from: u32,
    /// So many may be away at once.
    pub(crate) unavailable: Amount,
}

impl StatefulSet {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let rolling = "/spec/updateStrategy/rollingUpdate";
        let unavailable = value.pointer(rolling).and_then(|rules| rules.get("maxUnavailable"));
        let partition = Partition {
            from: count(value, &format!("{rolling}/partition")).unwrap_or(0),
            unavailable: unavailable.and_then(Amount::parse).unwrap_or(Amount::Count(1)),
        };
        let on_delete = text(value, "/spec/updateStrategy/type") == Some("OnDelete");
        let policy = "/spec/persistentVolumeClaimRetentionPolicy";
        let drops = |when: &str| text(value, &format!("{policy}/{when}")) == Some("Delete");
        Some(StatefulSet {
            meta: meta(value)?,
            version: version(value),
            generation: number(value, "/metadata/generation").unwrap_or(0),
            owner: Owner::of(value),
            selector: super::selector(value),
            replicas: count(value, "/spec/replicas").unwrap_or(1),
            start: count(value, "/spec/ordinals/start").unwrap_or(0),
            service: owned_text(value, "/spec/serviceName"),
            parallel: text(value, "/spec/podManagementPolicy") == Some("Parallel"),
            rolling: (!on_delete).then_some(partition),
            min_ready: seconds(value, "/spec/minReadySeconds").unwrap_or_default(),
            history: super::history(value),
            template: Arc::new(value.pointer("/spec/template").cloned().unwrap_or_default()),
            claims: value
                .pointer("/spec/volumeClaimTemplates")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            labels: value.pointer("/spec/selector/matchLabels").cloned().unwrap_or_default(),
            drops_claims: drops("whenDeleted"),
            sheds_claims: drops("whenScaled"),
            status: part(value, "status"),
        })
    }
}

/// The number at the end of `OWNER-NUMBER`.
pub(crate) fn ordinal(owner: &ObjectKey, pod: &ObjectKey) -> Option<u32> {
    let number = pod.name.strip_prefix(&*owner.name)?.strip_prefix('-')?;
    let plain = number == "0" || !number.starts_with(['0', '+']);
    number.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals() {
        let rows = [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web-", None),
            ("web-+1", None),
            ("web-x", None),
            ("other-1", None),
        ];
        let key = |name: &str| ObjectKey::new("default", name);
        for (name, expected) in rows {
            assert_eq!(ordinal(&key("web"), &key(name)), expected, "{name}");
        }
    }
}
