//! Virtual IPs: who holds one, and the balancer behind it.

use super::Walk;
use crate::cluster::Cluster;
use crate::finding::{Code, Finding};
use crate::path::{End, Host, Opener, Stage, Verdict};
use crate::why;
use model::{Algorithm, Kind, Origin, Protocol, VirtualIp};
use program::edge::{Backend, Listener};
use program::trace::StepKind;
use program::{Arrival, Outcome, Packet, trace};
use std::net::SocketAddr;
use std::sync::Arc;

/// The node that has a virtual IP, and how that is known.
pub(crate) struct Holder {
    pub(crate) node: Arc<str>,
    /// From the object's status; else predicted from priorities.
    pub(crate) reported: bool,
    pub(crate) priority: u8,
    /// Reported to hold it, but down.
    pub(crate) fallen: Option<String>,
}

/// The reported owner if it lives, else the living node of the highest priority.
pub(crate) fn holder(cluster: &Cluster<'_>, vip: &VirtualIp) -> Option<Holder> {
    let name = &vip.meta.key.name;
    let living = cluster.world.nodes().filter(|node| node.ready);
    let mut candidates: Vec<(u8, Arc<str>)> = living
        .filter_map(|node| {
            let program = cluster.program(&node.meta.key.name)?;
            Some((program.virtual_ips.get(name)?.priority, node.meta.key.name.clone()))
        })
        .collect();
    candidates.sort_by(|a, b| b.cmp(a));
    let reported = vip.owner.as_deref();
    let owner = candidates.iter().find(|(_, node)| Some(&**node) == reported);
    let (priority, node) = owner.or(candidates.first())?.clone();
    let fallen = reported.filter(|_| owner.is_none()).map(str::to_owned);
    Some(Holder { node, reported: owner.is_some(), priority, fallen })
}

impl<'a> Walk<'a> {
    /// The virtual IP that the packet is for, if this node holds it.
    pub(super) fn held_here(&self, node: &Arc<str>) -> Option<&'a VirtualIp> {
        let destination = self.packet.destination.ip();
        let cluster = self.cluster;
        let vip = cluster.world.virtual_ips().find(|vip| vip.addresses.contains(&destination))?;
        holder(cluster, vip).filter(|holder| holder.node == *node).map(|_| vip)
    }

    pub(super) fn at_virtual_ip(&mut self, node: &Arc<str>, vip: &VirtualIp) -> End {
        self.say_who_holds(node, vip);
        let compiled = self
            .cluster
            .program(node)
            .and_then(|program| program.virtual_ips.get(&vip.meta.key.name));
        let port = self.packet.destination.port();
        let listeners = compiled.map_or(&[][..], |compiled| &compiled.listeners);
        let tcp = self.packet.protocol == Protocol::Tcp;
        match listeners.iter().find(|listener| tcp && listener.port == port) {
            Some(listener) => self.at_balancer(node, listener),
            None => self.without_listener(node, vip),
        }
    }

    fn say_who_holds(&mut self, node: &Arc<str>, vip: &VirtualIp) {
        let Some(holder) = holder(self.cluster, vip) else { return };
        let how = if holder.reported { "as it reports" } else { "as priorities predict" };
        let rule = format!(
            "holds {} as VRRP router {} with priority {}, {how}; gratuitous ARP told the others",
            self.packet.destination.ip(),
            vip.vrrp.virtual_router_id,
            holder.priority,
        );
        let field = if holder.reported { "status.node" } else { "spec.vrrp" };
        self.hop(&Host::Node(node.clone()), Stage::VirtualIp, &rule, Some(origin(vip, field)));
        if let Some(fallen) = holder.fallen {
            // RFC 9568 §6.1: Active_Down_Interval = 3 × advertisement interval + skew.
            let skew = vip.vrrp.interval * u32::from(u8::MAX - holder.priority + 1) / 256;
            let silence = vip.vrrp.interval * 3 + skew;
            let text = format!(
                "node/{fallen}, last reported to hold VirtualIP {}, is down: node/{node} takes over after {} ms of silence",
                vip.meta.key,
                silence.as_millis()
            );
            let finding = Finding::new(Code::VirtualIpOwnerDown, text);
            self.findings.push(finding.about(origin(vip, "status.node")));
        }
    }

    fn at_balancer(&mut self, node: &Arc<str>, listener: &Listener) -> End {
        let host = Host::Node(node.clone());
        let healthy: Vec<&Backend> =
            listener.backends.iter().filter(|backend| self.is_healthy(node, backend)).collect();
        let Some(first) = healthy.first() else { return self.no_backend(node, listener) };
        let options = healthy.iter().map(|backend| backend_text(backend)).collect();
        let chosen = self.choose(&host, Stage::Balancer, options, healthy.len());
        let backend = healthy.get(chosen).copied().unwrap_or(first);
        let rule = balancer_text(listener, healthy.len(), backend);
        let source = super::node::own_source(self.cluster, node, backend.address.ip());
        let source = SocketAddr::new(source.unwrap_or(backend.address.ip()), 0);
        let after = Packet { source, destination: backend.address, ..self.packet };
        self.changing_hop(&host, Stage::Balancer, &rule, Some(listener.origin.clone()), after);
        self.begin_connection(host, Opener::Balancer);
        if backend.node == *node {
            return self.at_node(node, Arrival::LocalProcess);
        }
        self.at_node(&backend.node.clone(), Arrival::Underlay)
    }

    /// Whether the balancer's TCP check of a back end succeeds.
    fn is_healthy(&self, owner: &Arc<str>, backend: &Backend) -> bool {
        let Some(node) = self.cluster.living(&backend.node) else { return false };
        let Some(run) = self.check(owner, backend) else { return false };
        match run.outcome {
            Outcome::Rejected | Outcome::Dropped | Outcome::Unreachable => false,
            Outcome::LocalProcess => {
                self.host_network_listener(&node.meta.key.name, run.packet).is_some()
            }
            Outcome::Pod(_) | Outcome::Peer { .. } | Outcome::Underlay => true,
        }
    }

    fn check(&self, owner: &Arc<str>, backend: &Backend) -> Option<program::Trace> {
        let source = super::node::own_source(self.cluster, owner, backend.address.ip())?;
        let source = SocketAddr::new(source, 0);
        let packet = Packet { protocol: Protocol::Tcp, source, destination: backend.address };
        let local = backend.node == *owner;
        let arrival = if local { Arrival::LocalProcess } else { Arrival::Underlay };
        Some(trace(self.cluster.program(&backend.node)?, packet, arrival, |_| 0))
    }

    fn no_backend(&mut self, node: &Arc<str>, listener: &Listener) -> End {
        let mut causes = Vec::new();
        for backend in &listener.backends {
            let cause = if self.cluster.living(&backend.node).is_none() {
                let text = format!("node/{} is down", backend.node);
                vec![Finding::new(Code::NodeDown, text)]
            } else {
                let run = self.check(node, backend);
                match run.as_ref().and_then(|run| run.steps.last()).map(|step| &step.kind) {
                    Some(StepKind::Reject { port, .. }) => {
                        why::no_endpoints(self.cluster.world, port)
                    }
                    _ => {
                        let text = format!("nothing answers at {}", backend.address);
                        let fix =
                            "make it the nodePort of a Service, or correct backends.nodes.port";
                        let finding = Finding::new(Code::NotListening, text);
                        vec![finding.about(listener.origin.clone()).fix(fix)]
                    }
                }
            };
            for finding in cause {
                if !causes.contains(&finding) {
                    causes.push(finding);
                }
            }
        }
        let cause = causes.first().map_or_else(String::new, |first| format!(": {}", first.text));
        self.findings.extend(causes);
        let text = format!(
            "the balancer has no healthy back end for listener {} ({} of {} fail the TCP check){cause}",
            listener.name,
            listener.backends.len(),
            listener.backends.len(),
        );
        let host = Host::Node(node.clone());
        let origin = Some(listener.origin.clone());
        let code = Code::NoHealthyBackend;
        self.stop_at(Stage::Refuse, Verdict::Refused, &host, code, &text, origin)
    }

    fn without_listener(&mut self, node: &Arc<str>, vip: &VirtualIp) -> End {
        if self.host_network_listener(node, self.packet).is_some() {
            return self.at_process(node);
        }
        let port = self.packet.destination.port();
        let has: Vec<_> = vip.listeners.iter().map(|have| have.port.to_string()).collect();
        let has = if has.is_empty() { "no port at all".to_owned() } else { has.join(", ") };
        if let Some(service) = self.service_with_node_port(port, self.packet.protocol) {
            let text = format!(
                "{port} is a node port of Service {service}: node ports answer on the nodes' own addresses, not on a virtual IP"
            );
            let fix = format!(
                "VirtualIP {} .spec.listeners: add {{name: {}, port: {port}, backends: {{nodes: {{port: {port}}}}}}}",
                vip.meta.key, service.name
            );
            let finding = Finding::new(Code::NodePortNotOnVirtualIp, text);
            self.findings.push(finding.about(origin(vip, "spec.listeners")).fix(fix));
        }
        let text = format!(
            "nothing listens on {}: VirtualIP {} has listeners on {has}",
            self.destination(),
            vip.meta.key
        );
        let host = Host::Node(node.clone());
        let origin = Some(origin(vip, "spec.listeners"));
        self.stop_at(Stage::Refuse, Verdict::Refused, &host, Code::NotListening, &text, origin)
    }

    pub(super) fn service_with_node_port(
        &self,
        port: u16,
        protocol: Protocol,
    ) -> Option<model::ObjectKey> {
        let mut services = self.cluster.world.services();
        let is =
            |have: &model::ServicePort| have.node_port == Some(port) && have.protocol == protocol;
        let service = services.find(|service| service.ports.iter().any(is))?;
        Some(service.meta.key.clone())
    }
}

fn balancer_text(listener: &Listener, healthy: usize, backend: &Backend) -> String {
    let how = match (listener.algorithm, healthy) {
        (_, 1) => "its only healthy back end is".to_owned(),
        (Algorithm::RoundRobin, n) => format!("{n} healthy back ends in turn (1/{n} each), here"),
        (Algorithm::LeastConnections, n) => {
            format!(
                "of {n} healthy back ends the one with the fewest connections (1/{n} when idle), here"
            )
        }
    };
    let down = listener.backends.len() - healthy;
    let down = if down == 0 { String::new() } else { format!("; {down} down") };
    format!(
        "listener {}: the connection ends here and a new one begins, from the node's own address; {how} {}{down}",
        listener.name,
        backend_text(backend)
    )
}

fn backend_text(backend: &Backend) -> String {
    format!("{} ({})", backend.node, backend.address)
}

fn origin(vip: &VirtualIp, field: &str) -> Origin {
    Origin::new(Kind::VirtualIp, &vip.meta.key.namespace, &vip.meta.key.name, field)
}
