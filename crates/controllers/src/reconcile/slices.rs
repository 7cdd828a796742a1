//! Services and pods → EndpointSlices.

use super::packing::{self, Group};
use super::slice_writes::{Frame, delete};
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{
    Distribution, Endpoint, Family, Hints, Manager, Pod, Port, Service, Slice, Target,
    owner_reference,
};
use crate::settings::Settings;
use crate::write::Write;
use model::ObjectKey;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn plan(
    cluster: &Cluster,
    key: &ObjectKey,
    settings: &Settings,
    names: &mut Names,
) -> Vec<Write> {
    let slices = cluster.slices_of(Manager::Service, key);
    let service = match cluster.service(key) {
        // Its slices' owner reference says so too, but endpoints should not wait for the garbage collector.
        None => return slices.map(delete).collect(),
        // Without a selector the endpoints are somebody else's business.
        Some(service) if !service.is_selecting() => return Vec::new(),
        Some(service) => service,
    };
    let zone = |node: &str| cluster.node(node)?.zone().map(str::to_owned);
    let wanted = wanted(service, cluster.pods_behind(service), zone);
    let packing =
        packing::pack(wanted, slices.cloned().collect(), settings.max_endpoints_per_slice);
    let meta = &service.base.meta;
    let frame = Frame {
        key: &meta.key,
        owner: owner_reference("v1", "Service", &meta.key.name, &meta.uid),
        labels: labels(service),
        annotations: BTreeMap::new(),
    };
    // A pod that was there before its Service was no reason to look then.
    let changed = |pod: &Pod| pod.ready_since.max(service.created);
    let times = cluster.pods_behind(service);
    let times = times.filter_map(|pod| Some((pod.base.meta.uid.as_str(), changed(pod)?))).collect();
    frame.writes(packing, &times, names)
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
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
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
    let ready = service.base.publish_not_ready_addresses || (serving && !terminating);
    let zone = base.node.as_deref().and_then(zone);
    let in_subdomain = base.subdomain.as_deref() == Some(&*service.base.meta.key.name);
    Endpoint {
        address,
        ready,
        serving,
        terminating,
        hostname: base.hostname.clone().filter(|_| in_subdomain),
        node: base.node.clone(),
        hints: hints(service.distribution, ready, zone.as_ref(), base.node.as_ref()),
        zone,
        target: Some(Target::pod(&base.meta)),
        weight: pod.weight,
    }
}

/// Only ready endpoints have hints; the zone's is there for those whom the node's does not help.
fn hints(
    distribution: Distribution,
    ready: bool,
    zone: Option<&String>,
    node: Option<&String>,
) -> Hints {
    let list = |name: Option<&String>| name.into_iter().cloned().collect();
    match distribution {
        _ if !ready => Hints::default(),
        Distribution::Alike => Hints::default(),
        Distribution::SameZone => Hints { zones: list(zone), nodes: Vec::new() },
        Distribution::SameNode => Hints { zones: list(zone), nodes: list(node) },
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
    labels.insert(Slice::MANAGED_BY.to_owned(), Manager::Service.label().to_owned());
    labels
}

#[cfg(test)]
mod tests;
