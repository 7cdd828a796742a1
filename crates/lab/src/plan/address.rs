//! Subnets and free addresses.

use super::node::Addressed;
use super::{PlanError, Problem};
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The usual size of a subnet, used where all nodes fit into one.
const USUAL: u8 = 24;
/// Nodes further apart than this do not share a subnet.
const WIDEST: u8 = 8;

/// The smallest subnet from /24 upwards that holds every node as a host.
pub(super) fn underlay(nodes: &[Addressed]) -> Result<Ipv4Net, PlanError> {
    let Some(first) = nodes.first() else { return Err(super::node::no_nodes()) };
    let fits = |net: &Ipv4Net, node: &Addressed| is_host(*net, node.address);
    let candidates = (WIDEST..=USUAL).rev().map(|length| subnet(first.address, length));
    let found = candidates.into_iter().find(|net| nodes.iter().all(|node| fits(net, node)));
    found.ok_or_else(|| {
        let widest = subnet(first.address, WIDEST);
        let stray = nodes.iter().find(|node| !fits(&widest, node)).unwrap_or(first);
        stray.conflict("status.addresses", stray.address, Problem::TooFar(first.address))
    })
}

fn subnet(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, length).trunc()
}

fn is_host(net: Ipv4Net, address: Ipv4Addr) -> bool {
    net.contains(&address) && address != net.network() && address != net.broadcast()
}

pub(super) fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

pub(super) fn lowest_free(net: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    net.hosts().find(|address| !taken.contains(address))
}

pub(super) fn highest_free(net: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let (first, end) = (u32::from(net.network()) + 1, u32::from(net.broadcast()));
    (first..end).rev().map(Ipv4Addr::from).find(|address| !taken.contains(address))
}

/// Whether the client can have the address it wishes.
pub(super) fn check_client(
    wish: Ipv4Addr,
    underlay: Ipv4Net,
    virtual_ips: &[Ipv4Addr],
    nodes: &[Addressed],
) -> Result<(), PlanError> {
    let problem = if !is_host(underlay, wish) {
        Problem::NotInSubnet(Box::new(IpNet::V4(underlay)))
    } else if let Some(node) = nodes.iter().find(|node| node.address == wish) {
        Problem::Taken(format!("the InternalIP of node {}", node.name))
    } else if virtual_ips.contains(&wish) {
        Problem::Taken("a virtual IP".to_owned())
    } else {
        return Ok(());
    };
    Err(PlanError::Flag { flag: "--client-ip", value: wish.to_string(), problem })
}
