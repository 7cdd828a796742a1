//! Services straight from the specification, naive on purpose: no tables, no indices, just sentences.

use crate::cluster::NODE;
use model::{Endpoint, Service, ServicePort, ServiceType, World};
use program::Packet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What must happen to the first packet of a connection that reaches a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not addressed to a Service.
    Untouched,
    /// Goes to any of these, with the source replaced or not.
    Balanced {
        endpoints: BTreeSet<SocketAddr>,
        masqueraded: bool,
    },
    Refused,
}

pub(crate) fn fate(world: &World, packet: &Packet) -> Fate {
    let own = &world.node(NODE).unwrap().addresses;
    let from_pod = "10.244.0.0/16".parse::<ipnet::IpNet>().unwrap().contains(&packet.source.ip());
    for service in world.services().filter(|service| is_proxied(service)) {
        for port in service.ports.iter().rev().filter(|port| port.protocol == packet.protocol) {
            let by_ip = service.cluster_ips.contains(&packet.destination.ip())
                && port.port == packet.destination.port();
            let by_node_port = service.kind != ServiceType::ClusterIp
                && own.contains(&packet.destination.ip())
                && port.node_port == Some(packet.destination.port());
            if by_ip || by_node_port {
                return answer(world, service, port, packet, by_node_port || !from_pod);
            }
        }
    }
    let has_service_address = world.services().any(|service| {
        is_proxied(service) && service.cluster_ips.contains(&packet.destination.ip())
    });
    if has_service_address { Fate::Refused } else { Fate::Untouched }
}

fn answer(
    world: &World,
    service: &Service,
    port: &ServicePort,
    packet: &Packet,
    masqueraded: bool,
) -> Fate {
    let endpoints = endpoints(world, service, port);
    if endpoints.is_empty() {
        return Fate::Refused;
    }
    let _ = packet;
    Fate::Balanced { endpoints, masqueraded }
}

fn is_proxied(service: &Service) -> bool {
    !service.meta.labels.contains_key("service.kubernetes.io/service-proxy-name")
}

fn endpoints(world: &World, service: &Service, port: &ServicePort) -> BTreeSet<SocketAddr> {
    let mut entries: BTreeMap<SocketAddr, Vec<&Endpoint>> = BTreeMap::new();
    for slice in world.slices_of(&service.meta.key) {
        for number in
            slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol)
        {
            for endpoint in &slice.endpoints {
                let address = SocketAddr::new(endpoint.address, number.port);
                entries.entry(address).or_default().push(endpoint);
            }
        }
    }
    // Of several entries with one address those that are not about to go count.
    for entries in entries.values_mut() {
        if entries.iter().any(|entry| !entry.terminating) {
            entries.retain(|entry| !entry.terminating);
        }
    }
    let all = |wanted: fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        let wanted = entries.iter().filter(|(_, all)| all.iter().any(|entry| wanted(entry)));
        wanted.map(|(address, _)| *address).collect()
    };
    let ready = all(|entry| entry.ready);
    if ready.is_empty() { all(|entry| entry.serving && entry.terminating) } else { ready }
}
