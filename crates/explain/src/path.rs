//! One way through the cluster, hop by hop.

use crate::finding::{Code, Finding};
use crate::probability::Probability;
use model::{ObjectKey, Origin};
use program::Packet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What has a network stack of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The lab's client, on the underlay.
    Client,
    /// Some host outside of the cluster.
    Outside(IpAddr),
    /// What stands between the underlay and the rest of the world.
    Gateway,
    Node(Arc<str>),
    Pod(ObjectKey),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Client => f.write_str("client"),
            Host::Outside(address) => write!(f, "host/{address}"),
            Host::Gateway => f.write_str("gateway"),
            Host::Node(name) => write!(f, "node/{name}"),
            Host::Pod(key) => write!(f, "pod/{key}"),
        }
    }
}

/// What is done at a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Send,
    VirtualIp,
    Balancer,
    Service,
    Masquerade,
    Route,
    Tunnel,
    Underlay,
    Deliver,
    Refuse,
    Drop,
    Answer,
    Unmasquerade,
    Untranslate,
    Relay,
    Receive,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Send => "send",
            Stage::VirtualIp => "virtual-ip",
            Stage::Balancer => "balancer",
            Stage::Service => "service",
            Stage::Masquerade => "masquerade",
            Stage::Route => "route",
            Stage::Tunnel => "tunnel",
            Stage::Underlay => "underlay",
            Stage::Deliver => "deliver",
            Stage::Refuse => "refuse",
            Stage::Drop => "drop",
            Stage::Answer => "answer",
            Stage::Unmasquerade => "un-masquerade",
            Stage::Untranslate => "un-dnat",
            Stage::Relay => "relay",
            Stage::Receive => "receive",
        })
    }
}

/// One thing that happens to the packet.
///
/// The sender's port is the kernel's to choose: 0 in the packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub host: Host,
    pub stage: Stage,
    /// What rule, route or program does it, in plain words.
    pub rule: String,
    pub origin: Option<Origin>,
    pub before: Packet,
    pub after: Packet,
    /// The packet that carries this one.
    pub outer: Option<Outer>,
    /// Which of the path's choices was made here.
    pub choice: Option<usize>,
}

/// A VXLAN packet's own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outer {
    pub source: IpAddr,
    pub destination: SocketAddr,
    pub vni: u32,
}

/// What becomes of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Delivered,
    Refused,
    Dropped,
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Delivered => "delivered",
            Verdict::Refused => "refused",
            Verdict::Dropped => "dropped",
            Verdict::Unknown => "unknown",
        })
    }
}

/// A place where the way is chosen among equals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub host: Host,
    pub stage: Stage,
    /// What there is to choose from, as hosts or addresses.
    pub options: Vec<String>,
    pub chosen: usize,
    /// How many of them a connection tries, until one takes it.
    pub attempts: usize,
}

impl Choice {
    pub fn probability(&self) -> Probability {
        Probability::one_of(self.options.len())
    }

    /// The option that was taken.
    pub fn taken(&self) -> &str {
        &self.options[self.chosen]
    }
}

/// Who got the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The pod, also where it shares the network of its node, which then is the last hop's host.
    pub host: Host,
    pub address: SocketAddr,
    /// The source address that it sees.
    pub sees: IpAddr,
    /// The node that it is on, or is.
    pub node: Option<Arc<str>>,
}

/// A connection: what its sender sent, and who changed it on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub sender: Host,
    pub opener: Opener,
    /// Index of the hop in the request that it begins with.
    pub hop: usize,
    pub original: Packet,
    pub translations: Vec<Translation>,
    /// The Service whose endpoint was chosen, and the node that did.
    pub service: Option<(ObjectKey, Arc<str>)>,
}

/// Who makes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// Whoever asks.
    Sender,
    /// The balancer of a virtual IP, which ended the one before.
    Balancer,
    /// A service proxy in mode userspace, likewise.
    Proxy,
}

impl Opener {
    /// As one speaks of it where it relays.
    pub fn relay(self) -> &'static str {
        match self {
            Opener::Sender | Opener::Balancer => "the balancer",
            Opener::Proxy => "the service proxy",
        }
    }
}

/// What one hop changes, and what its node's connection tracking changes back in replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    pub node: Arc<str>,
    /// Index of the hop in the request.
    pub hop: usize,
    pub stage: Stage,
    pub before: Packet,
    pub after: Packet,
    pub origin: Origin,
}

/// How a path ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub verdict: Verdict,
    /// Where it ended.
    pub host: Host,
    /// In plain words, without the verdict.
    pub text: String,
    /// Why, unless it was delivered.
    pub code: Option<Code>,
}

/// One of the ways that a connection may take, all choices made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub request: Vec<Hop>,
    pub reply: Vec<Hop>,
    pub choices: Vec<Choice>,
    /// The connections it consists of: a balancer ends one and begins another, and so does mode userspace.
    pub connections: Vec<Connection>,
    pub receiver: Option<Receiver>,
    pub findings: Vec<Finding>,
    pub end: End,
}

impl Path {
    pub fn probability(&self) -> Probability {
        self.choices.iter().fold(Probability::CERTAIN, |sum, choice| sum.and(choice.probability()))
    }

    pub fn is_delivered(&self) -> bool {
        self.end.verdict == Verdict::Delivered
    }
}

/// An address of a packet as text; without a port where that is anybody's guess.
pub fn address_text(address: SocketAddr) -> String {
    if address.port() == 0 { address.ip().to_string() } else { address.to_string() }
}
