//! Addresses that the machine answers for though no interface has them.
//!
//! They are routes in table `local`, marked with Podway's protocol number: whoever comes after a killed process
//! finds them, and nothing else is ever removed.

use kernel::netlink::Socket;
use kernel::route::{self, Change};
use kernel::{Errno, sysctl};
use netstate::{Local, Route};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// With 1 an interface answers ARP for its own addresses only.
const ARP_IGNORE: &str = "net/ipv4/conf/all/arp_ignore";

/// How an address is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What the node's own processes have as source when they speak to it.
    pub(super) source: Option<IpAddr>,
    /// Others may have it, too, and answer for it on the network: this machine must not.
    pub(super) shared: bool,
}

#[derive(Debug)]
pub(super) struct Addresses {
    socket: Socket,
    claimed: BTreeMap<IpAddr, Local>,
}

impl Addresses {
    pub(super) fn open() -> kernel::Result<Self> {
        Ok(Addresses { socket: Socket::route()?, claimed: BTreeMap::new() })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn is_local(&mut self, address: IpAddr) -> kernel::Result<bool> {
        Ok(self.claimed.contains_key(&address) || route::is_local(&mut self.socket, address)?)
    }

    /// Reads what is claimed, by this or an earlier process.
    pub(super) fn read(&mut self) -> kernel::Result<()> {
        let all = route::locals(&mut self.socket)?;
        let ours =
            |local: &Local| local.protocol == Route::PODWAY && local.device == Local::ANYWHERE;
        let ours = all.into_iter().filter(ours);
        self.claimed = ours.map(|local| (local.address, local)).collect();
        Ok(())
    }

    pub(super) fn claimed(&self) -> impl Iterator<Item = IpAddr> {
        self.claimed.keys().copied()
    }

    /// Makes local what is not, as far as this process may; returns how many.
    pub(super) fn claim(&mut self, wanted: &BTreeMap<IpAddr, Wanted>) -> kernel::Result<usize> {
        let mut changes = Vec::new();
        let mut fresh = Vec::new();
        for (address, Wanted { source, .. }) in wanted {
            let local = Local {
                address: *address,
                device: Local::ANYWHERE.to_owned(),
                source: *source,
                protocol: Route::PODWAY,
            };
            match self.claimed.get(address) {
                Some(claimed) if *claimed == local => continue,
                Some(claimed) => changes.push(Change::DeleteLocal(claimed.clone())),
                None if route::is_local(&mut self.socket, *address)? => continue,
                None => {}
            }
            fresh.push(local.clone());
            changes.push(Change::AddLocal(local));
        }
        let shared = |local: &Local| wanted.get(&local.address).is_some_and(|it| it.shared);
        if fresh.iter().any(|local| local.address.is_ipv4() && shared(local)) && !keep_quiet()? {
            return Ok(0);
        }
        if !allowed(route::apply(&mut self.socket, &changes))? {
            return Ok(0);
        }
        let number = fresh.len();
        self.claimed.extend(fresh.into_iter().map(|local| (local.address, local)));
        Ok(number)
    }

    pub(super) fn release(&mut self, addresses: &BTreeSet<IpAddr>) -> kernel::Result<()> {
        let lost = addresses.iter().filter_map(|address| self.claimed.remove(address));
        let changes: Vec<_> = lost.map(Change::DeleteLocal).collect();
        allowed(route::apply(&mut self.socket, &changes)).map(drop)
    }
}

/// Those that any process has claimed in the network namespace of the calling thread.
pub(super) fn release_all() -> kernel::Result<()> {
    let mut addresses = Addresses::open()?;
    addresses.read()?;
    let all = addresses.claimed().collect();
    addresses.release(&all)
}

/// False: it takes a privilege.
fn allowed(outcome: Result<(), Vec<kernel::Error>>) -> kernel::Result<bool> {
    let Err(errors) = outcome else { return Ok(true) };
    let refused = |error: &kernel::Error| error.errno() == Some(Errno::EPERM);
    match errors.into_iter().find(|error| !refused(error)) {
        Some(error) => Err(error),
        None => Ok(false),
    }
}

/// False: it takes a privilege.
fn keep_quiet() -> kernel::Result<bool> {
    if sysctl::read(ARP_IGNORE)? != "0" {
        return Ok(true);
    }
    match sysctl::write(ARP_IGNORE, "1") {
        Ok(()) => {
            tracing::info!(
                "arp_ignore set: addresses that other machines have, too, are not answered for"
            );
            Ok(true)
        }
        Err(error)
            if matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
