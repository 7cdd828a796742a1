//! What a back end that took over finds of this one: it goes when no connection needs it any more.

use super::apply::{DEVICE, Error, SWEEP, first, is_led_to, led_to, ours, owned_addresses};
use super::settle::PATIENCE;
use ipnet::IpNet;
use kernel::ipvs::{Ipvs, Observed};
use kernel::netlink::Socket;
use kernel::route;
use netstate::Address;
use netstate::ipvs::{Change, Table, VirtualAddress};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

/// Virtual servers that nothing new comes to, and `kube-ipvs0`, without which their connections would end.
#[derive(Debug)]
pub struct Leftover {
    ipvs: Ipvs,
    links: Socket,
    servers: BTreeSet<VirtualAddress>,
    /// Whether `kube-ipvs0` is somebody's who has come since.
    device_stays: bool,
    deadline: Instant,
    due: Instant,
}

impl Leftover {
    /// What mode ipvs left, or kube-proxy's mode of that name, whose `node_ports` have virtual servers on any address
    /// ([`crate::kube_proxy::node_ports`]).
    ///
    /// To be called before the service table changes, since it tells whose virtual servers are. `None` where there
    /// is no `kube-ipvs0`.
    pub fn find(now: Instant, node_ports: &BTreeSet<(u8, u16)>) -> Result<Option<Self>, Error> {
        let mut links = Socket::route().map_err(Error::Open)?;
        if route::link(&mut links, DEVICE).map_err(Error::Read)?.is_none() {
            return Ok(None);
        }
        let mut ipvs = Ipvs::open().map_err(Error::Open)?;
        let owned = owned_addresses(&mut links).map_err(Error::Read)?;
        let led_to = led_to().map_err(Error::Read)?;
        let table = ipvs.read().map_err(Error::Read)?.table;
        let servers = ours(&table, &led_to, &owned);
        let servers = servers.chain(at_ports(&table, node_ports)).collect();
        Ok(Some(Leftover {
            ipvs,
            links,
            servers,
            device_stays: false,
            deadline: now + PATIENCE,
            due: now,
        }))
    }

    /// What kube-proxy's mode ipvs left that a back end of the same name does not take over: virtual servers of
    /// node ports on addresses at which Podway has none.
    pub fn beside(now: Instant, node_ports: &BTreeSet<(u8, u16)>) -> Result<Option<Self>, Error> {
        let found = Leftover::find(now, node_ports)?;
        Ok(found.map(|found| Leftover { device_stays: true, ..found }))
    }

    /// When to sweep.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Those that the service table leads to are in use again.
    fn leave_to_others(&mut self) -> Result<(), Error> {
        if self.device_stays {
            let led_to = led_to().map_err(Error::Read)?;
            self.servers.retain(|at| !is_led_to(at, &led_to));
        }
        Ok(())
    }

    /// Removes what has no open connections, or had time enough; true when nothing is left.
    pub fn sweep(&mut self, now: Instant) -> Result<bool, Error> {
        self.due = now + SWEEP;
        let observed = self.ipvs.read().map_err(Error::Read)?;
        self.leave_to_others()?;
        let over = now >= self.deadline;
        let idle: Vec<_> =
            self.servers.iter().copied().filter(|at| over || is_idle(&observed, at)).collect();
        let delete = |at: &VirtualAddress| Change::DeleteVirtual { virtual_address: *at };
        let steps: Vec<_> = idle.iter().map(delete).collect();
        self.ipvs.apply(&steps).map_err(first).map_err(Error::Servers)?;
        self.servers.retain(|at| !idle.contains(at));
        if self.device_stays {
            return Ok(self.servers.is_empty());
        }
        let needed: BTreeSet<_> = self.servers.iter().filter_map(address).collect();
        let owned = owned_addresses(&mut self.links).map_err(Error::Read)?;
        let unneeded = owned.difference(&needed).map(|address| {
            let net = IpNet::from(*address);
            route::Change::DeleteAddress(Address { device: DEVICE.to_owned(), net })
        });
        let mut changes: Vec<_> = unneeded.collect();
        if self.servers.is_empty() {
            changes.push(route::Change::DeleteLink(DEVICE.to_owned()));
        }
        route::apply(&mut self.links, &changes).map_err(first).map_err(Error::Addresses)?;
        Ok(self.servers.is_empty())
    }
}

/// Whether there is anything whose connections would end with `kube-ipvs0`.
pub fn has_virtual_servers() -> bool {
    let table = Ipvs::open().and_then(|mut ipvs| ipvs.read());
    table.is_ok_and(|observed| !observed.table.virtual_servers.is_empty())
}

fn at_ports(table: &Table, ports: &BTreeSet<(u8, u16)>) -> impl Iterator<Item = VirtualAddress> {
    let is_at = |at: &VirtualAddress| match at {
        VirtualAddress::Socket { protocol, address } => {
            ports.contains(&(*protocol, address.port()))
        }
        VirtualAddress::Mark { .. } => false,
    };
    table.virtual_servers.keys().copied().filter(is_at)
}

fn is_idle(observed: &Observed, at: &VirtualAddress) -> bool {
    observed.real_load.iter().filter(|((of, _), _)| of == at).all(|(_, load)| load.active == 0)
}

fn address(at: &VirtualAddress) -> Option<IpAddr> {
    match at {
        VirtualAddress::Socket { address, .. } => Some(address.ip()),
        VirtualAddress::Mark { .. } => None,
    }
}
