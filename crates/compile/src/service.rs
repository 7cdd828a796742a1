//! Services: which front ends there are and who answers behind them.

use crate::finding::{Code, Finding};
use model::{EndpointSlice, Kind, ObjectKey, Origin, Service, ServicePort, ServiceType, World};
use program::{Action, Binding, Endpoint, Frontend, Masquerade, Pool, Scope, ServicePortName};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Somebody else's proxy serves objects with this label.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Slices with this label belong to headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// All front ends of one Service; none when it does not exist or is none of our business.
pub(crate) fn bindings(
    world: &World,
    key: &ObjectKey,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Frontend, Binding> {
    let mut bindings = BTreeMap::new();
    let Some(service) = world.service(key).filter(|service| is_proxied(service)) else {
        return bindings;
    };
    if service.cluster_ips.is_empty() {
        let text = "no cluster IP is allocated yet".to_owned();
        findings.push(Finding {
            code: Code::NoClusterIp,
            origin: origin(key, "spec.clusterIP"),
            text,
        });
    }
    for (index, port) in service.ports.iter().enumerate() {
        let origin = origin(key, &format!("spec.ports[{index}]"));
        let bound = port_bindings(world, service, port, &origin);
        if bound.iter().all(|(_, binding)| binding.action == Action::Reject) {
            let text = format!("port {} has no endpoint that could answer", port.port);
            findings.push(Finding { code: Code::NoEndpoints, origin, text });
        }
        bindings.extend(bound);
    }
    bindings
}

fn is_proxied(service: &Service) -> bool {
    !service.headless
        && service.kind != ServiceType::ExternalName
        && !service.meta.labels.contains_key(PROXY_NAME)
}

fn origin(service: &ObjectKey, field: &str) -> Origin {
    Origin::new(Kind::Service, &service.namespace, &service.name, field)
}

fn port_bindings(
    world: &World,
    service: &Service,
    port: &ServicePort,
    origin: &Origin,
) -> Vec<(Frontend, Binding)> {
    let key = &service.meta.key;
    let name = ServicePortName { service: key.clone(), port: port.name.as_str().into() };
    let pools = [Family::V4, Family::V6].map(|family| pool(world, key, port, family));
    let bind = |scope, number, family: Family, masquerade| {
        let action = match &pools[family as usize] {
            Some(pool) => Action::Balance { pool: pool.clone(), masquerade },
            None => Action::Reject,
        };
        let frontend = Frontend { scope, protocol: port.protocol, port: number };
        (frontend, Binding { port: name.clone(), origin: origin.clone(), action })
    };
    let mut bound: Vec<_> = service
        .cluster_ips
        .iter()
        .map(|ip| bind(Scope::Address(*ip), port.port, Family::of(*ip), Masquerade::FromOutside))
        .collect();
    let external = matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer);
    if let Some(node_port) = port.node_port.filter(|_| external) {
        let family = service.cluster_ips.first().map_or(Family::V4, |ip| Family::of(*ip));
        bound.push(bind(Scope::NodePort, node_port, family, Masquerade::Always));
    }
    bound
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4 = 0,
    V6 = 1,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Who answers for a port: the ready endpoints, or where there are none those that still serve
/// while they terminate (KEP-1669).
fn pool(
    world: &World,
    service: &ObjectKey,
    port: &ServicePort,
    family: Family,
) -> Option<Arc<Pool>> {
    let mut candidates = BTreeMap::new();
    for slice in world.slices_of(service).filter(|slice| !slice.meta.labels.contains_key(HEADLESS))
    {
        for number in ports(slice, port) {
            add_candidates(&mut candidates, slice, number, family);
        }
    }
    let of = |rank: Rank| {
        let ranked = candidates.values().filter(move |(have, _)| *have == rank);
        ranked.map(|(_, endpoint): &(Rank, Endpoint)| endpoint.clone()).collect::<Vec<_>>()
    };
    let mut endpoints = of(Rank::Ready);
    if endpoints.is_empty() {
        endpoints = of(Rank::Leaving);
    }
    (!endpoints.is_empty()).then(|| Arc::new(Pool { endpoints }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Ready,
    /// Serving and terminating.
    Leaving,
}

fn ports(slice: &EndpointSlice, port: &ServicePort) -> impl Iterator<Item = u16> {
    let named = slice.ports.iter().filter(|have| have.name == port.name);
    named.filter(|have| have.protocol == port.protocol).map(|have| have.port)
}

/// Slices may overlap; of two entries with one address the one that is not terminating wins.
fn add_candidates(
    candidates: &mut BTreeMap<SocketAddr, (Rank, Endpoint)>,
    slice: &EndpointSlice,
    port: u16,
    family: Family,
) {
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let rank = match (endpoint.ready, endpoint.serving && endpoint.terminating) {
            (true, _) => Rank::Ready,
            (false, true) => Rank::Leaving,
            (false, false) => continue,
        };
        if Family::of(endpoint.address) != family {
            continue;
        }
        let address = SocketAddr::new(endpoint.address, port);
        let key = &slice.meta.key;
        let field = format!("endpoints[{index}]");
        let candidate = Endpoint {
            address,
            node: endpoint.node.as_deref().map(Arc::from),
            pod: endpoint.pod.clone(),
            origin: Origin::new(Kind::EndpointSlice, &key.namespace, &key.name, &field),
        };
        let better = candidates.get(&address).is_none_or(|(have, _)| rank < *have);
        if better {
            candidates.insert(address, (rank, candidate));
        }
    }
}
