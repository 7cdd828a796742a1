//! Virtual servers, their addresses and the service table kept as the program wants them.

use super::change;
use super::lower::{self, Settings, Wanted, complete, complete_delta};
use super::settle::{Draining, settle};
use crate::nft;
use ipnet::IpNet;
use kernel::ipvs::Ipvs;
use kernel::netlink::{Changed, Devices, Socket};
use kernel::{route, sysctl};
use model::Family;
use netstate::ipvs::{Change as Step, Table, VirtualAddress, changes};
use netstate::nft::Key;
use netstate::{Address, Link, LinkKind};
use program::{Change, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The device that has the addresses of Services.
pub(super) const DEVICE: &str = "kube-ipvs0";

/// How often to look whether real servers that are drained have lost their connections.
pub(super) const SWEEP: Duration = Duration::from_secs(10);

/// How often to look for what strangers did to virtual servers.
const COMPARE: Duration = Duration::from_secs(60);

/// What IPVS needs of the kernel.
const SYSCTLS: [(&str, &str); 6] = [
    // Answers are translated and sources replaced by connection tracking.
    ("net/ipv4/vs/conntrack", "1"),
    // A port that is used again goes where it went, without the second that looking it up anew costs.
    ("net/ipv4/vs/conn_reuse_mode", "0"),
    // A connection whose real server has gone, or gets nothing new, does not keep its port from being used again.
    ("net/ipv4/vs/expire_nodest_conn", "1"),
    // A client does not stay with a real server that gets nothing new.
    ("net/ipv4/vs/expire_quiescent_template", "1"),
    // The addresses on `kube-ipvs0` are on every node: none may claim them on the wire.
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
];

/// Why Services are not served as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`kernel::Error::Missing`] where this kernel has no IPVS.
    #[error("reaching IPVS")]
    Open(#[source] kernel::Error),
    #[error("preparing the kernel for IPVS")]
    Prepare(#[source] kernel::Error),
    #[error("reading virtual servers")]
    Read(#[source] kernel::Error),
    #[error("changing the addresses of {DEVICE}")]
    Addresses(#[source] kernel::Error),
    #[error("changing virtual servers")]
    Servers(#[source] kernel::Error),
    #[error(transparent)]
    Rules(#[from] nft::Error),
}

/// What a change took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub rules: nft::Applied,
    /// Steps that virtual and real servers took.
    pub servers: usize,
    pub addresses: usize,
}

/// The door to the Services of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    rules: nft::Backend,
    ipvs: Ipvs,
    links: Socket,
    /// The index of `kube-ipvs0`, once it is there.
    device: Option<u32>,
    /// As the kernel has it since the last change.
    table: Table,
    owned: BTreeSet<IpAddr>,
    /// The virtual servers that are wanted.
    ours: BTreeSet<VirtualAddress>,
    draining: Draining,
    swept: Option<Instant>,
}

impl Backend {
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(Backend {
            settings,
            ipvs: Ipvs::open().map_err(Error::Open)?,
            rules: nft::Backend::open_with(lower::sets)?,
            links: Socket::route().map_err(Error::Open)?,
            device: None,
            table: Table::default(),
            owned: BTreeSet::new(),
            ours: BTreeSet::new(),
            draining: Draining::new(),
            swept: None,
        })
    }

    /// The sockets that changes of rules and of addresses go through, to tell them from other people's.
    pub fn sockets(&self) -> [&Socket; 2] {
        [self.rules.socket(), &self.links]
    }

    /// Whether somebody may have changed `kube-ipvs0` or its addresses.
    pub fn is_concerned(&self, changed: &Changed) -> bool {
        let is_among = |devices: &Devices| self.device.is_some_and(|it| devices.contains(it));
        is_among(&changed.links) || is_among(&changed.addresses)
    }

    /// The addresses on `kube-ipvs0`.
    pub fn owned(&self) -> &BTreeSet<IpAddr> {
        &self.owned
    }

    /// Reads what there is, compares, and changes what differs.
    ///
    /// A virtual server is there before rules lead to it, and rules before `kube-ipvs0` has the address: without
    /// them its packets would reach the node's own processes.
    ///
    /// Ours are the virtual servers with an address of `kube-ipvs0` and those that the service table leads to; all
    /// others stay.
    pub fn reconcile(&mut self, program: &Program, now: Instant) -> Result<Applied, Error> {
        for (path, value) in SYSCTLS {
            set(path, value).map_err(Error::Prepare)?;
        }
        let lowered = lower::lower(program, &self.settings);
        let led_to = led_to().map_err(Error::Read)?;
        self.owned = self.prepare_device()?;
        self.table = self.ipvs.read().map_err(Error::Read)?.table;
        let here = ours(&self.table, &led_to, &self.owned);
        let gone = here.filter(|at| !lowered.virtual_servers.contains_key(at)).collect();
        let old: Vec<_> = self.owned.difference(&lowered.owned).copied().collect();
        let new: Vec<_> = lowered.owned.difference(&self.owned).copied().collect();
        let mut applied = Applied { addresses: self.own(&old, false)?, ..Applied::default() };
        let which = lowered.virtual_servers.keys().copied().collect();
        applied.servers += self.settle(&lowered.virtual_servers, &which, now)?;
        let completed = |table: &mut _, family| complete(table, &lowered, family);
        applied.rules = self.rules.reconcile_with(&lowered.program, completed)?;
        applied.addresses += self.own(&new, true)?;
        applied.servers += self.settle(&BTreeMap::new(), &gone, now)?;
        Ok(applied)
    }

    /// Makes the changes of the program, which is as it is after them. After an error [`Backend::reconcile`] puts
    /// things right.
    pub fn change(
        &mut self,
        program: &Program,
        changes: &[Change],
        now: Instant,
    ) -> Result<Applied, Error> {
        let Some(lowered) = change::lower(program, &self.settings, &self.owned, changes) else {
            return self.reconcile(program, now);
        };
        let change::Lowered { changes, wanted, which, addresses } = lowered;
        let (new, old): (Vec<_>, Vec<_>) = addresses.keys().partition(|address| addresses[address]);
        let mut applied = Applied { addresses: self.own(&old, false)?, ..Applied::default() };
        let (stays, goes) = which.into_iter().partition(|at| wanted.contains_key(at));
        applied.servers += self.settle(&wanted, &stays, now)?;
        let completed = |delta: &mut _, family| complete_delta(delta, &changes, &addresses, family);
        applied.rules = self.rules.change_with(program, &changes, completed)?;
        applied.addresses += self.own(&new, true)?;
        applied.servers += self.settle(&wanted, &goes, now)?;
        Ok(applied)
    }

    /// When to call [`Backend::sweep`].
    pub fn due(&self) -> Option<Instant> {
        let first = self.draining.values().min().copied();
        let swept = self.swept?;
        Some(first.map_or(swept + COMPARE, |first| first.min(swept + SWEEP)))
    }

    /// Removes the drained real servers that have lost their connections, or had time enough, and mends what
    /// strangers did to virtual servers, of which the kernel tells nobody. Returns the number of steps it took.
    pub fn sweep(&mut self, now: Instant) -> Result<usize, Error> {
        self.swept = Some(now);
        let observed = self.ipvs.read().map_err(Error::Read)?;
        let connections = |key: &(VirtualAddress, SocketAddr)| {
            observed.real_load.get(key).map_or(0, |load| load.active + load.inactive)
        };
        let over =
            self.draining.extract_if(.., |key, deadline| now >= *deadline || connections(key) == 0);
        for ((virtual_address, address), _) in over {
            self.table.apply(&Step::DeleteReal { virtual_address, address });
        }
        let steps = changes(&self.of_ours(&observed.table), &self.of_ours(&self.table));
        self.ipvs.apply(&steps).map_err(first).map_err(Error::Servers)?;
        Ok(steps.len())
    }

    fn of_ours(&self, table: &Table) -> Table {
        let all = table.virtual_servers.iter().filter(|(at, _)| self.ours.contains(at));
        Table { virtual_servers: all.map(|(at, server)| (*at, server.clone())).collect() }
    }

    fn settle(
        &mut self,
        wanted: &BTreeMap<VirtualAddress, Wanted>,
        which: &BTreeSet<VirtualAddress>,
        now: Instant,
    ) -> Result<usize, Error> {
        self.ours.retain(|at| !which.contains(at));
        self.ours.extend(which.iter().filter(|at| wanted.contains_key(at)));
        self.swept = self.swept.or(Some(now));
        let steps = settle(&self.table, wanted, which, &mut self.draining, now);
        self.make(&steps)?;
        Ok(steps.len())
    }

    fn make(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.ipvs.apply(steps).map_err(first).map_err(Error::Servers)?;
        steps.iter().for_each(|step| self.table.apply(step));
        Ok(())
    }

    /// The device is there and up; its addresses.
    fn prepare_device(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let mut found = self.find_device()?;
        if found.is_none() {
            let kind = LinkKind::Other("dummy".to_owned());
            let link = Link { name: DEVICE.to_owned(), kind, mac: None, mtu: None, up: true };
            let added = [route::Change::AddLink(link)];
            route::apply(&mut self.links, &added).map_err(first).map_err(Error::Prepare)?;
            found = self.find_device()?;
        }
        self.device = found;
        owned_addresses(&mut self.links).map_err(Error::Prepare)
    }

    fn find_device(&mut self) -> Result<Option<u32>, Error> {
        let found = route::link(&mut self.links, DEVICE).map_err(Error::Prepare)?;
        Ok(found.map(|found| found.index))
    }

    fn own(&mut self, addresses: &[IpAddr], owned: bool) -> Result<usize, Error> {
        let change = |address: &IpAddr| {
            let address = Address { device: DEVICE.to_owned(), net: IpNet::from(*address) };
            match owned {
                true => route::Change::AddAddress(address),
                false => route::Change::DeleteAddress(address),
            }
        };
        let changes: Vec<_> = addresses.iter().map(change).collect();
        route::apply(&mut self.links, &changes).map_err(first).map_err(Error::Addresses)?;
        match owned {
            true => self.owned.extend(addresses),
            false => self.owned.retain(|address| !addresses.contains(address)),
        }
        Ok(addresses.len())
    }
}

/// The addresses of `kube-ipvs0`.
pub(super) fn owned_addresses(links: &mut Socket) -> kernel::Result<BTreeSet<IpAddr>> {
    let all = route::addresses(links)?.into_iter().filter(|address| address.device == DEVICE);
    Ok(all.map(|address| address.net.addr()).filter(|address| !is_link_local(address)).collect())
}

/// The virtual servers that are ours.
pub(super) fn ours<'a>(
    table: &'a Table,
    led_to: &'a BTreeSet<Key>,
    owned: &'a BTreeSet<IpAddr>,
) -> impl Iterator<Item = VirtualAddress> + 'a {
    let ours = |at: &VirtualAddress| match at {
        VirtualAddress::Socket { address, .. } => {
            is_led_to(at, led_to) || owned.contains(&address.ip())
        }
        VirtualAddress::Mark { .. } => false,
    };
    table.virtual_servers.keys().copied().filter(ours)
}

/// The keys of the virtual servers that the service table leads to.
pub(super) fn led_to() -> kernel::Result<BTreeSet<Key>> {
    let mut keys = BTreeSet::new();
    for family in Family::ALL {
        let observed = nft::read::observe(family)?;
        let set = observed.and_then(|mut it| it.table.sets.remove(lower::set::VIRTUAL_SERVERS));
        keys.extend(set.into_iter().flat_map(|set| set.elements.into_keys()));
    }
    Ok(keys)
}

pub(super) fn is_led_to(at: &VirtualAddress, led_to: &BTreeSet<Key>) -> bool {
    match at {
        VirtualAddress::Socket { protocol, address } => {
            led_to.contains(&socket_key(*protocol, *address))
        }
        VirtualAddress::Mark { .. } => false,
    }
}

fn socket_key(protocol: u8, address: SocketAddr) -> Key {
    nft::layout::address_key(address.ip()).part(&[protocol]).part(&address.port().to_be_bytes())
}

/// Writes what is not so yet: a parameter that stands right may be one that this process must not write.
fn set(path: &str, value: &str) -> kernel::Result<()> {
    if sysctl::read(path)? == value { Ok(()) } else { sysctl::write(path, value) }
}

/// What the kernel gives a device by itself.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

pub(super) fn first(errors: Vec<kernel::Error>) -> kernel::Error {
    let unsaid = kernel::Error::Malformed { operation: "apply", problem: "an error without words" };
    errors.into_iter().next().unwrap_or(unsaid)
}
