//! IPVS tables as values: virtual servers and the real servers behind them.
//!
//! The words are the kernel's own (net/netfilter/ipvs, linux/ip_vs.h). [`dump`] reads and writes the form of
//! `ipvsadm -Sn`, [`change`] makes one table out of another, [`answer`] says who may answer a packet.

mod answer;
mod change;
pub mod dump;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Packet};
pub use change::{Change, changes};

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// All virtual servers of a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub virtual_servers: BTreeMap<VirtualAddress, VirtualServer>,
}

/// What packets a virtual server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualAddress {
    /// Packets to this address and port; port 0 stands for all that no other virtual server is for.
    Socket { protocol: u8, address: SocketAddr },
    /// Packets with this firewall mark, whatever they are addressed to; looked for first.
    Mark { family: Family, mark: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// The prefix length of a single address.
    pub fn whole(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }
}

impl VirtualAddress {
    pub fn family(&self) -> Family {
        match self {
            VirtualAddress::Socket { address, .. } => Family::of(address.ip()),
            VirtualAddress::Mark { family, .. } => *family,
        }
    }
}

/// As in `ipvsadm -Ln`: `TCP 10.96.0.1:443`, `FWM 7`.
impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VirtualAddress::Socket { protocol: 6, address } => write!(f, "TCP {address}"),
            VirtualAddress::Socket { protocol: 17, address } => write!(f, "UDP {address}"),
            VirtualAddress::Socket { protocol: 132, address } => write!(f, "SCTP {address}"),
            VirtualAddress::Socket { protocol, address } => write!(f, "{protocol} {address}"),
            VirtualAddress::Mark { family: Family::Ipv4, mark } => write!(f, "FWM {mark}"),
            VirtualAddress::Mark { family: Family::Ipv6, mark } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// How connections to one virtual address are spread, and over whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    pub settings: Settings,
    pub real_servers: BTreeMap<SocketAddr, RealServer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub scheduler: Scheduler,
    pub scheduler_flags: SchedulerFlags,
    /// `None`: each connection is scheduled by itself.
    pub persistence: Option<Persistence>,
    /// `IP_VS_SVC_F_ONEPACKET`: each UDP packet is scheduled by itself.
    pub one_packet: bool,
    /// Persistence engine (`sip`); `None` for the client's address.
    pub engine: Option<String>,
}

impl Settings {
    pub fn of(scheduler: Scheduler) -> Self {
        Settings {
            scheduler,
            scheduler_flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            engine: None,
        }
    }
}

/// A client goes on to the real server it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Seconds after the client's last connection.
    pub timeout: u32,
    /// Bits of the source address that make one client.
    pub prefix: u8,
}

/// How the next real server is chosen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheduler {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    LocalityLeastConnection,
    LocalityLeastConnectionReplicated,
    DestinationHash,
    SourceHash,
    ShortestExpectedDelay,
    NeverQueue,
    MaglevHash,
    WeightedFailover,
    WeightedOverflow,
    /// One that is not known here, by the kernel's name.
    Other(String),
}

impl Scheduler {
    /// All that have a name here, with the kernel's name of each.
    pub const NAMED: [(&'static str, Scheduler); 13] = [
        ("rr", Scheduler::RoundRobin),
        ("wrr", Scheduler::WeightedRoundRobin),
        ("lc", Scheduler::LeastConnection),
        ("wlc", Scheduler::WeightedLeastConnection),
        ("lblc", Scheduler::LocalityLeastConnection),
        ("lblcr", Scheduler::LocalityLeastConnectionReplicated),
        ("dh", Scheduler::DestinationHash),
        ("sh", Scheduler::SourceHash),
        ("sed", Scheduler::ShortestExpectedDelay),
        ("nq", Scheduler::NeverQueue),
        ("mh", Scheduler::MaglevHash),
        ("fo", Scheduler::WeightedFailover),
        ("ovf", Scheduler::WeightedOverflow),
    ];

    pub fn from_name(name: &str) -> Self {
        let named = Self::NAMED.into_iter().find(|(known, _)| *known == name);
        named.map_or_else(|| Scheduler::Other(name.to_owned()), |(_, scheduler)| scheduler)
    }

    /// The kernel's name, as in module `ip_vs_rr`.
    pub fn name(&self) -> &str {
        if let Scheduler::Other(name) = self {
            return name;
        }
        let named = Self::NAMED.iter().find(|(_, scheduler)| scheduler == self);
        named.map_or("", |(name, _)| *name)
    }

    /// Whether a connection's own fields choose, not what was chosen before.
    pub fn hashes(&self) -> bool {
        matches!(self, Scheduler::DestinationHash | Scheduler::SourceHash | Scheduler::MaglevHash)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `IP_VS_SVC_F_SCHED1` to 3; the first two as sh and mh use them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerFlags {
    /// Where the hashed real server has weight 0, another one is taken.
    pub fallback: bool,
    /// The source port is hashed, too.
    pub port: bool,
    pub third: bool,
}

/// One who may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealServer {
    pub forward: Forward,
    /// 0: keeps its connections and gets no new ones.
    pub weight: u32,
    /// Connections from which on it gets no more; 0 for no bound.
    pub upper_threshold: u32,
    /// Connections below which an overloaded one is taken again; 0 for three quarters of the upper one.
    pub lower_threshold: u32,
}

impl RealServer {
    pub fn masquerading(weight: u32) -> Self {
        RealServer { forward: Forward::Masquerade, weight, upper_threshold: 0, lower_threshold: 0 }
    }
}

/// `IP_VS_CONN_F_FWD_MASK`: how packets get to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Destination address and port are replaced, and put back in answers.
    Masquerade,
    /// It is this machine.
    Local,
    Tunnel,
    /// The packet goes unchanged to the real server's link address.
    Route,
    Bypass,
}
