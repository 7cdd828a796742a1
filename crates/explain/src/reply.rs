//! The way back: each translation undone on the node whose connection tracking holds it.

use crate::cluster::Cluster;
use crate::finding::{Code, Finding};
use crate::path::{Connection, End, Hop, Host, Opener, Outer, Path, Stage, Verdict, address_text};
use model::Family;
use program::{Arrival, Outcome, Packet, trace};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// More nodes than any sane path has.
const LONGEST: usize = 16;

/// Follows the reply from the receiver of a delivered path to its sender, connection by connection.
pub(crate) fn follow(cluster: &Cluster<'_>, path: &mut Path, last: Packet) {
    let Some(receiver) = &path.receiver else { return };
    let connections = path.connections.clone();
    let mut reply = Reply { cluster, packet: reverse(last), hops: Vec::new() };
    let mut at = path.end.host.clone();
    reply.hop(&at, Stage::Answer, "answers whom it saw");
    let mut node = receiver.node.clone().filter(|_| matches!(at, Host::Pod(_)));
    let mut lost = None;
    for (index, connection) in connections.iter().enumerate().rev() {
        if let Err(end) = reply.cross(connection, &at, node.take()) {
            lost = Some(end);
            break;
        }
        at = connection.sender.clone();
        match connections[..index].last() {
            Some(outer) => reply.relay(&at, connection.opener, reverse(outer.original)),
            None => {
                reply.hop(&at, Stage::Receive, "the reply comes from the address that was asked")
            }
        }
    }
    path.reply = reply.hops;
    path.findings
        .extend(remarks(&connections, path.receiver.as_ref().map(|receiver| receiver.sees)));
    if let Some(end) = lost {
        let code = end.code.unwrap_or(Code::AsymmetricReply);
        path.findings.push(Finding::new(code, end.text.clone()));
        path.end = end;
    }
}

fn reverse(packet: Packet) -> Packet {
    Packet { source: packet.destination, destination: packet.source, ..packet }
}

struct Reply<'a> {
    cluster: &'a Cluster<'a>,
    packet: Packet,
    hops: Vec<Hop>,
}

impl Reply<'_> {
    /// Carries the reply of one connection to its sender.
    fn cross(
        &mut self,
        connection: &Connection,
        from: &Host,
        node: Option<Arc<str>>,
    ) -> Result<(), End> {
        let wanted = reverse(connection.original);
        let mut next = match (node, from) {
            (Some(node), _) => Some((node, Arrival::Pod)),
            (None, Host::Node(node)) => Some((node.clone(), Arrival::LocalProcess)),
            (None, _) => self.station(Arrival::Underlay),
        };
        if next.is_none() && self.cluster.settings.is_pod_address(self.packet.destination.ip()) {
            return Err(self.without_way(from));
        }
        for _ in 0..LONGEST {
            let Some((node, arrival)) = next else { break };
            self.undo(connection, &node);
            let Some(program) = self.cluster.program(&node) else { break };
            let host = Host::Node(node.clone());
            next = match trace(program, self.packet, arrival, |_| 0).outcome {
                Outcome::Peer { node: peer, public_ip } => {
                    self.tunnel(&node, &peer, public_ip);
                    Some((peer, Arrival::Tunnel))
                }
                Outcome::Underlay if self.held_by(&node) => None,
                Outcome::Underlay => {
                    if arrival != Arrival::LocalProcess || connection.sender != host {
                        let rule = format!(
                            "to {} on the nodes' own network",
                            self.packet.destination.ip()
                        );
                        self.hop(&host, Stage::Underlay, &rule);
                    }
                    self.station(Arrival::Underlay)
                }
                Outcome::Pod(key) => {
                    self.hop(
                        &host,
                        Stage::Route,
                        &format!("{} is pod {key} on this node", self.packet.destination.ip()),
                    );
                    None
                }
                Outcome::LocalProcess
                | Outcome::Rejected
                | Outcome::Dropped
                | Outcome::Unreachable => None,
            };
        }
        if self.packet == wanted { Ok(()) } else { Err(self.lost(connection, wanted)) }
    }

    /// Whether the destination is a virtual IP that the node itself holds.
    fn held_by(&self, node: &Arc<str>) -> bool {
        let address = self.packet.destination.ip();
        let mut vips = self.cluster.world.virtual_ips();
        let vip = vips.find(|vip| vip.addresses.contains(&address));
        vip.and_then(|vip| crate::walk::holder(self.cluster, vip))
            .is_some_and(|holder| holder.node == *node)
    }

    /// Reverses, last first, what this node did to the connection.
    fn undo(&mut self, connection: &Connection, node: &Arc<str>) {
        for translation in connection.translations.iter().rev().filter(|it| it.node == *node) {
            if self.packet != reverse(translation.after) {
                continue;
            }
            let after = reverse(translation.before);
            let (stage, rule) = if translation.stage == Stage::Masquerade {
                let text = format!(
                    "connection tracking puts the sender {} back as destination",
                    after.destination.ip()
                );
                (Stage::Unmasquerade, text)
            } else {
                let text = format!(
                    "connection tracking puts {} back as source",
                    address_text(after.source)
                );
                (Stage::Untranslate, text)
            };
            let before = std::mem::replace(&mut self.packet, after);
            let (host, origin) = (Host::Node(node.clone()), Some(translation.origin.clone()));
            self.hops.push(Hop {
                host,
                stage,
                rule,
                origin,
                before,
                after,
                outer: None,
                choice: None,
            });
        }
    }

    fn tunnel(&mut self, node: &Arc<str>, peer: &Arc<str>, public_ip: IpAddr) {
        let Some(program) = self.cluster.program(node) else { return };
        let Some(network) = program.network_of(self.packet.destination.ip()) else { return };
        let family = Family::of(public_ip);
        let source = program.primary_address(family).unwrap_or(network.tunnel_address);
        let outer = Outer {
            source,
            destination: SocketAddr::new(public_ip, network.tunnel_port),
            vni: network.vni,
        };
        let rule = format!(
            "{} lies on {peer}: VXLAN {} from {source} to {}",
            self.packet.destination.ip(),
            outer.vni,
            outer.destination
        );
        self.hop(&Host::Node(node.clone()), Stage::Tunnel, &rule);
        if let Some(hop) = self.hops.last_mut() {
            let key = (Family::of(self.packet.destination.ip()), peer.clone());
            hop.origin = program.peers.get(&key).map(|peer| peer.origin.clone());
            hop.outer = Some(outer);
        }
    }

    /// The node that takes packets for the destination on the underlay; `None`: no node does.
    fn station(&self, arrival: Arrival) -> Option<(Arc<str>, Arrival)> {
        let node = self.cluster.world.node_with_address(self.packet.destination.ip())?;
        Some((node.meta.key.name.clone(), arrival))
    }

    fn relay(&mut self, host: &Host, opener: Opener, after: Packet) {
        let rule = format!(
            "{} hands the answer to the connection that it took at {}",
            opener.relay(),
            address_text(after.source)
        );
        let before = std::mem::replace(&mut self.packet, after);
        let host = host.clone();
        self.hops.push(Hop {
            host,
            stage: Stage::Relay,
            rule,
            origin: None,
            before,
            after,
            outer: None,
            choice: None,
        });
    }

    fn hop(&mut self, host: &Host, stage: Stage, rule: &str) {
        let (host, rule, packet) = (host.clone(), rule.to_owned(), self.packet);
        self.hops.push(Hop {
            host,
            stage,
            rule,
            origin: None,
            before: packet,
            after: packet,
            outer: None,
            choice: None,
        });
    }

    /// A host outside of the cluster answers to a pod's own address, which was not masqueraded.
    fn without_way(&mut self, from: &Host) -> End {
        let pod = self.packet.destination.ip();
        let text = format!(
            "{from} knows no way to {pod}, which is a pod's own address: the reply is lost"
        );
        self.hop(from, Stage::Drop, &text);
        End {
            verdict: Verdict::Dropped,
            host: from.clone(),
            text,
            code: Some(Code::PodIpFromOutside),
        }
    }

    fn lost(&mut self, connection: &Connection, wanted: Packet) -> End {
        let text = format!(
            "the reply comes to {} from {}, but {} was asked: it is discarded",
            connection.sender,
            address_text(self.packet.source),
            address_text(wanted.source)
        );
        self.hop(&connection.sender, Stage::Drop, &text);
        let (host, code) = (connection.sender.clone(), Some(Code::AsymmetricReply));
        End { verdict: Verdict::Dropped, host, text, code }
    }
}

/// Whether the reply passes through the Service, and whose address the receiver saw.
fn remarks(connections: &[Connection], seen: Option<IpAddr>) -> Vec<Finding> {
    let mut remarks = Vec::new();
    for (index, connection) in connections.iter().enumerate() {
        let Some((service, node)) = &connection.service else { continue };
        if relayed(connections, index) {
            let text = format!(
                "node/{node} serves in proxy mode userspace: podway relay takes the connection to Service {service} and makes a second one to the endpoint, which sees the node as its client"
            );
            remarks.push(Finding::new(Code::ProxyRelays, text));
            continue;
        }
        let masquerade = connection
            .translations
            .iter()
            .find(|it| it.node == *node && it.stage == Stage::Masquerade);
        remarks.push(match masquerade {
            Some(masquerade) => Finding::new(
                Code::ReplyThroughTranslator,
                format!(
                    "the reply passes through node/{node} again, which chose the endpoint for Service {service}: it put in {} as source, so the reply comes to it",
                    masquerade.after.source.ip()
                ),
            ),
            None => Finding::new(
                Code::ReplyDirect,
                format!(
                    "no host has the address of Service {service}: the reply goes straight to {}, and node/{node} puts the Service's address back just before",
                    connection.sender
                ),
            ),
        });
    }
    let sent = connections.first().map(|connection| connection.original.source.ip());
    if let (Some(sent), Some(seen)) = (sent, seen)
        && sent != seen
    {
        remarks.push(replaced(connections, sent, seen));
    }
    remarks
}

/// Whether a service proxy ended the connection and made the next one.
fn relayed(connections: &[Connection], index: usize) -> bool {
    connections.get(index + 1).is_some_and(|next| next.opener == Opener::Proxy)
}

fn replaced(connections: &[Connection], sent: IpAddr, seen: IpAddr) -> Finding {
    let mut by: Vec<String> = connections[1..]
        .iter()
        .map(|it| format!("{} on {}", it.opener.relay(), it.sender))
        .collect();
    let translations = connections.iter().flat_map(|connection| &connection.translations);
    let masqueraded = translations.filter(|it| it.stage == Stage::Masquerade);
    by.extend(masqueraded.map(|it| format!("masquerading on node/{}", it.node)));
    let text =
        format!("the receiver sees {seen}, not {sent}: replaced by {}", by.join(", then by "));
    Finding::new(Code::ClientAddressReplaced, text)
}
