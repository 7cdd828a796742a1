//! Services and pods → Endpoints, which Kubernetes has given up for slices and many tools still read.

use super::slice_writes::map_patch;
use super::subsets::{canonical, pack, subset_value, truncate};
use crate::cluster::Cluster;
use crate::record::{
    Endpoint, Endpoints, Family, Hints, Pod, Port, Service, Slice, Subset, Target, stamp,
};
use crate::write::Write;
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// More addresses than these are left out, which an annotation says.
const MOST: usize = 1000;

pub(super) fn plan(cluster: &Cluster, key: &ObjectKey) -> Vec<Write> {
    let current = cluster.endpoints(key);
    let service = match cluster.service(key) {
        None => return current.map(delete).into_iter().collect(),
        // Without a selector they are somebody else's business.
        Some(service) if !service.is_selecting() => return Vec::new(),
        Some(service) => service,
    };
    let mut subsets = pack(entries(service, cluster.pods_behind(service)));
    let over_capacity = truncate(&mut subsets, MOST);
    let wanted = Wanted { labels: labels(service), subsets, over_capacity };
    match current {
        None => vec![wanted.create(service)],
        Some(current) => wanted.update(current, &times(cluster, service)).into_iter().collect(),
    }
}

fn delete(endpoints: &Endpoints) -> Write {
    Write::Delete { kind: Kind::ENDPOINTS, key: endpoints.meta.key.clone(), grace: None }
}

/// Each pod at each of the Service's ports; at none where a headless Service has none.
fn entries<'a>(
    service: &'a Service,
    pods: impl Iterator<Item = &'a Pod>,
) -> impl Iterator<Item = (Option<Port>, Endpoint)> {
    let unready_too = service.base.publish_not_ready_addresses;
    let there =
        pods.filter(move |pod| !pod.base.phase.is_over() && (unready_too || !is_leaving(pod)));
    there.flat_map(move |pod| {
        let ports = ports(service, pod);
        let address = endpoint(service, pod);
        address.into_iter().flat_map(move |address| {
            ports.clone().into_iter().map(move |port| (port, address.clone()))
        })
    })
}

fn is_leaving(pod: &Pod) -> bool {
    pod.base.meta.terminating
}

fn ports(service: &Service, pod: &Pod) -> Vec<Option<Port>> {
    if service.base.ports.is_empty() {
        return if service.base.headless { vec![None] } else { Vec::new() };
    }
    super::slices::ports(service, pod).into_iter().map(Some).collect()
}

/// With its address in the Service's first family: Endpoints know no second one.
fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let base = &pod.base;
    let mut addresses = base.addresses.iter();
    let address = addresses.find(|address| Family::of(**address) == service.primary)?;
    let ready = service.base.publish_not_ready_addresses || base.ready;
    let in_subdomain = base.subdomain.as_deref() == Some(&*service.base.meta.key.name);
    Some(Endpoint {
        address: *address,
        ready,
        serving: ready,
        terminating: false,
        hostname: base.hostname.clone().filter(|_| in_subdomain),
        node: base.node.clone(),
        zone: None,
        target: Some(Target::pod(&base.meta)),
        hints: Hints::default(),
        weight: 1,
    })
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.base.meta.labels.clone();
    labels.remove(Slice::HEADLESS);
    if service.base.cluster_ips.is_empty() {
        labels.insert(Slice::HEADLESS.to_owned(), String::new());
    }
    labels.insert(Endpoints::MANAGED_BY.to_owned(), Endpoints::MANAGER.to_owned());
    labels
}

/// When the readiness of the Service's pods last turned, by their uid.
fn times<'a>(cluster: &'a Cluster, service: &'a Service) -> BTreeMap<&'a str, Timestamp> {
    let time = |pod: &'a Pod| Some((pod.base.meta.uid.as_str(), pod.ready_since?));
    cluster.pods_behind(service).filter_map(time).collect()
}

/// What the Endpoints of a Service should say.
struct Wanted {
    labels: BTreeMap<String, String>,
    subsets: Vec<Subset>,
    over_capacity: bool,
}

impl Wanted {
    fn create(&self, service: &Service) -> Write {
        let key = &service.base.meta.key;
        let mut object = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": &*key.name, "namespace": &*key.namespace, "labels": self.labels},
        });
        let annotations = self.annotations(&BTreeMap::new(), service.created);
        if !annotations.is_empty() {
            object["metadata"]["annotations"] = json!(annotations);
        }
        if !self.subsets.is_empty() {
            object["subsets"] = self.value();
        }
        Write::Create(object)
    }

    /// Only what differs; `None` if nothing does. The order of what is there is nobody's business.
    fn update(&self, current: &Endpoints, times: &BTreeMap<&str, Timestamp>) -> Option<Write> {
        let same = canonical(&current.subsets) == canonical(&self.subsets);
        let annotated = current.meta.annotations.contains_key(Endpoints::OVER_CAPACITY);
        if same && current.meta.labels == self.labels && annotated == self.over_capacity {
            return None;
        }
        let annotations =
            self.annotations(&current.meta.annotations, self.trigger(&current.subsets, times));
        let mut metadata = json!({"resourceVersion": current.version.to_string()});
        for (field, old, new) in [
            ("labels", &current.meta.labels, &self.labels),
            ("annotations", &current.meta.annotations, &annotations),
        ] {
            if old != new {
                metadata[field] = map_patch(old, new);
            }
        }
        let mut patch = json!({"metadata": metadata});
        if !same {
            patch["subsets"] = if self.subsets.is_empty() { Value::Null } else { self.value() };
        }
        Some(Write::Patch { kind: Kind::ENDPOINTS, key: current.meta.key.clone(), patch })
    }

    fn value(&self) -> Value {
        self.subsets.iter().map(subset_value).collect()
    }

    /// Those of others stay.
    fn annotations(
        &self,
        others: &BTreeMap<String, String>,
        trigger: Option<Timestamp>,
    ) -> BTreeMap<String, String> {
        let mut annotations = others.clone();
        annotations
            .retain(|name, _| name != Slice::TRIGGER_TIME && name != Endpoints::OVER_CAPACITY);
        annotations.extend(trigger.map(|time| (Slice::TRIGGER_TIME.to_owned(), stamp(time))));
        if self.over_capacity {
            annotations.insert(Endpoints::OVER_CAPACITY.to_owned(), "truncated".to_owned());
        }
        annotations
    }

    /// The earliest of the changes that this write tells of.
    fn trigger(&self, old: &[Subset], times: &BTreeMap<&str, Timestamp>) -> Option<Timestamp> {
        let said = |subsets: &[Subset]| -> BTreeSet<(IpAddr, bool)> {
            let endpoints = subsets.iter().flat_map(|subset| &subset.endpoints);
            endpoints.map(|endpoint| (endpoint.address, endpoint.ready)).collect()
        };
        let old = said(old);
        let endpoints = self.subsets.iter().flat_map(|subset| &subset.endpoints);
        let changed = endpoints.filter(|it| !old.contains(&(it.address, it.ready)));
        changed.filter_map(|it| times.get(it.target.as_ref()?.uid.as_str()).copied()).min()
    }
}

#[cfg(test)]
mod tests;
