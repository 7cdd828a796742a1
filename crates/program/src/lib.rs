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
pub mod service;
pub mod trace;

pub use change::Change;
pub use claims::Claims;
pub use edge::VirtualIp;
pub use network::{LocalPod, Peer, PodNetwork};
pub use service::{Action, Binding, Endpoint, Frontend, Masquerade, Pool, Scope, ServicePortName};
pub use trace::{Arrival, Outcome, Packet, Step, Trace, trace};

use model::{ObjectKey, Protocol};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The program of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The node's own addresses, first the one it is known by: node ports answer here.
    pub addresses: Vec<IpAddr>,
    /// `None` until the node has a pod subnet.
    pub network: Option<PodNetwork>,
    pub services: Claims<Frontend, Binding>,
    /// The other nodes' pods, by node name.
    pub peers: BTreeMap<Arc<str>, Peer>,
    /// The pods on this node, by address.
    pub pods: Claims<IpAddr, LocalPod>,
    /// The virtual IPs this node takes part in, by name.
    pub virtual_ips: BTreeMap<Arc<str>, VirtualIp>,
}

impl Program {
    /// Whether a packet to this address is for the node itself.
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        let network = self.network.as_ref();
        self.addresses.contains(&address)
            || network.is_some_and(|net| address == net.gateway || address == net.tunnel_address)
    }

    /// The peer whose pods have this address.
    pub fn peer_of(&self, address: IpAddr) -> Option<(&Arc<str>, &Peer)> {
        self.peers.iter().find(|(_, peer)| peer.subnets.iter().any(|net| net.contains(&address)))
    }

    /// Replaces all that one Service contributes and returns what changed by it.
    pub fn replace_service(
        &mut self,
        service: &ObjectKey,
        bindings: BTreeMap<Frontend, Binding>,
    ) -> Vec<Change> {
        let change = |replaced: claims::Replaced<Frontend, Binding>| Change::Frontend {
            frontend: replaced.key,
            before: replaced.before,
            after: replaced.after,
        };
        self.services.replace(service, bindings).into_iter().map(change).collect()
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
