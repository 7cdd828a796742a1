//! The interpreter of a program: what a node does with one packet of a new connection.
//!
//! `explain` prints it, and every back end is tested against it.

use crate::service::{
    Action, Binding, Endpoint, Frontend, FrontendKind, Masquerade, Pool, Scope, ServicePortName,
};
use crate::{PodSources, Program};
use ipnet::IpNet;
use model::{Family, ObjectKey, Origin, Protocol};
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
    /// Destination replaced by an endpoint of the pool.
    Balance {
        frontend: Frontend,
        port: ServicePortName,
        pool: Arc<Pool>,
        chosen: usize,
    },
    Reject {
        frontend: Frontend,
        port: ServicePortName,
    },
    Drop {
        frontend: Frontend,
        port: ServicePortName,
        reason: DropReason,
    },
    /// Nothing is bound to this port of a cluster IP.
    UnknownServicePort {
        port: ServicePortName,
    },
    /// No Service has this address of a ServiceCIDR.
    UnallocatedServiceAddress {
        cidr: IpNet,
    },
    Masquerade {
        reason: MasqueradeReason,
    },
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// `loadBalancerSourceRanges` does not hold it.
    SourceNotAllowed,
    /// Traffic policy Local, and the endpoints are elsewhere.
    NoLocalEndpoint,
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
    /// Lost without a word.
    Dropped,
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

/// What the service table says of a packet.
enum Verdict {
    /// On its way, with the masquerading that the Service demands.
    Passed(Option<MasqueradeReason>),
    Ended(Outcome),
}

impl<'a> Run<'a> {
    fn node(&mut self, arrival: Arrival, choose: impl FnOnce(&[Endpoint]) -> usize) -> Outcome {
        let verdict = match self.binding() {
            Some((frontend, binding)) => self.serve(frontend, binding, arrival, choose),
            None => self.unbound(),
        };
        match verdict {
            Verdict::Ended(outcome) => outcome,
            Verdict::Passed(masquerade) => {
                let outcome = self.route();
                self.masquerade(arrival, masquerade, &outcome);
                outcome
            }
        }
    }

    fn binding(&self) -> Option<(Frontend, &'a Binding)> {
        let destination = self.packet.destination;
        let frontend =
            |scope| Frontend { scope, protocol: self.packet.protocol, port: destination.port() };
        let program = self.program;
        let find =
            |frontend: Frontend| program.services.get(&frontend).map(|binding| (frontend, binding));
        find(frontend(Scope::Address(destination.ip()))).or_else(|| {
            let own = program.is_node_port_address(destination.ip());
            let family = Family::of(destination.ip());
            if own { find(frontend(Scope::NodePort(family))) } else { None }
        })
    }

    fn serve(
        &mut self,
        frontend: Frontend,
        binding: &Binding,
        arrival: Arrival,
        choose: impl FnOnce(&[Endpoint]) -> usize,
    ) -> Verdict {
        let source = self.packet.source.ip();
        if binding
            .sources
            .as_ref()
            .is_some_and(|nets| !nets.iter().any(|net| net.contains(&source)))
        {
            return self.lose(frontend, binding, DropReason::SourceNotAllowed);
        }
        match &binding.action {
            Action::Balance { pool, masquerade } => {
                self.balance(frontend, binding, pool, *masquerade, arrival, choose)
            }
            Action::BySource { inside, .. } if self.is_local(arrival) => {
                self.balance(frontend, binding, inside, Masquerade::FromNode, arrival, choose)
            }
            Action::BySource { outside: Some(outside), .. } => {
                self.balance(frontend, binding, outside, Masquerade::Never, arrival, choose)
            }
            Action::BySource { outside: None, .. } | Action::Drop => {
                self.lose(frontend, binding, DropReason::NoLocalEndpoint)
            }
            Action::Reject => {
                let kind = StepKind::Reject { frontend, port: binding.port.clone() };
                self.end(kind, &binding.origin, Outcome::Rejected)
            }
        }
    }

    fn balance(
        &mut self,
        frontend: Frontend,
        binding: &Binding,
        pool: &Arc<Pool>,
        masquerade: Masquerade,
        arrival: Arrival,
        choose: impl FnOnce(&[Endpoint]) -> usize,
    ) -> Verdict {
        let applies = match masquerade {
            Masquerade::Always => true,
            Masquerade::FromOutside => !self.is_from_pod(arrival),
            Masquerade::FromNode => !self.is_from_pod(arrival) && self.is_from_node(arrival),
            Masquerade::Never => false,
        };
        let chosen = choose(&pool.endpoints);
        let port = binding.port.clone();
        let kind = StepKind::Balance { frontend, port, pool: pool.clone(), chosen };
        self.rewrite(kind, &binding.origin, |packet| {
            packet.destination = pool.endpoints[chosen].address();
        });
        Verdict::Passed(applies.then_some(MasqueradeReason::Service(masquerade)))
    }

    fn lose(&mut self, frontend: Frontend, binding: &Binding, reason: DropReason) -> Verdict {
        let kind = StepKind::Drop { frontend, port: binding.port.clone(), reason };
        self.end(kind, &binding.origin, Outcome::Dropped)
    }

    /// Addresses of Services answer for all their ports; other addresses are nobody's business here.
    fn unbound(&mut self) -> Verdict {
        let destination = self.packet.destination.ip();
        let program = self.program;
        let mut others = program.frontends_at(destination);
        if let Some((_, other)) = others.find(|(_, it)| it.kind == FrontendKind::ClusterIp) {
            let kind = StepKind::UnknownServicePort { port: other.port.clone() };
            return self.end(kind, &other.origin, Outcome::Rejected);
        }
        if let Some((cidr, origin)) = program.service_cidr_of(destination) {
            let kind = StepKind::UnallocatedServiceAddress { cidr: *cidr };
            return self.end(kind, origin, Outcome::Dropped);
        }
        Verdict::Passed(None)
    }

    fn end(&mut self, kind: StepKind, origin: &Origin, outcome: Outcome) -> Verdict {
        self.rewrite(kind, origin, |_| {});
        Verdict::Ended(outcome)
    }

    /// Whether it is of this cluster's pods or of the node itself.
    fn is_local(&self, arrival: Arrival) -> bool {
        self.is_from_pod(arrival) || self.is_from_node(arrival)
    }

    fn is_from_pod(&self, arrival: Arrival) -> bool {
        match &self.program.pod_sources {
            PodSources::Cidrs(nets) => {
                nets.iter().any(|net| net.contains(&self.packet.source.ip()))
            }
            PodSources::Interface(_) | PodSources::InterfacePrefix(_) => arrival == Arrival::Pod,
        }
    }

    fn is_from_node(&self, arrival: Arrival) -> bool {
        arrival == Arrival::LocalProcess || self.program.is_own_address(self.packet.source.ip())
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
        if let Some(network) = self.program.network_of(destination)
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
        let network = self.program.network_of(source);
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
        let network = self.program.network_of(self.packet.source.ip());
        match to {
            Outcome::Pod(_) => network.map(|net| net.gateway),
            Outcome::Peer { .. } => network.map(|net| net.tunnel_address),
            Outcome::Underlay => self.program.primary_address(Family::of(self.packet.source.ip())),
            Outcome::LocalProcess | Outcome::Rejected | Outcome::Dropped | Outcome::Unreachable => {
                None
            }
        }
    }

    fn masquerade_origin(&self, reason: MasqueradeReason) -> Option<Origin> {
        let balanced = self.steps.iter().find(|step| matches!(step.kind, StepKind::Balance { .. }));
        match reason {
            MasqueradeReason::Service(_) | MasqueradeReason::Hairpin => {
                balanced.map(|step| step.origin.clone())
            }
            MasqueradeReason::LeavesCluster => {
                let network = self.program.network_of(self.packet.source.ip());
                network.map(|network| network.origin.clone())
            }
        }
    }

    fn rewrite(&mut self, kind: StepKind, origin: &Origin, change: impl FnOnce(&mut Packet)) {
        let before = self.packet;
        change(&mut self.packet);
        self.steps.push(Step { kind, origin: origin.clone(), before, after: self.packet });
    }
}
