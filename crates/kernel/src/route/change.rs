//! Changes of links and what hangs on them, many in one send.

use super::abi::{IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD};
use super::entry::{
    Verb, write_address, write_fdb, write_local, write_neighbour, write_route, write_unreachable,
};
use super::link::{NewLink, write_header, write_named, write_new, write_up};
use super::names::Names;
use super::read::read_names;
use crate::netlink::{Batch, Refusal, Socket};
use crate::{Error, Result};
use netstate::{Address, FdbEntry, Link, Local, Neighbour, Route, Unreachable};
use nix::errno::Errno;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use wire::Mac;

/// Messages in one send: their refusals fit into the smallest receive buffer the kernel gives.
const CHUNK: usize = 256;

/// One thing to change. Adding replaces what is there; deleting what is not there is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a link in the socket's namespace; unlike the other additions it fails where the name is taken.
    AddLink(Link),
    DeleteLink(String),
    SetUp {
        device: String,
        up: bool,
    },
    SetMac {
        device: String,
        mac: Mac,
    },
    SetMtu {
        device: String,
        mtu: u32,
    },
    /// Joins a bridge, or leaves it.
    SetMaster {
        device: String,
        master: Option<String>,
    },
    Rename {
        device: String,
        name: String,
    },
    AddAddress(Address),
    DeleteAddress(Address),
    /// Replaces the route to the same destination whoever made it.
    AddRoute(Route),
    /// Deletes only a route that is the same in gateway, device and protocol.
    DeleteRoute(Route),
    AddUnreachable(Unreachable),
    DeleteUnreachable(Unreachable),
    /// Leaves an address alone that is local already.
    AddLocal(Local),
    /// Deletes only what has this protocol.
    DeleteLocal(Local),
    AddNeighbour(Neighbour),
    DeleteNeighbour(Neighbour),
    AddFdb(FdbEntry),
    DeleteFdb(FdbEntry),
}

impl Change {
    fn operation(&self) -> &'static str {
        match self {
            Change::AddLink(_) => "add link",
            Change::DeleteLink(_) => "delete link",
            Change::SetUp { up: true, .. } => "set up",
            Change::SetUp { up: false, .. } => "set down",
            Change::SetMac { .. } => "set address of",
            Change::SetMtu { .. } => "set MTU of",
            Change::SetMaster { .. } => "set master of",
            Change::Rename { .. } => "rename",
            Change::AddAddress(_) => "add address",
            Change::DeleteAddress(_) => "delete address",
            Change::AddRoute(_) => "add route",
            Change::DeleteRoute(_) => "delete route",
            Change::AddUnreachable(_) => "add unreachable route",
            Change::DeleteUnreachable(_) => "delete unreachable route",
            Change::AddLocal(_) => "add local address",
            Change::DeleteLocal(_) => "delete local address",
            Change::AddNeighbour(_) => "add neighbour",
            Change::DeleteNeighbour(_) => "delete neighbour",
            Change::AddFdb(_) => "add forwarding entry",
            Change::DeleteFdb(_) => "delete forwarding entry",
        }
    }

    /// Whether the kernel's "not there", or "there already", means that the wish is already true.
    fn holds_already(&self, errno: Errno) -> bool {
        let absent =
            matches!(errno, Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL);
        let there = errno == Errno::EEXIST && matches!(self, Change::AddLocal(_));
        absent && self.deletes() || there
    }

    fn deletes(&self) -> bool {
        matches!(
            self,
            Change::DeleteLink(_)
                | Change::DeleteAddress(_)
                | Change::DeleteRoute(_)
                | Change::DeleteUnreachable(_)
                | Change::DeleteLocal(_)
                | Change::DeleteNeighbour(_)
                | Change::DeleteFdb(_)
        )
    }

    /// Writes the request, or names the device whose index is not known.
    fn write<'a>(&'a self, batch: &mut Batch, names: &Names) -> Result<(), &'a str> {
        let index_of = |device: &'a str| names.index(device).ok_or(device);
        let set = libc::RTM_SETLINK;
        match self {
            Change::AddLink(link) => return write_new(batch, &NewLink::new(link), names),
            Change::DeleteLink(name) => {
                write_named(batch, libc::RTM_DELLINK, name, (0, 0), |_nothing| {})
            }
            Change::SetUp { device, up } => write_up(batch, device, *up),
            Change::SetMac { device, mac } => {
                write_named(batch, set, device, (0, 0), |body| body.bytes(IFLA_ADDRESS, &mac.0));
            }
            Change::SetMtu { device, mtu } => {
                write_named(batch, set, device, (0, 0), |body| body.u32(IFLA_MTU, *mtu));
            }
            Change::SetMaster { device, master } => {
                let master = master.as_deref().map_or(Ok(0), index_of)?;
                write_named(batch, set, device, (0, 0), |body| body.u32(IFLA_MASTER, master));
            }
            Change::Rename { device, name } => {
                let index = index_of(device)?;
                batch.request(set, 0, |body| {
                    write_header(body, index, 0, 0);
                    body.text(IFLA_IFNAME, name);
                });
            }
            Change::AddAddress(address) => {
                write_address(batch, Verb::Add, address, index_of(&address.device)?)
            }
            Change::DeleteAddress(address) => {
                write_address(batch, Verb::Delete, address, index_of(&address.device)?);
            }
            Change::AddRoute(route) => {
                write_route(batch, Verb::Add, route, index_of(&route.device)?)
            }
            Change::DeleteRoute(route) => {
                write_route(batch, Verb::Delete, route, index_of(&route.device)?)
            }
            Change::AddUnreachable(route) => write_unreachable(batch, Verb::Add, route),
            Change::DeleteUnreachable(route) => write_unreachable(batch, Verb::Delete, route),
            Change::AddLocal(local) => {
                write_local(batch, Verb::Add, local, index_of(&local.device)?)
            }
            Change::DeleteLocal(local) => {
                write_local(batch, Verb::Delete, local, index_of(&local.device)?)
            }
            Change::AddNeighbour(entry) => {
                write_neighbour(batch, Verb::Add, entry, index_of(&entry.device)?)
            }
            Change::DeleteNeighbour(entry) => {
                write_neighbour(batch, Verb::Delete, entry, index_of(&entry.device)?);
            }
            Change::AddFdb(entry) => write_fdb(batch, Verb::Add, entry, index_of(&entry.device)?),
            Change::DeleteFdb(entry) => {
                write_fdb(batch, Verb::Delete, entry, index_of(&entry.device)?)
            }
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddLink(link) => f.write_str(&link.name),
            Change::DeleteLink(name) => f.write_str(name),
            Change::SetUp { device, .. } => f.write_str(device),
            Change::SetMac { device, mac } => write!(f, "{device} to {mac}"),
            Change::SetMtu { device, mtu } => write!(f, "{device} to {mtu}"),
            Change::SetMaster { device, master } => {
                write!(f, "{device} to {}", master.as_deref().unwrap_or("none"))
            }
            Change::Rename { device, name } => write!(f, "{device} to {name}"),
            Change::AddAddress(address) | Change::DeleteAddress(address) => {
                write!(f, "{} dev {}", address.net, address.device)
            }
            Change::AddRoute(route) | Change::DeleteRoute(route) => {
                write!(f, "{}", route.destination)?;
                if let Some(via) = route.via {
                    write!(f, " via {via}")?;
                }
                write!(f, " dev {}", route.device)
            }
            Change::AddUnreachable(route) | Change::DeleteUnreachable(route) => {
                write!(f, "unreachable {}", route.destination)
            }
            Change::AddLocal(local) | Change::DeleteLocal(local) => {
                write!(f, "{} dev {}", local.address, local.device)
            }
            Change::AddNeighbour(entry) | Change::DeleteNeighbour(entry) => {
                write!(f, "{} lladdr {} dev {}", entry.address, entry.mac, entry.device)
            }
            Change::AddFdb(entry) | Change::DeleteFdb(entry) => {
                write!(f, "{} dst {} dev {}", entry.mac, entry.remote, entry.device)
            }
        }
    }
}

/// Makes all changes in order, as many in one send as go; returns an error for each that the kernel refused.
///
/// Changes are independent: one that is refused does not keep the later ones from being tried.
pub fn apply(socket: &mut Socket, changes: &[Change]) -> Result<(), Vec<Error>> {
    let mut errors = Vec::new();
    let mut run = Run {
        socket,
        names: Names::default(),
        fresh: false,
        batch: Batch::default(),
        pending: Vec::new(),
    };
    for change in changes {
        if let Err(error) = run.add(change, &mut errors) {
            errors.push(error);
        }
    }
    if let Err(error) = run.flush(&mut errors) {
        errors.push(error);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Changes on their way out.
struct Run<'a> {
    socket: &'a mut Socket,
    names: Names,
    /// Nothing was sent since the names were read.
    fresh: bool,
    batch: Batch,
    pending: Vec<&'a Change>,
}

impl<'a> Run<'a> {
    fn add(&mut self, change: &'a Change, errors: &mut Vec<Error>) -> Result<()> {
        if self.pending.len() >= CHUNK {
            self.flush(errors)?;
        }
        let mut written = change.write(&mut self.batch, &self.names);
        if written.is_err() && !(self.fresh && self.pending.is_empty()) {
            // The device may be one that a change before this one makes.
            self.flush(errors)?;
            self.names = read_names(self.socket)?;
            self.fresh = true;
            written = change.write(&mut self.batch, &self.names);
        }
        match written {
            Ok(()) => self.pending.push(change),
            Err(_no_device) if change.deletes() => {}
            Err(device) => return Err(no_device(change.operation(), change, device)),
        }
        Ok(())
    }

    fn flush(&mut self, errors: &mut Vec<Error>) -> Result<()> {
        let outcome = self.socket.execute("change links", &mut self.batch);
        let pending = std::mem::take(&mut self.pending);
        self.fresh &= pending.is_empty();
        self.batch.clear();
        errors.extend(outcome?.into_iter().filter_map(|refusal: Refusal| {
            let change = pending.get(refusal.index)?;
            let holds = change.holds_already(refusal.errno);
            (!holds).then(|| refusal.into_error(change.operation(), change.to_string()))
        }));
        Ok(())
    }
}

/// Makes one link, with its master, namespace and peer; fails where the name is taken.
pub fn add_link(socket: &mut Socket, new: &NewLink<'_>) -> Result<()> {
    let operation = "add link";
    let mut batch = Batch::default();
    let names = read_names(socket)?;
    write_new(&mut batch, new, &names)
        .map_err(|device| no_device(operation, &new.link.name, device))?;
    match socket.execute(operation, &mut batch)?.into_iter().next() {
        Some(refusal) => Err(refusal.into_error(operation, new.link.name.clone())),
        None => Ok(()),
    }
}

/// Moves a link into the network namespace behind `namespace`, under a new name where one is given.
///
/// It arrives down and without addresses, as the kernel has it.
pub fn move_link(
    socket: &mut Socket,
    device: &str,
    namespace: BorrowedFd<'_>,
    name: Option<&str>,
) -> Result<()> {
    let operation = "move link";
    let index =
        read_names(socket)?.index(device).ok_or_else(|| no_device(operation, device, device))?;
    let mut batch = Batch::default();
    batch.request(libc::RTM_SETLINK, 0, |body| {
        write_header(body, index, 0, 0);
        body.u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        if let Some(name) = name {
            body.text(IFLA_IFNAME, name);
        }
    });
    match socket.execute(operation, &mut batch)?.into_iter().next() {
        Some(refusal) => Err(refusal.into_error(operation, device.to_owned())),
        None => Ok(()),
    }
}

fn no_device(operation: &'static str, object: impl fmt::Display, device: &str) -> Error {
    Error::Refused {
        operation,
        object: format!("{object}: no device {device}"),
        errno: Errno::ENODEV,
        detail: None,
    }
}
