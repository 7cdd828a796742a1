//! What a lab's network will be, from manifests and flags. Pure: nothing is made here.

mod address;
mod family;
mod node;
mod virtual_ip;

pub use family::{Families, NodeV6, PlanV6};

use crate::Manifest;
use ipnet::{IpNet, Ipv4Net};
use model::FieldError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// What the user may choose about the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// How many nodes to make where the manifests bring none.
    pub nodes: u32,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    /// Of which families pods and Services are; none: as the manifests want it.
    pub families: Option<Families>,
    /// The client's address; none: a free one at the high end of the nodes' subnet.
    pub client_ip: Option<Ipv4Addr>,
    /// More arguments for the agent of every node, such as `--proxy-mode=ipvs`.
    pub agent_arguments: Vec<String>,
}

impl Default for Wishes {
    fn default() -> Self {
        let net = |a, b, length| {
            Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), length).expect("length of at most 32 bits")
        };
        Wishes {
            nodes: 3,
            pod_cidr: net(10, 244, 16),
            service_cidr: net(10, 96, 12),
            families: None,
            client_ip: None,
            agent_arguments: Vec::new(),
        }
    }
}

/// A lab's network, every address decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The segment that nodes and client share, host bits zero.
    pub underlay: Ipv4Net,
    /// The lab's own address on it, where the API listens.
    pub gateway: Ipv4Addr,
    pub client: Ipv4Addr,
    pub nodes: Vec<PlannedNode>,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    /// Virtual addresses that are on the segment though its prefix does not cover them.
    pub onlink: Vec<Ipv4Addr>,
    pub families: Families,
    /// What there is of IPv6 beside; none in a lab of IPv4 alone.
    pub v6: Option<PlanV6>,
    pub agent_arguments: Vec<String>,
}

impl Plan {
    /// All pods' networks, the one that pods' first addresses are from first.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let v6 = self.v6.as_ref().map(|v6| IpNet::V6(v6.pod_cidr));
        self.families.choose(IpNet::V4(self.pod_cidr), v6)
    }

    /// Where Services' addresses come from, in the same order.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        let v6 = self.v6.as_ref().map(|v6| IpNet::V6(v6.service_cidr));
        self.families.choose(IpNet::V4(self.service_cidr), v6)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNode {
    pub name: String,
    /// Its InternalIP.
    pub address: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
    pub v6: Option<NodeV6>,
    /// More arguments for its agent, after those that every node's has.
    pub agent_arguments: Vec<String>,
}

impl PlannedNode {
    /// Its InternalIPs, the one it is known by first.
    pub fn addresses(&self, families: Families) -> Vec<IpAddr> {
        let v6 = self.v6.as_ref().map(|v6| IpAddr::V6(v6.address));
        families.choose(IpAddr::V4(self.address), v6)
    }

    pub fn pod_cidrs(&self, families: Families) -> Vec<IpNet> {
        families.choose(IpNet::V4(self.pod_cidr), self.v6.as_ref().map(|v6| IpNet::V6(v6.pod_cidr)))
    }
}

/// Why manifests and flags make no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{source_name}: {object}: {error}")]
    Field { source_name: String, object: String, error: FieldError },
    #[error("{source_name}: {object}: {field}: {value} is {problem}")]
    Conflict {
        source_name: String,
        object: String,
        field: &'static str,
        value: String,
        problem: Problem,
    },
    #[error("{flag} {value}: {problem}")]
    Flag { flag: &'static str, value: String, problem: Problem },
}

/// What is wrong with an address or a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("also {0}")]
    Taken(String),
    #[error("outside {0}; set {1}")]
    Outside(Box<IpNet>, &'static str),
    #[error("in the same place as {0}")]
    Overlaps(String),
    #[error("too far from {0} for one subnet")]
    TooFar(Ipv4Addr),
    #[error("not an address of the nodes' subnet {0}")]
    NotInSubnet(Box<IpNet>),
    #[error("too small for {0} nodes")]
    TooSmall(usize),
    #[error("no node of this lab")]
    NoSuchNode,
    #[error("at least one node is needed")]
    NoNodes,
}

/// Decides the network of a lab with these objects.
pub fn plan(manifests: &[Manifest], wishes: &Wishes) -> Result<Plan, PlanError> {
    let families = wishes.families.unwrap_or_else(|| Families::wanted_by(manifests));
    let declared = node::declared(manifests)?;
    let virtual_ips = virtual_ip::addresses(manifests, &declared)?;
    let mut taken: BTreeSet<Ipv4Addr> = virtual_ips.iter().copied().collect();
    taken.extend(wishes.client_ip);
    let addressed = node::addressed(declared, wishes.nodes, &mut taken)?;
    let underlay = address::underlay(&addressed)?;
    check_ranges(underlay, wishes)?;
    node::check_names(manifests, &addressed)?;
    if let Some(wish) = wishes.client_ip {
        address::check_client(wish, underlay, &virtual_ips, &addressed)?;
    }
    let full = || node::too_many(&addressed, underlay);
    let gateway = address::lowest_free(underlay, &taken).ok_or_else(full)?;
    taken.insert(gateway);
    let client = wishes.client_ip.or_else(|| address::highest_free(underlay, &taken));
    let client = client.ok_or_else(full)?;
    let mut nodes = node::with_pod_cidrs(addressed, wishes.pod_cidr)?;
    let v6 = match families {
        Families::V4 => None,
        Families::Dual | Families::V6 => {
            Some(family::plan(manifests, &mut nodes, gateway, client)?)
        }
    };
    Ok(Plan {
        underlay,
        gateway,
        client,
        nodes,
        pod_cidr: wishes.pod_cidr,
        service_cidr: wishes.service_cidr,
        onlink: virtual_ips.into_iter().filter(|address| !underlay.contains(address)).collect(),
        families,
        v6,
        agent_arguments: wishes.agent_arguments.clone(),
    })
}

fn check_ranges(underlay: Ipv4Net, wishes: &Wishes) -> Result<(), PlanError> {
    let ranges = [("--pod-cidr", wishes.pod_cidr), ("--service-cidr", wishes.service_cidr)];
    for (flag, range) in ranges {
        if address::overlap(range, underlay) {
            let problem = Problem::Overlaps(format!("the nodes' subnet {underlay}"));
            return Err(PlanError::Flag { flag, value: range.to_string(), problem });
        }
    }
    if address::overlap(wishes.pod_cidr, wishes.service_cidr) {
        let problem = Problem::Overlaps(format!("--service-cidr {}", wishes.service_cidr));
        let value = wishes.pod_cidr.to_string();
        return Err(PlanError::Flag { flag: "--pod-cidr", value, problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
