//! The interpreter of a program: what a node does with one packet of a new connection.
//!
//! `explain` prints it, and every back end is tested against it.

use crate::service::{Action, Endpoint, Frontend, Masquerade, Scope};
use crate::{Binding, Program};
use model::{ObjectKey, Origin, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// How the packet came to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A process on the node sent it.
    LocalProcess,
    /// From a pod on this node.
    Pod,
    /// From the nodes' own network.
    Underlay,
    /// Out of the tunnel.
    Tunnel,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    pub steps: Vec<Step>,
    pub outcome: Outcome,
    /// The packet as it leaves the node or reaches its end.
    pub packet: Packet,
}

/// One thing that the node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub kind: StepKind,
    pub origin: Origin,
    pub before: Packet,
    pub after: Packet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// Destination replaced by an endpoint, out of these.
    Balance {
        frontend: Frontend,
        port: crate::ServicePortName,
        endpoints: Vec<Endpoint>,
        chosen: usize,
    },
    Reject {
        frontend: Frontend,
        port: crate::ServicePortName,
    },
    /// Nothing is bound to this port of a service address.
    UnknownServicePort {
        port: crate::ServicePortName,
    },
    Masquerade {
        reason: MasqueradeReason,
    },
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasqueradeReason {
    /// The service demands it: the reply must come back through this node.
    Service(Masquerade),
    /// A pod that reaches itself through its Service.
    Hairpin,
    /// A pod speaks to something outside of the pod network.
    LeavesCluster,
}

/// Where the packet goes from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To a process on the node itself.
    LocalProcess,
    /// To a pod on this node.
    Pod(ObjectKey),
    /// Through the tunnel to this node.
    Peer { node: Arc<str>, public_ip: IpAddr },
    /// Out on the nodes' own network.
    Underlay,
    /// Refused with a reset or ICMP port unreachable.
    Rejected,
    /// The node has no way to that address: ICMP unreachable.
    Unreachable,
}

/// What `program` does with the first packet of a connection.
///
/// Where the choice of an endpoint is random, `choose` makes it from the number of endpoints.
pub fn trace(
    program: &Program,
    packet: Packet,
    arrival: Arrival,
    choose: impl FnOnce(&[Endpoint]) -> usize,
) -> Trace {
    let mut run = Run { program, packet, steps: Vec::new() };
    let outcome = run.node(arrival, choose);
    Trace { steps: run.steps, outcome, packet: run.packet }
}

struct Run<'a> {
    program: &'a Program,
    packet: Packet,
    steps: Vec<Step>,
}

impl<'a> Run<'a> {
    fn node(&mut self, arrival: Arrival, choose: impl FnOnce(&[Endpoint]) -> usize) -> Outcome {
        let program = self.program;
        let bound = self.binding();
        let mut masquerade = None;
        if let Some((frontend, binding)) = bound {
            match &binding.action {
                Action::Balance { pool, masquerade: policy } => {
                    let chosen = choose(&pool.endpoints);
                    masquerade = self.service_masquerade(*policy);
                    let kind = StepKind::Balance {
                        frontend,
                        port: binding.port.clone(),
                        endpoints: pool.endpoints.clone(),
                        chosen,
                    };
                    self.rewrite(kind, &binding.origin, |packet| {
                        packet.destination = pool.endpoints[chosen].address;
                    });
                }
                Action::Reject => {
                    let kind = StepKind::Reject { frontend, port: binding.port.clone() };
                    self.rewrite(kind, &binding.origin, |_| {});
                    return Outcome::Rejected;
                }
            }
        } else if let Some((_, other)) = program.frontends_at(self.packet.destination.ip()).next() {
            let kind = StepKind::UnknownServicePort { port: other.port.clone() };
            self.rewrite(kind, &other.origin, |_| {});
            return Outcome::Rejected;
        }
        let outcome = self.route();
        self.masquerade(arrival, masquerade, &outcome);
        outcome
    }

    fn binding(&self) -> Option<(Frontend, &'a Binding)> {
        let destination = self.packet.destination;
        let frontend =
            |scope| Frontend { scope, protocol: self.packet.protocol, port: destination.port() };
        let program = self.program;
        let find =
            |frontend: Frontend| program.services.get(&frontend).map(|binding| (frontend, binding));
        find(frontend(Scope::Address(destination.ip()))).or_else(|| {
            let own = self.program.addresses.contains(&destination.ip());
            if own { find(frontend(Scope::NodePort)) } else { None }
        })
    }

    fn service_masquerade(&self, policy: Masquerade) -> Option<MasqueradeReason> {
        let outside = || {
            let network = self.program.network.as_ref();
            network.is_none_or(|net| {
                !net.cluster.iter().any(|net| net.contains(&self.packet.source.ip()))
            })
        };
        let applies = match policy {
            Masquerade::Always => true,
            Masquerade::FromOutside => outside(),
        };
        applies.then_some(MasqueradeReason::Service(policy))
    }

    /// The longest prefix wins: own addresses, pods here, pods elsewhere, all the rest.
    fn route(&mut self) -> Outcome {
        let destination = self.packet.destination.ip();
        if self.program.is_own_address(destination) {
            return Outcome::LocalProcess;
        }
        if let Some(pod) = self.program.pods.get(&destination) {
            self.rewrite(StepKind::Route, &pod.origin, |_| {});
            return Outcome::Pod(pod.pod.clone());
        }
        if let Some(network) = &self.program.network
            && network.subnet.contains(&destination)
        {
            self.rewrite(StepKind::Route, &network.origin, |_| {});
            return Outcome::Unreachable;
        }
        if let Some((node, peer)) = self.program.peer_of(destination) {
            let (node, public_ip) = (node.clone(), peer.public_ip);
            self.rewrite(StepKind::Route, &peer.origin, |_| {});
            return Outcome::Peer { node, public_ip };
        }
        Outcome::Underlay
    }

    fn masquerade(&mut self, arrival: Arrival, service: Option<MasqueradeReason>, to: &Outcome) {
        let Some((reason, source)) =
            self.masquerade_reason(arrival, service).zip(self.own_source(to))
        else {
            return;
        };
        // A local process's packet has the right source already: the kernel translates it to itself.
        if self.packet.source.ip() == source {
            return;
        }
        let origin = self.masquerade_origin(reason);
        let Some(origin) = origin else { return };
        self.rewrite(StepKind::Masquerade { reason }, &origin, |packet| {
            packet.source.set_ip(source)
        });
    }

    fn masquerade_reason(
        &self,
        arrival: Arrival,
        service: Option<MasqueradeReason>,
    ) -> Option<MasqueradeReason> {
        let (source, destination) = (self.packet.source.ip(), self.packet.destination.ip());
        let network = self.program.network.as_ref();
        let leaves = || {
            network.is_some_and(|net| {
                net.subnet.contains(&source)
                    && !net.cluster.iter().any(|net| net.contains(&destination))
            })
        };
        if service.is_some() {
            return service;
        }
        // Another node's pod has its Services at home and does not come here to reach itself.
        if source == destination && self.program.pods.get(&source).is_some() {
            return Some(MasqueradeReason::Hairpin);
        }
        (arrival == Arrival::Pod && leaves()).then_some(MasqueradeReason::LeavesCluster)
    }

    /// The node's own address on the way out: what masquerading puts in as source.
    fn own_source(&self, to: &Outcome) -> Option<IpAddr> {
        let network = self.program.network.as_ref();
        match to {
            Outcome::Pod(_) => network.map(|net| net.gateway),
            Outcome::Peer { .. } => network.map(|net| net.tunnel_address),
            Outcome::Underlay => {
                let same_family = |own: &&IpAddr| own.is_ipv4() == self.packet.source.is_ipv4();
                self.program.addresses.iter().find(same_family).copied()
            }
            Outcome::LocalProcess | Outcome::Rejected | Outcome::Unreachable => None,
        }
    }

    fn masquerade_origin(&self, reason: MasqueradeReason) -> Option<Origin> {
        let balanced = self.steps.iter().find(|step| matches!(step.kind, StepKind::Balance { .. }));
        match reason {
            MasqueradeReason::Service(_) | MasqueradeReason::Hairpin => {
                balanced.map(|step| step.origin.clone())
            }
            MasqueradeReason::LeavesCluster => {
                self.program.network.as_ref().map(|network| network.origin.clone())
            }
        }
    }

    fn rewrite(&mut self, kind: StepKind, origin: &Origin, change: impl FnOnce(&mut Packet)) {
        let before = self.packet;
        change(&mut self.packet);
        self.steps.push(Step { kind, origin: origin.clone(), before, after: self.packet });
    }
}
