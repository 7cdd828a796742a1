//! Where a node's service proxy does otherwise than the program's interpreter, which speaks of rules: by its mode,
//! and by whose it is.

use super::{Walk, node, service};
use crate::finding::{Code, Finding};
use crate::path::{End, Host, Opener, Stage, Verdict};
use model::{ObjectKey, Protocol, Proxy, ProxyMode, ProxyProgram};
use program::service::{Action, Binding};
use program::trace::{DropReason, StepKind};
use program::{Arrival, Packet, Program, Step};
use std::net::SocketAddr;
use std::sync::Arc;

/// Endpoints that mode userspace tries before it gives a client up.
const USERSPACE_ATTEMPTS: usize = 4;

/// What becomes of a packet that rules would refuse, drop or let pass.
pub(super) enum Otherwise {
    /// The node's rules say nothing about it: out it goes.
    Passes,
    /// It is for an address that the proxy has put on the node, and nobody listens there.
    Refused { service: ObjectKey },
    /// Who may connect is asked only where there is somebody to connect to.
    NoEndpoints,
}

/// `None`: what the interpreter says.
pub(super) fn otherwise(
    proxy: &Proxy,
    program: &Program,
    step: Option<&Step>,
) -> Option<Otherwise> {
    let step = step?;
    match &step.kind {
        StepKind::UnknownServicePort { .. } => {
            is_plain_iptables(proxy).then_some(Otherwise::Passes)
        }
        StepKind::UnallocatedServiceAddress { .. } => {
            let lets = proxy.mode == ProxyMode::Userspace
                || is_plain_iptables(proxy)
                || (proxy.program == ProxyProgram::KubeProxy && proxy.mode == ProxyMode::Ipvs);
            lets.then_some(Otherwise::Passes)
        }
        StepKind::Drop { frontend, reason: DropReason::SourceNotAllowed, .. } => {
            let binding = program.services.get(frontend)?;
            let nobody = matches!(binding.action, Action::Reject);
            (nobody && proxy.mode == ProxyMode::Userspace).then_some(Otherwise::NoEndpoints)
        }
        _ => None,
    }
}

/// Whether the node does it: mode userspace makes no rules, so nothing is masqueraded on its way out.
pub(super) fn is_made(proxy: &Proxy, step: &Step) -> bool {
    proxy.mode != ProxyMode::Userspace || !matches!(step.kind, StepKind::Masquerade { .. })
}

/// kube-proxy's iptables rules are about ports that Services have, and nothing else.
fn is_plain_iptables(proxy: &Proxy) -> bool {
    proxy.program == ProxyProgram::KubeProxy && proxy.mode == ProxyMode::Iptables
}

/// Whose address it is, where the mode puts Services' addresses on the node itself: on `kube-ipvs0`, or as local
/// routes.
pub(super) fn local_service(proxy: &Proxy, program: &Program, packet: Packet) -> Option<Otherwise> {
    match proxy.mode {
        ProxyMode::Nft | ProxyMode::Iptables => None,
        ProxyMode::Ipvs | ProxyMode::Userspace => {
            let (_, binding) = program.frontends_at(packet.destination.ip()).next()?;
            Some(Otherwise::Refused { service: binding.port.service.clone() })
        }
    }
}

/// How many endpoints a connection tries.
pub(super) fn attempts(proxy: &Proxy, protocol: Protocol) -> usize {
    match (proxy.mode, protocol) {
        (ProxyMode::Userspace, Protocol::Tcp | Protocol::Sctp) => USERSPACE_ATTEMPTS,
        _ => 1,
    }
}

impl Walk<'_> {
    /// Mode userspace: the connection ends at the proxy, which makes another one to the endpoint.
    pub(super) fn relayed(
        &mut self,
        node: &Arc<str>,
        step: &Step,
        rule: &str,
        service: ObjectKey,
    ) -> End {
        let host = Host::Node(node.clone());
        if let Some(connection) = self.connections.last_mut() {
            connection.service = Some((service, node.clone()));
        }
        let endpoint = step.after.destination;
        let source = node::own_source(self.cluster, node, endpoint.ip());
        let source = SocketAddr::new(source.unwrap_or(endpoint.ip()), 0);
        let after = Packet { source, destination: endpoint, ..self.packet };
        let rule = format!(
            "{rule}; the connection ends at podway relay and a new one begins, from the node's own address"
        );
        self.changing_hop(&host, Stage::Service, &rule, Some(node::field_of(step)), after);
        self.begin_connection(host, Opener::Proxy);
        self.at_node(node, Arrival::LocalProcess)
    }

    pub(super) fn refused_by_nobody(
        &mut self,
        node: &Arc<str>,
        service: &ObjectKey,
        mode: ProxyMode,
    ) -> End {
        let has = match mode {
            ProxyMode::Ipvs => "kube-ipvs0 has it",
            _ => "the service proxy has made it the node's own",
        };
        let text = format!(
            "{} is an address of Service {service}, which has no port {}: {has}, and nothing listens there",
            self.packet.destination.ip(),
            self.packet.destination.port(),
        );
        let host = Host::Node(node.clone());
        self.stop(Verdict::Refused, &host, Code::UnknownServicePort, &text)
    }

    /// That the port is a node port, but this address of the node is none where it answers.
    pub(super) fn not_on_this_address(&mut self, node: &Arc<str>) -> Option<String> {
        let (to, protocol) = (self.packet.destination, self.packet.protocol);
        let service = self.service_with_node_port(to.port(), protocol)?;
        let (program, proxy) = (self.cluster.program(node)?, self.cluster.proxy(node)?);
        if program.is_node_port_address(to.ip()) {
            return None;
        }
        let answers = match &proxy.node_ports.within {
            None => {
                let family = model::Family::of(to.ip());
                let primary = program.primary_address(family);
                primary.map_or("no address".to_owned(), |primary| primary.to_string())
            }
            Some(nets) => {
                let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
                format!("addresses in {}", nets.join(", "))
            }
        };
        let text = format!(
            "{} is a node port of Service {service}, but on node/{node} node ports answer on {answers} only",
            to.port()
        );
        let finding = Finding::new(Code::NodePortNotOnAddress, text.clone());
        let fix = format!(
            "ask for another address, or name this one in --nodeport-addresses of the {}",
            match proxy.program {
                ProxyProgram::Podway => "agent",
                ProxyProgram::KubeProxy => "kube-proxy",
            }
        );
        self.findings.push(finding.fix(fix));
        Some(text)
    }
}

/// How one of several endpoints is chosen, where it is not by slots.
pub(super) fn scheduling(
    proxy: &Proxy,
    binding: Option<&Binding>,
    weighted: bool,
) -> Option<String> {
    use model::Scheduler::*;
    let named = binding.and_then(|binding| binding.scheduler);
    let scheduler = match proxy.mode {
        ProxyMode::Nft | ProxyMode::Iptables => return None,
        ProxyMode::Userspace => named.filter(|named| *named != Random)?,
        // Those that do not heed weights give way to those that do, unless the Service names them.
        ProxyMode::Ipvs => named.unwrap_or(match proxy.scheduler.unwrap_or(RoundRobin) {
            RoundRobin | Random if weighted => WeightedRoundRobin,
            LeastConnection if weighted => WeightedLeastConnection,
            Random => RoundRobin,
            other => other,
        }),
    };
    let how = match scheduler {
        Random => "at random",
        RoundRobin => "in turn",
        WeightedRoundRobin => "in turn by weight",
        LeastConnection => "by who has the fewest connections",
        WeightedLeastConnection => "by who has the fewest connections for its weight",
        LocalityLeastConnection => "by the address asked, while it is not overloaded",
        DestinationHash => "by a hash of the address asked",
        SourceHash | Maglev => "by a hash of the client's address",
        ShortestExpectedDelay => "by the shortest expected delay",
        NeverQueue => "by who has no connection, else by the shortest expected delay",
    };
    Some(format!("{how} (scheduler {scheduler})"))
}

/// What carries the connection on, where it is not a rule.
pub(super) fn carrier(proxy: &Proxy) -> &'static str {
    if proxy.mode == ProxyMode::Ipvs { ", a virtual server of IPVS" } else { "" }
}

/// The rule of a hop that chooses an endpoint.
pub(super) fn service_rule(
    proxy: &Proxy,
    program: &Program,
    step: &Step,
) -> Option<(ObjectKey, String)> {
    let StepKind::Balance { frontend, port, pool, chosen } = &step.kind else { return None };
    let binding = program.services.get(frontend);
    let what = service::frontend_text(step.before.destination, frontend, binding, port);
    let how = service::choice_text(proxy, pool, *chosen, binding);
    Some((port.service.clone(), format!("{what}{}; {how}", carrier(proxy))))
}
