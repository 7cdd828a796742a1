//! Objects as the controllers see them: the model's types, and the fields beyond the network that they need.

mod claim;
mod daemon_set;
mod endpoints;
mod job;
mod node;
mod pod;
mod policy;
mod revision;
mod service;
mod slice;
mod stateful_set;
mod workload;

pub(crate) use claim::Claim;
pub(crate) use daemon_set::{DaemonSet, tolerate};
pub(crate) use endpoints::{Endpoints, Subset};
pub(crate) use job::{CronJob, Job, Overlap};
#[cfg(test)]
pub(crate) use node::Effect;
pub(crate) use node::{Node, Taint};
pub(crate) use pod::{COUNTED, Pod};
pub(crate) use policy::{FailureAction, FailureRule, FailureTest, SuccessRule};
pub(crate) use revision::Revision;
pub(crate) use service::{Distribution, Family, Service};
pub(crate) use slice::{Endpoint, Hints, Manager, Port, Slice, Target, weights};
pub(crate) use stateful_set::{StatefulSet, ordinal};
pub(crate) use workload::{
    Amount, DESIRED, Deployment, MOST, REVISION, ReplicaSet, Strategy, TEMPLATE_HASH,
};

use jiff::Timestamp;
use model::{Field, Meta, ObjectKey, Selector};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The owner that controls an object: the entry of `metadata.ownerReferences` with `controller: true`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Owner {
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let references = object.pointer("/metadata/ownerReferences")?.as_array()?;
        let controller = references.iter().find(|reference| reference["controller"] == true)?;
        let field = |name: &str| Some(controller.get(name)?.as_str()?.to_owned());
        Some(Owner { kind: field("kind")?, name: field("name")?, uid: field("uid")? })
    }
}

/// A reference by which `object` (of this kind) owns another one.
pub(crate) fn owner_reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    serde_json::json!({
        "apiVersion": api_version, "kind": kind, "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Namespace and name of any object; the namespace of a cluster-scoped one is empty.
pub(crate) fn key(object: &Value) -> Option<ObjectKey> {
    let namespace = text(object, "/metadata/namespace").unwrap_or_default();
    Some(ObjectKey::new(namespace, text(object, "/metadata/name")?))
}

fn meta(value: &Value) -> Option<Meta> {
    Some(Meta {
        key: key(value)?,
        uid: owned_text(value, "/metadata/uid").unwrap_or_default(),
        labels: strings(value, "/metadata/labels"),
        annotations: strings(value, "/metadata/annotations"),
        terminating: text(value, "/metadata/deletionTimestamp").is_some(),
    })
}

/// A part of an object, whole.
fn part(value: &Value, name: &str) -> Arc<Value> {
    Arc::new(value.get(name).cloned().unwrap_or_default())
}

/// `spec.selector` of a workload; `None`: it has none, or one that is not understood, and nothing is claimed by it.
fn selector(value: &Value) -> Option<Selector> {
    let selector = value.pointer("/spec/selector").filter(|selector| selector.is_object())?;
    Selector::parse(&Field::root(selector)).ok().filter(|selector| !selector.is_empty())
}

/// The same in the old form, a bare map.
fn plain_selector(value: &Value) -> Option<Selector> {
    let selector = Selector::from_labels(strings(value, "/spec/selector"));
    Some(selector).filter(|selector| !selector.is_empty())
}

/// `spec.revisionHistoryLimit`.
fn history(value: &Value) -> usize {
    let limit = number(value, "/spec/revisionHistoryLimit");
    limit.and_then(|limit| limit.try_into().ok()).unwrap_or(10)
}

/// `metadata.resourceVersion` as the number that it is with every API server since Kubernetes 1.35 (KEP-5504).
pub(crate) fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str()
}

fn owned_text(object: &Value, pointer: &str) -> Option<String> {
    text(object, pointer).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A whole number; 0 when absent or negative.
fn number(object: &Value, pointer: &str) -> Option<u64> {
    object.pointer(pointer)?.as_u64()
}

fn count(object: &Value, pointer: &str) -> Option<u32> {
    number(object, pointer)?.try_into().ok()
}

fn seconds(object: &Value, pointer: &str) -> Option<Duration> {
    number(object, pointer).map(Duration::from_secs)
}

fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer)?.parse().ok()
}

fn strings(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let members = object.pointer(pointer).and_then(Value::as_object);
    let pairs = members.into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|condition| condition["type"] == kind)
}

/// RFC 3339 with whole seconds, as `metav1.Time` is written.
pub(crate) fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
