//! How packed endpoints become writes of slices.

use super::packing::{Group, Packing};
use crate::names::Names;
use crate::record::{Endpoint, Port, Slice, stamp, weights};
use crate::write::Write;
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What all slices of one owner have in common.
pub(super) struct Frame<'a> {
    /// The Service's name and namespace.
    pub(super) key: &'a ObjectKey,
    pub(super) owner: Value,
    pub(super) labels: BTreeMap<String, String>,
    /// Those beside the ones that depend on the endpoints.
    pub(super) annotations: BTreeMap<String, String>,
}

/// When what an endpoint is changed last, by the uid of its target.
pub(super) type Times<'a> = BTreeMap<&'a str, Timestamp>;

pub(super) fn delete(slice: &Slice) -> Write {
    Write::Delete { kind: Kind::ENDPOINT_SLICE, key: slice.key.clone(), grace: None }
}

impl Frame<'_> {
    pub(super) fn writes(
        &self,
        packing: Packing,
        times: &Times<'_>,
        names: &mut Names,
    ) -> Vec<Write> {
        let mut writes: Vec<_> = packing.delete.iter().map(delete).collect();
        let kept = packing.keep.iter();
        writes.extend(kept.filter_map(|(old, new)| self.update(old.as_ref(), new, times)));
        for (group, endpoints) in packing.create {
            writes.push(self.create(&group, &endpoints, times, names));
        }
        writes
    }

    /// Only what differs; `None` if nothing does. `old` is the slice before packing changed it.
    fn update(&self, old: Option<&Slice>, new: &Slice, times: &Times<'_>) -> Option<Write> {
        let mut patch = json!({"metadata": {"resourceVersion": new.version.to_string()}});
        let relabelled = new.labels != self.labels;
        if relabelled {
            patch["metadata"]["labels"] = map_patch(&new.labels, &self.labels);
        }
        if let Some(old) = old {
            if old.endpoints != new.endpoints {
                patch["endpoints"] = new.endpoints.iter().map(Endpoint::to_value).collect();
            }
            if old.ports != new.ports {
                patch["ports"] = new.ports.iter().map(Port::to_value).collect();
            }
        }
        let mut annotations = self.annotations(&new.endpoints);
        let mut had = new.annotations.clone();
        had.remove(Slice::TRIGGER_TIME);
        if !relabelled && old.is_none() && had == annotations {
            return None;
        }
        let before = old.map_or(&new.endpoints, |old| &old.endpoints);
        annotations.extend(trigger(before, &new.endpoints, times));
        if new.annotations != annotations {
            patch["metadata"]["annotations"] = map_patch(&new.annotations, &annotations);
        }
        let key = new.key.clone();
        Some(Write::Patch { kind: Kind::ENDPOINT_SLICE, key, patch })
    }

    fn create(
        &self,
        group: &Group,
        endpoints: &[Endpoint],
        times: &Times<'_>,
        names: &mut Names,
    ) -> Write {
        let prefix = format!("{}-", self.key.name);
        let mut object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": names.name(&prefix),
                "generateName": prefix,
                "namespace": &*self.key.namespace,
                "labels": self.labels,
                "ownerReferences": [self.owner],
            },
            "addressType": group.family.address_type(),
            "ports": group.ports.iter().map(Port::to_value).collect::<Value>(),
            "endpoints": endpoints.iter().map(Endpoint::to_value).collect::<Value>(),
        });
        let mut annotations = self.annotations(endpoints);
        annotations.extend(trigger(&[], endpoints, times));
        if !annotations.is_empty() {
            object["metadata"]["annotations"] = json!(annotations);
        }
        Write::Create(object)
    }

    fn annotations(&self, endpoints: &[Endpoint]) -> BTreeMap<String, String> {
        let mut annotations = self.annotations.clone();
        annotations.extend(weights(endpoints).map(|text| (Slice::WEIGHTS.to_owned(), text)));
        annotations
    }
}

/// The earliest of the changes that this write tells of: what network programming latency is measured from.
fn trigger(old: &[Endpoint], new: &[Endpoint], times: &Times<'_>) -> Option<(String, String)> {
    let old: BTreeMap<_, _> = old.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
    let changed = new.iter().filter(|endpoint| old.get(&endpoint.address) != Some(endpoint));
    let time = |endpoint: &Endpoint| times.get(endpoint.target.as_ref()?.uid.as_str()).copied();
    let first = changed.filter_map(time).min()?;
    Some((Slice::TRIGGER_TIME.to_owned(), stamp(first)))
}

/// A merge patch from one map of texts to another.
pub(super) fn map_patch(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Value {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let set = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let set = set.map(|(name, value)| (name.clone(), value.as_str().into()));
    Value::Object(gone.chain(set).collect::<Map<_, _>>())
}
