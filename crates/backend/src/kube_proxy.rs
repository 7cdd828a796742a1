//! kube-proxy's own configuration, to be removed once another has its place; whichever of its modes made it.
//!
//! kube-proxy leaves its rules when it ends, so connections find their way until they are removed, and those under
//! way find theirs afterwards too: connection tracking remembers it.

use crate::{Mode, iptables, ipvs};
use kernel::netlink::Socket;
use kernel::nft::{remove_table, tables};
use kernel::{ipset, route};
use netstate::nft::{Family, TableId};
use std::collections::BTreeSet;

/// The dummy device that holds every virtual address in mode ipvs.
const DEVICE: &str = "kube-ipvs0";
const TABLE: &str = "kube-proxy";

/// The sets of mode ipvs, behind `KUBE-` for IPv4 and `KUBE-6-` for IPv6.
const SETS: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];
/// Longer names are cut (`IPSET_MAXNAMELEN` with its NUL).
const LONGEST_NAME: usize = 31;
/// The sets of node ports, by the number of their protocol.
const NODE_PORTS: [(&str, u8); 3] =
    [("NODE-PORT-TCP", 6), ("NODE-PORT-UDP", 17), ("NODE-PORT-SCTP-HASH", 132)];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("rules of kube-proxy in iptables")]
    Iptables(#[from] iptables::Error),
    #[error("tables of kube-proxy in nf_tables")]
    Nft(#[source] kernel::Error),
    #[error("the device {DEVICE}")]
    Device(#[source] kernel::Error),
    #[error("sets of kube-proxy")]
    Sets(#[source] kernel::Error),
    #[error("removing the device {DEVICE}: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Removal(Vec<kernel::Error>),
}

/// Removes what kube-proxy left in the network namespace of the calling thread, in its modes iptables, nftables and
/// ipvs, once `own` has its place. Nothing else is touched.
///
/// Virtual servers stay, and the device without which their connections would end: they are the business of the back
/// end ipvs, or of [`ipvs::Leftover`].
pub fn remove(own: Mode) -> Result<(), Error> {
    remove_tables().map_err(Error::Nft)?;
    if own != Mode::Ipvs && !ipvs::has_virtual_servers() {
        remove_device()?;
    }
    iptables::remove_kube_proxys()?;
    // Rules refer to them.
    remove_sets().map_err(Error::Sets)
}

/// Protocol number and port of each node port that mode ipvs served: the virtual servers there, on whichever address,
/// are kube-proxy's.
pub fn node_ports() -> kernel::Result<BTreeSet<(u8, u16)>> {
    let mut socket = Socket::netfilter()?;
    let mut found = BTreeSet::new();
    for name in ipset::names(&mut socket)? {
        let of = |(set, _): &&(&str, u8)| set_of(&name) == Some(set);
        if let Some((_, protocol)) = NODE_PORTS.iter().find(of) {
            found.extend(
                ipset::ports(&mut socket, &name)?.into_iter().map(|port| (*protocol, port)),
            );
        }
    }
    Ok(found)
}

fn remove_sets() -> kernel::Result<()> {
    let mut socket = Socket::netfilter()?;
    let names = ipset::names(&mut socket)?;
    let mut theirs = names.iter().filter(|name| set_of(name).is_some());
    theirs.try_for_each(|name| ipset::destroy(&mut socket, name))
}

/// Which of kube-proxy's sets has this name.
fn set_of(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix("KUBE-6-").or_else(|| name.strip_prefix("KUBE-"))?;
    let is_cut = name.len() == LONGEST_NAME;
    SETS.into_iter().find(|set| rest == *set || is_cut && set.starts_with(rest))
}

fn remove_tables() -> kernel::Result<()> {
    let mut socket = Socket::netfilter()?;
    let there = tables(&mut socket)?;
    for family in [Family::Ip, Family::Ip6] {
        let table = TableId { family, name: TABLE.to_owned() };
        if there.contains(&table) {
            remove_table(&mut socket, &table)?;
        }
    }
    Ok(())
}

fn remove_device() -> Result<(), Error> {
    let mut socket = Socket::route().map_err(Error::Device)?;
    let there = std::path::Path::new("/proc/sys/net/ipv4/conf").join(DEVICE).exists();
    if there {
        let removal = route::Change::DeleteLink(DEVICE.to_owned());
        route::apply(&mut socket, &[removal]).map_err(Error::Removal)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_sets_are_known_by_their_names() {
        for (name, set) in [
            ("KUBE-CLUSTER-IP", Some("CLUSTER-IP")),
            ("KUBE-6-NODE-PORT-TCP", Some("NODE-PORT-TCP")),
            ("KUBE-6-LOAD-BALANCER-SOURCE-CID", Some("LOAD-BALANCER-SOURCE-CIDR")),
            ("KUBE-6-NODE-PORT-LOCAL-SCTP-HAS", Some("NODE-PORT-LOCAL-SCTP-HASH")),
            ("KUBE-LOAD-BAL", None),
            ("KUBE-NWPLCY-ABC", None),
            ("CLUSTER-IP", None),
        ] {
            assert_eq!(set_of(name), set, "{name}");
        }
    }
}
