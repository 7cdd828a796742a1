//! What an edge is asked to do, as plain values.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;
use wire::machine::health;
use wire::vrrp::{Addresses, Interval};

/// Where a node meets the segment of the virtual IPs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// For example `eth0`.
    pub name: String,
    /// The node's own address there: the source of its advertisements.
    pub address: Ipv4Addr,
}

/// One virtual router of this node, and what listens behind its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    /// Unique on the node.
    pub name: String,
    pub addresses: Addresses,
    /// Virtual router identifier, unique on the segment.
    pub vrid: NonZeroU8,
    /// Between advertisements; its unit decides the version of VRRP.
    pub interval: Interval,
    /// Of this node; 255 is for the owner of the addresses.
    pub priority: NonZeroU8,
    /// Whether this node takes over from one of lower priority.
    pub preempt: bool,
    pub listeners: Vec<Listener>,
}

/// A TCP port of every address of a virtual IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Unique in its virtual IP.
    pub name: String,
    pub port: u16,
    pub algorithm: Algorithm,
    pub backends: Vec<Backend>,
    /// `None`: every back end counts as well.
    pub health_check: Option<health::Config>,
    pub dial: Dial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest open connections; each in turn among equals.
    LeastConnections,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Unique in its listener; the node's name, for example.
    pub name: String,
    pub address: SocketAddr,
}

/// How hard a connection for a client is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// For one attempt.
    pub timeout: Duration,
    /// Without an answer for so long, another back end is tried as well and the first answer wins.
    pub hedge_after: Duration,
    /// Further attempts after the first; `None`: all back ends, three times over.
    pub retries: Option<usize>,
}

impl Default for Dial {
    fn default() -> Self {
        Dial {
            timeout: Duration::from_secs(1),
            hedge_after: Duration::from_millis(150),
            retries: None,
        }
    }
}
