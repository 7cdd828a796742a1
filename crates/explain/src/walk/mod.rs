//! The walk of a packet from host to host, with every choice made by a script.

mod end;
mod node;
mod proxy;
mod service;
mod virtual_ip;

use crate::cluster::Cluster;
use crate::finding::{Code, Finding};
use crate::path::{
    Choice, Connection, End, Hop, Host, Opener, Outer, Path, Receiver, Stage, Verdict, address_text,
};
use crate::question::{Sender, Target};
use crate::{QuestionError, reply};
use model::{ObjectKey, Origin, Protocol};
use program::{Arrival, Packet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub(crate) use virtual_ip::holder;

/// More nodes than any sane path has.
const LONGEST: usize = 16;

/// Walks from the sender; `script` decides the first choices, the first option all others.
pub(crate) fn walk(
    cluster: &Cluster<'_>,
    sender: &Sender,
    target: &Target,
    protocol: Protocol,
    script: &[usize],
) -> Result<Path, QuestionError> {
    let source = source(cluster, sender, target)?;
    let packet =
        Packet { protocol, source: SocketAddr::new(source, 0), destination: target.address };
    let mut walk = Walk {
        cluster,
        script,
        packet,
        hops: Vec::new(),
        choices: Vec::new(),
        findings: Vec::new(),
        receiver: None,
        connections: Vec::new(),
        nodes: 0,
    };
    let end = walk.start(sender);
    Ok(walk.finish(end))
}

/// A node sends from the address that belongs to the way out.
fn source(
    cluster: &Cluster<'_>,
    sender: &Sender,
    target: &Target,
) -> Result<IpAddr, QuestionError> {
    let destination = target.address.ip();
    let address = match (&sender.host, sender.address) {
        (_, Some(address)) => Some(address),
        (Host::Node(name), None) => node::own_source(cluster, name, destination),
        _ => None,
    };
    let address = address.ok_or_else(|| QuestionError::NoAddress {
        kind: model::Kind::Node,
        name: ObjectKey::new("", sender.host.to_string().trim_start_matches("node/")),
        reason: ": status.addresses holds no InternalIP".to_owned(),
    })?;
    if address.is_ipv4() == destination.is_ipv4() {
        return Ok(address);
    }
    Err(QuestionError::MixedFamilies { source_ip: address, destination })
}

struct Walk<'a> {
    cluster: &'a Cluster<'a>,
    script: &'a [usize],
    packet: Packet,
    hops: Vec<Hop>,
    choices: Vec<Choice>,
    findings: Vec<Finding>,
    receiver: Option<Receiver>,
    connections: Vec<Connection>,
    nodes: usize,
}

impl Walk<'_> {
    fn start(&mut self, sender: &Sender) -> End {
        self.begin_connection(sender.host.clone(), Opener::Sender);
        if let Some(pod) = &sender.host_network_pod {
            let text =
                format!("pod {pod} is on its node's own network: its packets are the node's");
            self.findings.push(Finding::new(Code::HostNetwork, text));
        }
        match sender.host.clone() {
            Host::Client | Host::Outside(_) | Host::Gateway => {
                self.start_outside(sender.host.clone())
            }
            Host::Node(node) => {
                self.hop(&sender.host, Stage::Send, "a program on the node connects", None);
                self.at_node(&node, Arrival::LocalProcess)
            }
            Host::Pod(key) => {
                self.hop(
                    &sender.host,
                    Stage::Send,
                    "the pod connects; its gateway is its node",
                    None,
                );
                let node = self.cluster.world.pod(&key).and_then(|pod| pod.node.clone());
                let node = node.expect("a sending pod has an address, so it has a node");
                self.at_node(&Arc::from(node), Arrival::Pod)
            }
        }
    }

    fn start_outside(&mut self, host: Host) -> End {
        if let Host::Outside(address) = host {
            let place = if self.cluster.settings.is_on_underlay(address) {
                "on the nodes' own network"
            } else {
                "beyond the gateway"
            };
            let text = format!("nothing known has {address}: taken to be a host {place}");
            self.findings.push(Finding::new(Code::SourceAssumed, text));
        }
        let rule = self.way_out();
        self.hop(&host, Stage::Send, &rule, None);
        self.on_underlay()
    }

    /// How a host on the underlay finds the next one.
    fn way_out(&self) -> String {
        let destination = self.packet.destination.ip();
        let near = self.cluster.settings.is_on_underlay(destination);
        match self.station(destination) {
            Some(host) => format!("{destination} is on its own network: ARP finds {host}"),
            None if near => {
                format!("{destination} is on its own network: it asks by ARP who has it")
            }
            None => format!("{destination} is not on its network: to the default gateway"),
        }
    }

    /// Who answers for an address on the underlay.
    fn station(&self, address: IpAddr) -> Option<Host> {
        let world = self.cluster.world;
        let node = |name: &str| Host::Node(name.into());
        if let Some(owner) = world.node_with_address(address) {
            return owner.ready.then(|| Host::Node(owner.meta.key.name.clone()));
        }
        if let Some(vip) = world.virtual_ips().find(|vip| vip.addresses.contains(&address)) {
            return holder(self.cluster, vip).map(|holder| node(&holder.node));
        }
        let api = self.cluster.settings.api_server.map(|api| api.ip());
        if self.cluster.settings.client == Some(address) {
            Some(Host::Client)
        } else {
            (api == Some(address)).then_some(Host::Gateway)
        }
    }

    /// The packet, as it is after the last hop, opens a connection.
    fn begin_connection(&mut self, sender: Host, opener: Opener) {
        let hop = self.hops.len().saturating_sub(1);
        let (original, translations) = (self.packet, Vec::new());
        let connection = Connection { sender, opener, hop, original, translations, service: None };
        self.connections.push(connection);
    }

    /// A hop that leaves the packet as it is.
    fn hop(&mut self, host: &Host, stage: Stage, rule: &str, origin: Option<Origin>) {
        let packet = self.packet;
        self.changing_hop(host, stage, rule, origin, packet);
    }

    /// A hop after which the packet is `after`.
    fn changing_hop(
        &mut self,
        host: &Host,
        stage: Stage,
        rule: &str,
        origin: Option<Origin>,
        after: Packet,
    ) {
        let before = std::mem::replace(&mut self.packet, after);
        let choice = self.unclaimed_choice(host, stage);
        let (host, rule) = (host.clone(), rule.to_owned());
        self.hops.push(Hop { host, stage, rule, origin, before, after, outer: None, choice });
    }

    /// The last choice, if it was made for this hop.
    fn unclaimed_choice(&self, host: &Host, stage: Stage) -> Option<usize> {
        let last = self.choices.len().checked_sub(1)?;
        let made_here = self.choices[last].host == *host && self.choices[last].stage == stage;
        let claimed = self.hops.iter().any(|hop| hop.choice == Some(last));
        (made_here && !claimed).then_some(last)
    }

    fn tunnel_hop(&mut self, node: &Arc<str>, rule: &str, origin: Option<Origin>, outer: Outer) {
        self.hop(&Host::Node(node.clone()), Stage::Tunnel, rule, origin);
        if let Some(hop) = self.hops.last_mut() {
            hop.outer = Some(outer);
        }
    }

    /// Takes the script's choice, or the first option where the script has ended.
    /// A connection tries up to `attempts` of them.
    fn choose(
        &mut self,
        host: &Host,
        stage: Stage,
        options: Vec<String>,
        attempts: usize,
    ) -> usize {
        let chosen = self.script.get(self.choices.len()).copied().unwrap_or(0);
        if options.len() > 1 {
            let attempts = attempts.min(options.len());
            self.choices.push(Choice { host: host.clone(), stage, options, chosen, attempts });
            chosen
        } else {
            0
        }
    }

    /// Ends the walk here with a last hop that says why.
    fn stop(&mut self, verdict: Verdict, host: &Host, code: Code, text: &str) -> End {
        let stage = if verdict == Verdict::Refused { Stage::Refuse } else { Stage::Drop };
        self.stop_at(stage, verdict, host, code, text, None)
    }

    fn stop_at(
        &mut self,
        stage: Stage,
        verdict: Verdict,
        host: &Host,
        code: Code,
        text: &str,
        origin: Option<Origin>,
    ) -> End {
        self.hop(host, stage, text, origin);
        End { verdict, host: host.clone(), text: text.to_owned(), code: Some(code) }
    }

    fn finish(self, end: End) -> Path {
        let mut path = Path {
            request: self.hops,
            reply: Vec::new(),
            choices: self.choices,
            connections: self.connections,
            receiver: self.receiver,
            findings: self.findings,
            end,
        };
        if path.is_delivered() {
            reply::follow(self.cluster, &mut path, self.packet);
        }
        path
    }

    fn destination(&self) -> String {
        address_text(self.packet.destination)
    }
}
