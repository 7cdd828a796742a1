//! What one node must do with packets, with no word of how the kernel is told.
//!
//! *Here*: the compiled network program of a node as plain values, the change of one, and its
//! interpreter, [`trace`].
//! *Not here*: Kubernetes semantics (crate `compile`), nf_tables, routes and devices (crate `backend`).
//! *Start at* [`Program`], then [`trace::trace`].

pub mod change;
pub mod claims;
pub mod edge;
pub mod network;
pub mod node;
pub mod service;
pub mod slots;
pub mod trace;

pub use change::Change;
pub use claims::Claims;
pub use edge::VirtualIp;
pub use model::NodePortAddresses;
pub use network::{LocalPod, Peer, PodNetwork};
pub use node::PodSources;
pub use service::{
    Action, Binding, Endpoint, Frontend, FrontendKind, HealthCheckPort, Masquerade, Pool, Reach,
    Scope, ServicePortName, Standing,
};
pub use slots::{Draw, Slots};
pub use trace::{Arrival, Outcome, Packet, Step, Trace, trace};

use ipnet::IpNet;
use model::{Family, ObjectKey, Origin, Protocol};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The program of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The node's own addresses, first the one it is known by.
    pub addresses: Vec<IpAddr>,
    /// Where it is, as far as its label `topology.kubernetes.io/zone` tells.
    pub zone: Option<Arc<str>>,
    /// Load balancers are to send it nothing new: it is about to go.
    pub leaving: bool,
    pub node_ports: NodePortAddresses,
    pub pod_sources: PodSources,
    /// Empty until the node has a pod subnet.
    pub networks: BTreeMap<Family, PodNetwork>,
    pub services: Claims<Frontend, Binding>,
    /// Where cluster IPs come from: one that nobody has goes nowhere.
    pub service_cidrs: BTreeMap<IpNet, Origin>,
    pub health_checks: Claims<u16, HealthCheckPort>,
    /// The other nodes' pods, by family and node name.
    pub peers: BTreeMap<(Family, Arc<str>), Peer>,
    /// The pods on this node, by address.
    pub pods: Claims<IpAddr, LocalPod>,
    /// The virtual IPs this node takes part in, by name.
    pub virtual_ips: BTreeMap<Arc<str>, VirtualIp>,
}

impl Program {
    /// This node's part of the pod network that an address belongs to.
    pub fn network_of(&self, address: IpAddr) -> Option<&PodNetwork> {
        self.networks.get(&Family::of(address))
    }

    /// Whether a packet to this address is for the node itself.
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || address.is_loopback()
            || self
                .network_of(address)
                .is_some_and(|net| address == net.gateway || address == net.tunnel_address)
    }

    /// Whether node ports answer on this address.
    pub fn is_node_port_address(&self, address: IpAddr) -> bool {
        let node_ports = &self.node_ports;
        if address.is_loopback() {
            return node_ports.localhost.contains(&Family::of(address));
        }
        match &node_ports.within {
            None => self.primary_address(Family::of(address)) == Some(address),
            Some(nets) => {
                self.is_own_address(address) && nets.iter().any(|net| net.contains(&address))
            }
        }
    }

    /// The first of the node's addresses of a family.
    pub fn primary_address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().find(|address| Family::of(**address) == family).copied()
    }

    /// The peer whose pods have this address.
    pub fn peer_of(&self, address: IpAddr) -> Option<(&Arc<str>, &Peer)> {
        let family = Family::of(address);
        let peers = self.peers.iter().filter(|((of, _), _)| *of == family);
        let mut peers = peers.map(|((_, node), peer)| (node, peer));
        peers.find(|(_, peer)| peer.subnets.iter().any(|net| net.contains(&address)))
    }

    /// The ServiceCIDR that an address is from.
    pub fn service_cidr_of(&self, address: IpAddr) -> Option<(&IpNet, &Origin)> {
        self.service_cidrs.iter().find(|(net, _)| net.contains(&address))
    }

    /// Replaces all that one Service contributes and returns what changed by it.
    pub fn replace_service(
        &mut self,
        service: &ObjectKey,
        bindings: BTreeMap<Frontend, Binding>,
        health_checks: BTreeMap<u16, HealthCheckPort>,
    ) -> Vec<Change> {
        let frontend = |replaced: claims::Replaced<Frontend, Binding>| Change::Frontend {
            frontend: replaced.key,
            before: replaced.before,
            after: replaced.after,
        };
        let health_check = |replaced: claims::Replaced<u16, HealthCheckPort>| Change::HealthCheck {
            port: replaced.key,
            before: replaced.before,
            after: replaced.after,
        };
        let frontends = self.services.replace(service, bindings).into_iter().map(frontend);
        let checks = self.health_checks.replace(service, health_checks).into_iter();
        frontends.chain(checks.map(health_check)).collect()
    }

    /// Replaces the addresses of one pod of this node and returns what changed by it.
    pub fn replace_pod(
        &mut self,
        pod: &ObjectKey,
        addresses: BTreeMap<IpAddr, LocalPod>,
    ) -> Vec<Change> {
        let change = |replaced: claims::Replaced<IpAddr, LocalPod>| Change::Pod {
            address: replaced.key,
            before: replaced.before,
            after: replaced.after,
        };
        self.pods.replace(pod, addresses).into_iter().map(change).collect()
    }

    /// The front ends that have this address, on whatever port.
    pub fn frontends_at(&self, address: IpAddr) -> impl Iterator<Item = (&Frontend, &Binding)> {
        let bound = |protocol, port| Frontend { scope: Scope::Address(address), protocol, port };
        self.services.range(bound(Protocol::Tcp, 0)..=bound(Protocol::Sctp, u16::MAX))
    }
}
