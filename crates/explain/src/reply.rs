//! The way back: each translation undone on the node whose connection tracking holds it.

use crate::cluster::Cluster;
use crate::finding::{Code, Finding};
use crate::path::{End, Hop, Host, Outer, Path, Stage, Verdict, address_text};
use crate::walk::Segment;
use program::{Arrival, Outcome, Packet, trace};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// More nodes than any sane path has.
const LONGEST: usize = 16;

/// Follows the reply from the receiver of a delivered path to its sender, connection by connection.
pub(crate) fn follow(cluster: &Cluster<'_>, path: &mut Path, segments: &[Segment], last: Packet) {
    let Some(receiver) = &path.receiver else { return };
    let mut reply = Reply { cluster, packet: reverse(last), hops: Vec::new() };
    let mut at = receiver.host.clone();
    reply.hop(&at, Stage::Answer, "answers whom it saw");
    let mut node = receiver.node.clone().filter(|_| matches!(at, Host::Pod(_)));
    let mut lost = None;
    for (index, segment) in segments.iter().enumerate().rev() {
        if let Err(end) = reply.cross(segment, &at, node.take()) {
            lost = Some(end);
            break;
        }
        at = segment.sender.clone();
        match segments[..index].last() {
            Some(outer) => reply.relay(&at, reverse(outer.original)),
            None => {
                reply.hop(&at, Stage::Receive, "the reply comes from the address that was asked")
            }
        }
    }
    path.reply = reply.hops;
    path.findings.extend(remarks(segments, path.receiver.as_ref().map(|receiver| receiver.sees)));
    if let Some(end) = lost {
        path.findings.push(Finding::new(Code::AsymmetricReply, end.text.clone()));
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
    fn cross(&mut self, segment: &Segment, from: &Host, node: Option<Arc<str>>) -> Result<(), End> {
        let wanted = reverse(segment.original);
        let mut next = match (node, from) {
            (Some(node), _) => Some((node, Arrival::Pod)),
            (None, Host::Node(node)) => Some((node.clone(), Arrival::LocalProcess)),
            (None, _) => self.station(Arrival::Underlay),
        };
        for _ in 0..LONGEST {
            let Some((node, arrival)) = next else { break };
            self.undo(segment, &node);
            let Some(program) = self.cluster.program(&node) else { break };
            let host = Host::Node(node.clone());
            next = match trace(program, self.packet, arrival, |_| 0).outcome {
                Outcome::Peer { node: peer, public_ip } => {
                    self.tunnel(&node, &peer, public_ip);
                    Some((peer, Arrival::Tunnel))
                }
                Outcome::Underlay if self.held_by(&node) => None,
                Outcome::Underlay => {
                    if arrival != Arrival::LocalProcess || segment.sender != host {
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
                Outcome::LocalProcess | Outcome::Rejected | Outcome::Unreachable => None,
            };
        }
        if self.packet == wanted { Ok(()) } else { Err(self.lost(segment, wanted)) }
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
    fn undo(&mut self, segment: &Segment, node: &Arc<str>) {
        for translation in segment.translations.iter().rev().filter(|it| it.node == *node) {
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
        let Some(network) = &program.network else { return };
        let source = program.addresses.first().copied().unwrap_or(network.tunnel_address);
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
            hop.origin = program.peers.get(peer).map(|peer| peer.origin.clone());
            hop.outer = Some(outer);
        }
    }

    /// The node that takes packets for the destination on the underlay; `None`: no node does.
    fn station(&self, arrival: Arrival) -> Option<(Arc<str>, Arrival)> {
        let node = self.cluster.world.node_with_address(self.packet.destination.ip())?;
        Some((node.meta.key.name.clone(), arrival))
    }

    fn relay(&mut self, host: &Host, after: Packet) {
        let rule = format!(
            "the balancer hands the answer to the connection that it took at {}",
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

    fn lost(&mut self, segment: &Segment, wanted: Packet) -> End {
        let text = format!(
            "the reply comes to {} from {}, but {} was asked: it is discarded",
            segment.sender,
            address_text(self.packet.source),
            address_text(wanted.source)
        );
        self.hop(&segment.sender, Stage::Drop, &text);
        let (host, code) = (segment.sender.clone(), Some(Code::AsymmetricReply));
        End { verdict: Verdict::Dropped, host, text, code }
    }
}

/// Whether the reply passes through the Service, and whose address the receiver saw.
fn remarks(segments: &[Segment], seen: Option<IpAddr>) -> Vec<Finding> {
    let mut remarks = Vec::new();
    for segment in segments {
        let Some((service, node)) = &segment.service else { continue };
        let masquerade = segment
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
                    segment.sender
                ),
            ),
        });
    }
    let sent = segments.first().map(|segment| segment.original.source.ip());
    if let (Some(sent), Some(seen)) = (sent, seen)
        && sent != seen
    {
        remarks.push(replaced(segments, sent, seen));
    }
    remarks
}

fn replaced(segments: &[Segment], sent: IpAddr, seen: IpAddr) -> Finding {
    let mut by: Vec<String> =
        segments[1..].iter().map(|it| format!("the balancer on {}", it.sender)).collect();
    let translations = segments.iter().flat_map(|segment| &segment.translations);
    let masqueraded = translations.filter(|it| it.stage == Stage::Masquerade);
    by.extend(masqueraded.map(|it| format!("masquerading on node/{}", it.node)));
    let text =
        format!("the receiver sees {seen}, not {sent}: replaced by {}", by.join(", then by "));
    Finding::new(Code::ClientAddressReplaced, text)
}
