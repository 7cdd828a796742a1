//! What happens on a node, and between nodes.

use super::proxy::{self, Otherwise};
use super::service;
use super::{LONGEST, Walk};
use crate::cluster::Cluster;
use crate::finding::{Code, Finding};
use crate::path::{End, Host, Outer, Stage, Translation, Verdict};
use crate::why;
use model::{Family, Kind, Origin, Protocol, ProxyMode};
use program::service::{Endpoint, Frontend, Masquerade, Scope};
use program::trace::{MasqueradeReason, StepKind};
use program::{Arrival, FrontendKind, Outcome, Program, Step, Trace, trace};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// VXLAN over IPv4 takes 50 octets of every packet: Ethernet 14, VXLAN 8, UDP 8, IP 20.
const OVERHEAD: u32 = 50;

/// The address that a node's own programs send from, by the route to the destination.
pub(super) fn own_source(cluster: &Cluster<'_>, node: &str, to: IpAddr) -> Option<IpAddr> {
    let program = cluster.program(node)?;
    let held = || {
        let vips = cluster.world.virtual_ips().filter(|vip| vip.addresses.contains(&to));
        vips.filter_map(|vip| super::holder(cluster, vip)).any(|holder| &*holder.node == node)
    };
    if program.is_own_address(to) || held() {
        return Some(to);
    }
    let network = program.network_of(to);
    let own = || program.primary_address(Family::of(to));
    let of_network = |pick: fn(&program::PodNetwork) -> IpAddr| network.map(pick);
    if network.is_some_and(|network| network.subnet.contains(&to)) {
        of_network(|network| network.gateway)
    } else if program.peer_of(to).is_some() {
        of_network(|network| network.tunnel_address)
    } else {
        own()
    }
}

impl Walk<'_> {
    pub(super) fn at_node(&mut self, node: &Arc<str>, arrival: Arrival) -> End {
        let host = Host::Node(node.clone());
        self.nodes += 1;
        if self.nodes > LONGEST {
            let text = "the packet goes round in circles";
            return self.stop(Verdict::Dropped, &host, Code::RoutingLoop, text);
        }
        let Some(program) = self.cluster.program(node) else {
            return self.without_object(node);
        };
        if self.cluster.living(node).is_none() {
            return self.at_dead_node(node);
        }
        // What the node's rules take for a Service never comes as far as a process on the address.
        let (protocol, to) = (self.packet.protocol, self.packet.destination);
        let frontend = Frontend { scope: Scope::Address(to.ip()), protocol, port: to.port() };
        if program.services.get(&frontend).is_none()
            && let Some(vip) = self.held_here(node)
        {
            if !shadowed(program, to.ip(), protocol, to.port()) {
                return self.at_virtual_ip(node, vip);
            }
            // While it holds the address, node ports that answer on all addresses answer there too.
            let mut program = program.clone();
            program.addresses.push(to.ip());
            return self.run_program(node, &program, arrival);
        }
        self.run_program(node, program, arrival)
    }

    fn without_object(&mut self, node: &Arc<str>) -> End {
        let text = format!("there is no Node object {node}");
        self.stop(Verdict::Unknown, &Host::Node(node.clone()), Code::UnknownAddress, &text)
    }

    fn at_dead_node(&mut self, node: &Arc<str>) -> End {
        let host = Host::Node(node.clone());
        let origin = Origin::new(Kind::Node, &"".into(), node, "status.conditions");
        let text = format!("node/{node} is not Ready: taken to be off, packets to it are lost");
        self.findings.push(
            Finding::new(Code::NodeDown, text)
                .about(origin.clone())
                .fix("bring the node back, or delete the Node object: its pods then move"),
        );
        let text = format!("node/{node} is down");
        self.stop_at(Stage::Drop, Verdict::Dropped, &host, Code::NodeDown, &text, Some(origin))
    }

    fn run_program(&mut self, node: &Arc<str>, program: &Program, arrival: Arrival) -> End {
        let host = Host::Node(node.clone());
        let cluster = self.cluster;
        let Some(proxy) = cluster.proxy(node) else { return self.without_object(node) };
        let (packet, attempts) = (self.packet, proxy::attempts(proxy, self.packet.protocol));
        let run = trace(program, packet, arrival, |endpoints| {
            let options = endpoints.iter().map(endpoint_text).collect();
            self.choose(&host, Stage::Service, options, attempts)
        });
        if proxy.mode == ProxyMode::Userspace
            && let Some(step) = run.steps.first()
            && let Some((service, rule)) = proxy::service_rule(proxy, program, step)
        {
            return self.relayed(node, step, &rule, service);
        }
        let last = run.steps.last();
        let served = run.steps.iter().any(|step| matches!(step.kind, StepKind::Balance { .. }));
        let otherwise = match run.outcome {
            Outcome::Underlay if !served => proxy::local_service(proxy, program, packet),
            _ => proxy::otherwise(proxy, program, last),
        };
        if otherwise.is_none() {
            for step in run.steps.iter().filter(|step| proxy::is_made(proxy, step)) {
                self.step(node, program, step, &run);
            }
        }
        match otherwise {
            Some(Otherwise::Passes) => return self.leave(node),
            Some(Otherwise::Refused { service }) => {
                return self.refused_by_nobody(node, &service, proxy.mode);
            }
            Some(Otherwise::NoEndpoints) => return self.rejected(node, last),
            None => {}
        }
        match run.outcome {
            Outcome::Pod(key) => self.at_pod(node, &key),
            Outcome::LocalProcess => self.at_process(node),
            Outcome::Peer { node: peer, public_ip } => {
                self.through_tunnel(node, program, &peer, public_ip, run.steps.last());
                self.at_node(&peer, Arrival::Tunnel)
            }
            Outcome::Underlay => self.leave(node),
            Outcome::Rejected => self.rejected(node, run.steps.last()),
            Outcome::Dropped => self.dropped(node, program, run.steps.last()),
            Outcome::Unreachable => {
                let text = format!(
                    "{} belongs to this node's pods, but none of them has it",
                    self.packet.destination.ip()
                );
                self.stop(Verdict::Dropped, &host, Code::UnknownAddress, &text)
            }
        }
    }

    fn step(&mut self, node: &Arc<str>, program: &Program, step: &Step, run: &Trace) {
        let host = Host::Node(node.clone());
        let destination = step.after.destination.ip();
        let (stage, rule) = match &step.kind {
            StepKind::Balance { .. } => {
                let proxy = self.cluster.proxy(node);
                let rule = proxy.and_then(|proxy| proxy::service_rule(proxy, program, step));
                let Some((service, rule)) = rule else { return };
                if let Some(connection) = self.connections.last_mut() {
                    connection.service = Some((service, node.clone()));
                }
                (Stage::Service, rule)
            }
            StepKind::Masquerade { reason } => {
                (Stage::Masquerade, masquerade_text(*reason, program, run))
            }
            // Told where the packet then ends or leaves.
            StepKind::Route
                if matches!(run.outcome, Outcome::Peer { .. } | Outcome::Unreachable) =>
            {
                return;
            }
            StepKind::Route => (Stage::Route, format!("{destination} is a pod on this node")),
            StepKind::Reject { .. }
            | StepKind::Drop { .. }
            | StepKind::UnknownServicePort { .. }
            | StepKind::UnallocatedServiceAddress { .. } => return,
        };
        if step.before != step.after
            && let Some(connection) = self.connections.last_mut()
        {
            connection.translations.push(Translation {
                node: node.clone(),
                hop: self.hops.len(),
                stage,
                before: step.before,
                after: step.after,
                origin: step.origin.clone(),
            });
        }
        let origin = Some(field_of(step));
        self.changing_hop(&host, stage, &rule, origin, step.after);
    }

    fn through_tunnel(
        &mut self,
        node: &Arc<str>,
        program: &Program,
        peer: &Arc<str>,
        public_ip: IpAddr,
        last: Option<&Step>,
    ) {
        let to = self.packet.destination.ip();
        let Some(network) = program.network_of(to) else { return };
        let of_peer = program.peers.get(&(Family::of(to), peer.clone()));
        let subnet = of_peer.and_then(|peer| peer.subnets.first());
        let subnet = subnet.map_or_else(String::new, |net| format!("{net} lies on {peer}: "));
        let source =
            program.primary_address(Family::of(public_ip)).unwrap_or(network.tunnel_address);
        let outer = Outer {
            source,
            destination: SocketAddr::new(public_ip, network.tunnel_port),
            vni: network.vni,
        };
        let rule = format!(
            "{subnet}VXLAN {} from {source} to {} (UDP), {OVERHEAD} octets less for the packet inside",
            outer.vni, outer.destination
        );
        let routed = of_peer.map(|peer| peer.origin.clone());
        let origin = routed.or_else(|| last.map(|step| step.origin.clone()));
        self.tunnel_hop(node, &rule, origin, outer);
    }

    /// Out of the node's interface to the nodes' own network.
    fn leave(&mut self, node: &Arc<str>) -> End {
        let rule = self.way_out();
        self.hop(&Host::Node(node.clone()), Stage::Underlay, &rule, None);
        self.on_underlay()
    }

    fn rejected(&mut self, node: &Arc<str>, last: Option<&Step>) -> End {
        let host = Host::Node(node.clone());
        let Some(step) = last else {
            let text = "refused by a rule of the node";
            return self.stop(Verdict::Refused, &host, Code::NoEndpoints, text);
        };
        let origin = Some(field_of(step));
        let (code, text) = match &step.kind {
            StepKind::UnknownServicePort { port } => {
                let finding = why::unknown_port(self.cluster.world, &port.service, self.packet);
                self.findings.push(finding);
                let text = format!(
                    "{} is the cluster IP of Service {}, which has no port {}",
                    self.packet.destination.ip(),
                    port.service,
                    self.packet.destination.port()
                );
                (Code::UnknownServicePort, text)
            }
            StepKind::Reject { port, .. } | StepKind::Drop { port, .. } => {
                let causes = why::no_endpoints(self.cluster.world, port);
                let cause =
                    causes.first().map_or_else(String::new, |why| format!(": {}", why.text));
                self.findings.extend(causes);
                (
                    Code::NoEndpoints,
                    format!("Service {port} has no endpoint that could answer{cause}"),
                )
            }
            _ => (Code::NoEndpoints, "refused by a rule of the node".to_owned()),
        };
        self.stop_at(Stage::Refuse, Verdict::Refused, &host, code, &text, origin)
    }
}

impl Walk<'_> {
    fn dropped(&mut self, node: &Arc<str>, program: &Program, last: Option<&Step>) -> End {
        let host = Host::Node(node.clone());
        let Some(step) = last else {
            let text = "dropped by a rule of the node";
            return self.stop(Verdict::Dropped, &host, Code::NoLocalEndpoint, text);
        };
        let (finding, text) = service::lost(program, step);
        let (code, origin) = (finding.code, Some(field_of(step)));
        self.findings.push(finding);
        self.stop_at(Stage::Drop, Verdict::Dropped, &host, code, &text, origin)
    }
}

/// Whether a node port answers on the virtual IP itself, and so comes before the balancer.
fn shadowed(program: &Program, address: IpAddr, protocol: Protocol, port: u16) -> bool {
    let frontend = Frontend { scope: Scope::NodePort(Family::of(address)), protocol, port };
    let within = program.node_ports.within.as_ref();
    program.services.get(&frontend).is_some()
        && within.is_some_and(|nets| nets.iter().any(|net| net.contains(&address)))
}

/// The very field behind a step, where the program's origin names the whole port.
pub(super) fn field_of(step: &Step) -> Origin {
    let mut origin = step.origin.clone();
    let detail = match &step.kind {
        StepKind::Balance { frontend, .. }
        | StepKind::Reject { frontend, .. }
        | StepKind::Drop { frontend, .. } => match frontend.scope {
            Scope::NodePort(_) => ".nodePort",
            Scope::Address(_) => ".port",
        },
        _ => return origin,
    };
    origin.field = format!("{}{detail}", origin.field).into();
    origin
}

pub(crate) fn endpoint_text(endpoint: &Endpoint) -> String {
    match (endpoint.pod(), endpoint.node()) {
        (Some(pod), Some(node)) => format!("pod {pod} ({}) on {node}", endpoint.address()),
        (Some(pod), None) => format!("pod {pod} ({})", endpoint.address()),
        _ => endpoint.address().to_string(),
    }
}

fn masquerade_text(reason: MasqueradeReason, program: &Program, run: &Trace) -> String {
    let to_cluster_ip = run.steps.iter().any(|step| match &step.kind {
        StepKind::Balance { frontend, .. } => {
            let binding = program.services.get(frontend);
            binding.is_some_and(|binding| binding.kind == FrontendKind::ClusterIp)
        }
        _ => false,
    });
    let own = match run.outcome {
        Outcome::Pod(_) => "the node's gateway address",
        Outcome::Peer { .. } => "the node's tunnel address",
        _ => "the node's own address",
    };
    let why = match reason {
        MasqueradeReason::Service(Masquerade::Always) if to_cluster_ip => {
            "the service proxy is set to do so with all connections (--masquerade-all)"
        }
        MasqueradeReason::Service(Masquerade::Always) => {
            "the connection came to an address for clients outside, and the reply must come back through here"
        }
        MasqueradeReason::Service(Masquerade::FromNode | Masquerade::Never) => {
            "the node itself connects, and the reply must come back to it"
        }
        MasqueradeReason::Service(Masquerade::FromOutside) => {
            "the sender is no pod, and the reply must come back through here"
        }
        MasqueradeReason::Hairpin => {
            "the pod reaches itself, and would discard a reply from itself"
        }
        MasqueradeReason::LeavesCluster => {
            "outside of the pod network nobody knows the way to a pod"
        }
    };
    format!("source becomes {own}: {why}")
}
