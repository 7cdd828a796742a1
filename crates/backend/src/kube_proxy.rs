//! kube-proxy's own configuration, to be removed once another has its place; whichever of its modes made it.
//!
//! kube-proxy leaves its rules when it ends, so connections find their way until they are removed, and those under
//! way find theirs afterwards too: connection tracking remembers it.

use crate::{Mode, iptables};
use kernel::netlink::Socket;
use kernel::nft::{Transaction, tables};
use kernel::route;
use netstate::nft::{Family, TableId};

/// The dummy device that holds every virtual address in mode ipvs.
const DEVICE: &str = "kube-ipvs0";
const TABLE: &str = "kube-proxy";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("rules of kube-proxy in iptables")]
    Iptables(#[from] iptables::Error),
    #[error("tables of kube-proxy in nf_tables")]
    Nft(#[source] kernel::Error),
    #[error("the device {DEVICE}")]
    Device(#[source] kernel::Error),
    #[error("removing the device {DEVICE}: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Removal(Vec<kernel::Error>),
}

/// Removes what kube-proxy left in the network namespace of the calling thread, in its modes iptables, nftables and
/// ipvs, once `own` has its place. Nothing else is touched; IPVS's own table, and the device where `own` has taken it
/// over, are the business of the back end ipvs.
pub fn remove(own: Mode) -> Result<(), Error> {
    remove_tables().map_err(Error::Nft)?;
    if own != Mode::Ipvs {
        remove_device()?;
    }
    Ok(iptables::remove_kube_proxys()?)
}

fn remove_tables() -> kernel::Result<()> {
    let mut socket = Socket::netfilter()?;
    let there = tables(&mut socket)?;
    for family in [Family::Ip, Family::Ip6] {
        let table = TableId { family, name: TABLE.to_owned() };
        if there.contains(&table) {
            Transaction::new().delete_table(&table).commit(&mut socket)?;
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
