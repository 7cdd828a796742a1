//! Services straight from the specification, naive on purpose: no tables, no indices, just sentences.

use crate::cluster::NODE;
use compile::{LocalDetection, Settings};
use ipnet::IpNet;
use model::{Endpoint, IngressMode, Service, ServicePort, ServiceType, TrafficPolicy, World};
use program::{Arrival, Packet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

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
    Dropped,
}

/// How a packet came to be for a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

pub(crate) fn fate(world: &World, settings: &Settings, packet: &Packet, arrival: Arrival) -> Fate {
    let question = Question { world, settings, packet, arrival };
    for service in world.services().filter(|service| is_proxied(service)) {
        let mut ports = service.ports.iter().rev();
        let met = ports.find_map(|port| Some((port, question.addressed(service, port)?)));
        if let Some((port, by)) = met {
            return question.answer(service, port, by);
        }
    }
    let destination = packet.destination.ip();
    let is_cluster_ip = world
        .services()
        .any(|service| is_proxied(service) && service.cluster_ips.contains(&destination));
    let mut cidrs = world.service_cidrs().flat_map(|object| &object.cidrs);
    if is_cluster_ip {
        Fate::Refused
    } else if cidrs.any(|net| net.contains(&destination)) {
        Fate::Dropped
    } else {
        Fate::Untouched
    }
}

struct Question<'a> {
    world: &'a World,
    settings: &'a Settings,
    packet: &'a Packet,
    arrival: Arrival,
}

impl Question<'_> {
    /// By which of its addresses the Service's port is meant, if at all.
    fn addressed(&self, service: &Service, port: &ServicePort) -> Option<By> {
        let (ip, number) = (self.packet.destination.ip(), self.packet.destination.port());
        if port.protocol != self.packet.protocol {
            return None;
        }
        if !service.cluster_ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4()) {
            return None;
        }
        let ingress = |it: &model::LoadBalancerIngress| it.ip == ip && it.mode == IngressMode::Vip;
        if port.port == number {
            if service.cluster_ips.contains(&ip) {
                return Some(By::ClusterIp);
            }
            if service.external_ips.contains(&ip) {
                return Some(By::ExternalIp);
            }
            if service.ingress.iter().any(ingress) {
                return Some(By::LoadBalancer);
            }
        }
        let on_nodes = service.kind != ServiceType::ClusterIp && port.node_port == Some(number);
        (on_nodes && self.serves_node_ports(ip)).then_some(By::NodePort)
    }

    fn serves_node_ports(&self, ip: IpAddr) -> bool {
        let node_ports = &self.settings.node_ports;
        let of_family = |own: &&IpAddr| own.is_ipv4() == ip.is_ipv4();
        if ip.is_loopback() {
            return !node_ports.localhost.is_empty();
        }
        match &node_ports.within {
            Some(nets) => self.is_own(ip) && nets.iter().any(|net| net.contains(&ip)),
            None => self.own().iter().find(of_family) == Some(&ip),
        }
    }

    fn own(&self) -> &[IpAddr] {
        &self.world.node(NODE).unwrap().addresses
    }

    /// The node has the first address of each pod subnet and the subnet's own too.
    fn is_own(&self, ip: IpAddr) -> bool {
        let others = ["10.244.1.0", "10.244.1.1", "fd00:244:1::", "fd00:244:1::1"];
        self.own().contains(&ip) || others.iter().any(|own| own.parse::<IpAddr>().unwrap() == ip)
    }

    fn is_from_pod(&self) -> bool {
        let source = self.packet.source.ip();
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&source));
        match &self.settings.local_detection {
            LocalDetection::ClusterCidr => within(&self.settings.cluster_cidrs),
            LocalDetection::NodeCidr => within(&self.world.node(NODE).unwrap().pod_cidrs),
            LocalDetection::InterfaceNamePrefix(_) => self.arrival == Arrival::Pod,
            LocalDetection::BridgeInterface(_) => self.arrival == Arrival::Pod,
            LocalDetection::None => false,
        }
    }

    fn is_from_node(&self) -> bool {
        self.arrival == Arrival::LocalProcess || self.is_own(self.packet.source.ip())
    }

    fn answer(&self, service: &Service, port: &ServicePort, by: By) -> Fate {
        if by == By::LoadBalancer && !self.is_allowed(service) {
            return Fate::Dropped;
        }
        let everywhere = self.usable(service, port, false);
        let here = self.usable(service, port, true);
        if everywhere.is_empty() {
            return Fate::Refused;
        }
        let external = by != By::ClusterIp;
        let policy = if external { service.external_policy } else { service.internal_policy };
        let outside = !self.is_from_pod();
        let masqueraded = match (external, policy) {
            (false, _) => outside || self.settings.masquerade_all,
            (true, TrafficPolicy::Cluster) => true,
            (true, TrafficPolicy::Local) => outside && self.is_from_node(),
        };
        let short_cut = external && (!outside || self.is_from_node());
        if policy == TrafficPolicy::Cluster || short_cut {
            return Fate::Balanced { endpoints: everywhere, masqueraded };
        }
        if here.is_empty() {
            Fate::Dropped
        } else {
            Fate::Balanced { endpoints: here, masqueraded }
        }
    }

    fn is_allowed(&self, service: &Service) -> bool {
        let (source, destination) = (self.packet.source.ip(), self.packet.destination.ip());
        let of_family = |net: &&IpNet| net.addr().is_ipv4() == source.is_ipv4();
        let ranges: Vec<_> = service.source_ranges.iter().filter(of_family).collect();
        let holds = |ip: &IpAddr| ranges.iter().any(|net| net.contains(ip));
        ranges.is_empty() || holds(&source) || source == destination && self.own().iter().any(holds)
    }

    /// The endpoints that a connection may go to: on this node only, or as hints say.
    fn usable(&self, service: &Service, port: &ServicePort, here: bool) -> BTreeSet<SocketAddr> {
        let all = entries(self.world, service, port, self.packet.destination.is_ipv4());
        let on_node = |entry: &Endpoint| entry.node().is_some_and(|node| **node == *NODE);
        let ready = |entry: &Endpoint| entry.ready;
        let meant =
            |entry: &Endpoint| if here { on_node(entry) } else { self.is_meant(&all, entry) };
        let usable = pick(&all, |entry| ready(entry) && meant(entry));
        if !usable.is_empty() {
            return usable;
        }
        pick(&all, |entry| entry.serving && entry.terminating && (!here || on_node(entry)))
    }

    fn is_meant(&self, all: &Entries<'_>, entry: &Endpoint) -> bool {
        let node = self.world.node(NODE).unwrap();
        let zone = node.zone();
        let ready: Vec<_> = all.values().flatten().filter(|entry| entry.ready).collect();
        let for_node = |entry: &Endpoint| entry.meant_nodes().iter().any(|name| **name == *NODE);
        let for_zone =
            |entry: &Endpoint| entry.meant_zones().iter().any(|name| Some(&**name) == zone);
        if ready.iter().all(|it| !it.meant_nodes().is_empty())
            && ready.iter().any(|it| for_node(it))
        {
            return for_node(entry);
        }
        if ready.iter().all(|it| !it.meant_zones().is_empty())
            && ready.iter().any(|it| for_zone(it))
        {
            return for_zone(entry);
        }
        true
    }
}

fn is_proxied(service: &Service) -> bool {
    !service.meta.labels.contains_key("service.kubernetes.io/service-proxy-name")
}

type Entries<'a> = BTreeMap<SocketAddr, Vec<&'a Endpoint>>;

/// What the slices say of each address; of several entries those that are not about to go count, and of those the
/// most promising.
fn entries<'a>(world: &'a World, service: &Service, port: &ServicePort, v4: bool) -> Entries<'a> {
    let mut entries = Entries::new();
    let of_service = world.slices_of(&service.meta.key);
    for slice in
        of_service.filter(|slice| !slice.meta.labels.contains_key("service.kubernetes.io/headless"))
    {
        let named = slice.ports.iter().filter(|it| it.name == port.name);
        for number in named.filter(|it| it.protocol == port.protocol) {
            for endpoint in slice.endpoints.iter().filter(|it| it.address.is_ipv4() == v4) {
                let address = SocketAddr::new(endpoint.address, number.port);
                entries.entry(address).or_default().push(endpoint);
            }
        }
    }
    for entries in entries.values_mut() {
        let narrow = |entries: &mut Vec<&Endpoint>, better: fn(&Endpoint) -> bool| {
            if entries.iter().any(|entry| better(entry)) {
                entries.retain(|entry| better(entry));
            }
        };
        narrow(entries, |entry| !entry.terminating);
        narrow(entries, |entry| entry.ready);
        narrow(entries, |entry| entry.serving);
        entries.truncate(1);
    }
    entries
}

fn pick(all: &Entries<'_>, wanted: impl Fn(&Endpoint) -> bool) -> BTreeSet<SocketAddr> {
    let wanted = all.iter().filter(|(_, entries)| entries.iter().any(|entry| wanted(entry)));
    wanted.map(|(address, _)| *address).collect()
}
