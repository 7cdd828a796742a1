//! Services and pods → EndpointSlices.

use super::packing::{self, Group, Packing};
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{Endpoint, Family, Pod, Port, Service, Slice, owner_reference};
use crate::settings::Settings;
use crate::write::Write;
use client::Kind;
use model::ObjectKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn plan(
    cluster: &Cluster,
    key: &ObjectKey,
    settings: &Settings,
    names: &mut Names,
) -> Vec<Write> {
    let slices = cluster.slices_of(key);
    let service = match cluster.service(key) {
        // Its slices' owner reference says so too, but endpoints should not wait for the garbage collector.
        None => return slices.map(delete).collect(),
        // Without a selector the endpoints are somebody else's business.
        Some(service) if !service.is_selecting() => return Vec::new(),
        Some(service) => service,
    };
    let zone = |node: &str| cluster.node(node)?.zone().map(str::to_owned);
    let wanted = wanted(service, cluster.pods_behind(service), zone);
    let labels = labels(service);
    let packing =
        packing::pack(wanted, slices.cloned().collect(), settings.max_endpoints_per_slice);
    writes(service, &labels, packing, names)
}

/// The endpoints of a Service by family and ports; a family without endpoints has one group without ports.
pub(crate) fn wanted<'a>(
    service: &Service,
    pods: impl Iterator<Item = &'a Pod>,
    zone: impl Fn(&str) -> Option<String>,
) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups = BTreeMap::<Group, Vec<Endpoint>>::new();
    for pod in pods.filter(|pod| !pod.base.phase.is_over()) {
        for family in &service.families {
            let address =
                pod.base.addresses.iter().find(|address| Family::of(**address) == *family);
            if let Some(address) = address {
                let group = Group { family: *family, ports: ports(service, pod) };
                groups.entry(group).or_default().push(endpoint(service, pod, *address, &zone));
            }
        }
    }
    for family in &service.families {
        if !groups.keys().any(|group| group.family == *family) {
            groups.insert(Group { family: *family, ports: Vec::new() }, Vec::new());
        }
    }
    groups
}

/// The Service's ports as this pod has them: a named target port may be another number on another pod, or missing.
fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let resolve = |port: &model::ServicePort| {
        Some(Port {
            name: port.name.clone(),
            protocol: port.protocol,
            port: pod.base.port(&port.target, port.protocol)?,
            app_protocol: service.app_protocols.get(&port.name).cloned(),
        })
    };
    let mut ports: Vec<_> = service.base.ports.iter().filter_map(resolve).collect();
    ports.sort_unstable();
    ports
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    address: IpAddr,
    zone: &impl Fn(&str) -> Option<String>,
) -> Endpoint {
    let base = &pod.base;
    let (serving, terminating) = (base.ready, base.meta.terminating);
    let in_subdomain = base.subdomain.as_deref() == Some(&*service.base.meta.key.name);
    Endpoint {
        address,
        ready: service.base.publish_not_ready_addresses || (serving && !terminating),
        serving,
        terminating,
        hostname: base.hostname.clone().filter(|_| in_subdomain),
        node: base.node.clone(),
        zone: base.node.as_deref().and_then(zone),
        pod: base.meta.key.clone(),
        uid: base.meta.uid.clone(),
    }
}

/// The Service's own labels, and those by which consumers find and judge the slice.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let meta = &service.base.meta;
    let mut labels = meta.labels.clone();
    labels.remove(Slice::HEADLESS);
    if service.base.cluster_ips.is_empty() {
        labels.insert(Slice::HEADLESS.to_owned(), String::new());
    }
    labels.insert(Slice::SERVICE_NAME.to_owned(), meta.key.name.to_string());
    labels.insert(Slice::MANAGED_BY.to_owned(), Slice::MANAGER.to_owned());
    labels
}

fn writes(
    service: &Service,
    labels: &BTreeMap<String, String>,
    packing: Packing,
    names: &mut Names,
) -> Vec<Write> {
    let mut writes: Vec<_> = packing.delete.iter().map(delete).collect();
    let kept = packing.keep.iter();
    writes.extend(kept.filter_map(|(old, new)| update(old.as_ref(), new, labels)));
    for (group, endpoints) in packing.create {
        writes.push(create(service, labels, &group, &endpoints, names));
    }
    writes
}

fn delete(slice: &Slice) -> Write {
    Write::Delete { kind: Kind::ENDPOINT_SLICE, key: slice.key.clone(), grace: None }
}

/// Only what differs; `None` if nothing does. `old` is the slice before packing changed it.
fn update(old: Option<&Slice>, new: &Slice, labels: &BTreeMap<String, String>) -> Option<Write> {
    let mut patch = json!({"metadata": {"resourceVersion": new.version.to_string()}});
    let relabelled = new.labels != *labels;
    if relabelled {
        patch["metadata"]["labels"] = label_patch(&new.labels, labels);
    }
    if let Some(old) = old {
        if old.endpoints != new.endpoints {
            patch["endpoints"] = new.endpoints.iter().map(Endpoint::to_value).collect();
        }
        if old.ports != new.ports {
            patch["ports"] = new.ports.iter().map(Port::to_value).collect();
        }
    }
    let changed = relabelled || old.is_some();
    let key = new.key.clone();
    changed.then_some(Write::Patch { kind: Kind::ENDPOINT_SLICE, key, patch })
}

/// A merge patch from one set of labels to another.
fn label_patch(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Value {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let set = new.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
    Value::Object(gone.chain(set).collect())
}

fn create(
    service: &Service,
    labels: &BTreeMap<String, String>,
    group: &Group,
    endpoints: &[Endpoint],
    names: &mut Names,
) -> Write {
    let meta = &service.base.meta;
    let name = &*meta.key.name;
    let prefix = format!("{name}-");
    Write::Create(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": names.name(&prefix),
            "generateName": prefix,
            "namespace": &*meta.key.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference("v1", "Service", name, &meta.uid)],
        },
        "addressType": group.family.address_type(),
        "ports": group.ports.iter().map(Port::to_value).collect::<Value>(),
        "endpoints": endpoints.iter().map(Endpoint::to_value).collect::<Value>(),
    }))
}

#[cfg(test)]
mod tests;
