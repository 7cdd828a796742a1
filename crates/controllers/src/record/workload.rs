use super::{Owner, count, meta, part, seconds, text, time, version};
use client::Kind;
use jiff::Timestamp;
use model::{Meta, Object, Selector};
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Annotation with the number of a rollout, on Deployments and ReplicaSets.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotations with what a ReplicaSet was last sized for: `spec.replicas` of its Deployment, and how many pods all sets
/// together could have.
pub(crate) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(crate) const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// Label that tells the pods of one template from those of another.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) generation: u64,
    pub(crate) selector: Option<Selector>,
    pub(crate) replicas: u32,
    pub(crate) strategy: Strategy,
    pub(crate) paused: bool,
    /// How many old ReplicaSets to keep.
    pub(crate) history: usize,
    pub(crate) min_ready: Duration,
    /// `None`: however long it takes.
    pub(crate) progress_deadline: Option<Duration>,
    /// The whole `spec` and `status`.
    pub(crate) spec: Arc<Value>,
    pub(crate) status: Arc<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    Recreate,
    Rolling { surge: Amount, unavailable: Amount },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    Count(u32),
    Percent(u32),
}

/// Or a ReplicationController, which is one with an older selector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplicaSet {
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) generation: u64,
    pub(crate) created: Option<Timestamp>,
    pub(crate) owner: Option<Owner>,
    pub(crate) selector: Option<Selector>,
    pub(crate) replicas: u32,
    pub(crate) min_ready: Duration,
    pub(crate) template: Arc<Value>,
    pub(crate) status: Arc<Value>,
}

impl Deployment {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let Ok(Object::Deployment(base)) = Object::parse(value) else { return None };
        Some(Deployment {
            meta: base.meta,
            version: version(value),
            generation: super::number(value, "/metadata/generation").unwrap_or(0),
            selector: super::selector(value),
            replicas: base.replicas,
            strategy: Strategy::parse(value),
            paused: value.pointer("/spec/paused") == Some(&Value::Bool(true)),
            history: super::history(value),
            min_ready: seconds(value, "/spec/minReadySeconds").unwrap_or_default(),
            progress_deadline: progress_deadline(value),
            spec: part(value, "spec"),
            status: part(value, "status"),
        })
    }

    pub(crate) fn template(&self) -> &Value {
        &self.spec["template"]
    }
}

/// The highest number stands for none.
fn progress_deadline(value: &Value) -> Option<Duration> {
    let deadline = count(value, "/spec/progressDeadlineSeconds").unwrap_or(600);
    (deadline < i32::MAX.unsigned_abs()).then_some(Duration::from_secs(deadline.into()))
}

impl Strategy {
    const QUARTER: Amount = Amount::Percent(25);

    fn parse(value: &Value) -> Self {
        if text(value, "/spec/strategy/type") == Some("Recreate") {
            return Strategy::Recreate;
        }
        let amount = |name: &str| {
            let found =
                value.pointer("/spec/strategy/rollingUpdate").and_then(|rules| rules.get(name));
            found.and_then(Amount::parse).unwrap_or(Self::QUARTER)
        };
        Strategy::Rolling { surge: amount("maxSurge"), unavailable: amount("maxUnavailable") }
    }
}

impl Amount {
    pub(super) fn parse(value: &Value) -> Option<Self> {
        if let Some(count) = value.as_u64() {
            return count.try_into().ok().map(Amount::Count);
        }
        value.as_str()?.strip_suffix('%')?.parse().ok().map(Amount::Percent)
    }

    pub(crate) fn rounded_up(self, of: u32) -> u32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => narrow((u64::from(of) * u64::from(percent)).div_ceil(100)),
        }
    }

    pub(crate) fn rounded_down(self, of: u32) -> u32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => narrow(u64::from(of) * u64::from(percent) / 100),
        }
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl ReplicaSet {
    pub(crate) fn parse(kind: Kind, value: &Value) -> Option<Self> {
        let is_plain = kind == Kind::REPLICATION_CONTROLLER;
        let selector = if is_plain { super::plain_selector } else { super::selector };
        Some(ReplicaSet {
            kind,
            meta: meta(value)?,
            version: version(value),
            generation: super::number(value, "/metadata/generation").unwrap_or(0),
            created: time(value, "/metadata/creationTimestamp"),
            owner: Owner::of(value),
            selector: selector(value),
            replicas: count(value, "/spec/replicas").unwrap_or(1),
            min_ready: seconds(value, "/spec/minReadySeconds").unwrap_or_default(),
            template: Arc::new(value.pointer("/spec/template").cloned().unwrap_or_default()),
            status: part(value, "status"),
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.annotated(REVISION).unwrap_or(0)
    }

    /// [`DESIRED`]
    pub(crate) fn sized_for(&self) -> Option<u32> {
        self.annotated(DESIRED)
    }

    /// [`MOST`]
    pub(crate) fn most_then(&self) -> Option<u32> {
        self.annotated(MOST)
    }

    fn annotated<T: FromStr>(&self, name: &str) -> Option<T> {
        self.meta.annotations.get(name)?.parse().ok()
    }
}
