//! Front ends as a back end has them in the kernel, in the words of the program: for `podway show` and `explain`.

use ipnet::IpNet;
use kernel::nft::Count;
use model::{Family, Origin, Scheduler};
use std::net::{IpAddr, SocketAddr};

/// A front end as the kernel serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub family: Family,
    /// `None`: the node's own addresses.
    pub address: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    pub port: u16,
    /// Where it comes from; `None` where somebody else put it there.
    pub origin: Option<Origin>,
    pub fate: Fate,
    /// Who may connect; empty: anybody.
    pub sources: Vec<IpNet>,
    /// Seconds that a client keeps its endpoint.
    pub affinity: Option<u32>,
    /// New connections since the front end was made, where the back end counts them.
    pub connections: Option<Count>,
    /// Where a process of ours carries the connections.
    pub relayed: Option<Relayed>,
}

/// What a process that carries connections knows of a front end beyond what rules do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// How an endpoint is chosen; `None`: at random.
    pub scheduler: Option<Scheduler>,
    /// Connections that were ended because no endpoint took them.
    pub unserved: u64,
}

/// What becomes of a new connection. Endpoints with a greater weight are there as often as their share is greater.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Balanced {
        endpoints: Vec<SocketAddr>,
    },
    /// Pods and the node itself go to `inside`, others to `outside`: nowhere, where that is empty.
    BySource {
        inside: Vec<SocketAddr>,
        outside: Vec<SocketAddr>,
    },
    /// Told that nobody is there.
    Refused,
    /// Lost: all endpoints are on other nodes, and only those on this node count.
    NotHere,
}

impl Fate {
    /// All endpoints that a connection may go to.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        let (first, second): (&[_], &[_]) = match self {
            Fate::Balanced { endpoints } => (endpoints, &[]),
            Fate::BySource { inside, outside } => (inside, outside),
            Fate::Refused | Fate::NotHere => (&[], &[]),
        };
        first.iter().chain(second).copied()
    }
}
