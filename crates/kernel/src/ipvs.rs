//! IPVS over generic netlink: virtual servers, real servers and their counters.
//!
//! Everything happens in the network namespace in which the [`Ipvs`] was opened.
//! Reading: [`Ipvs::read`]. Changing: [`Ipvs::apply`]. Where the kernel has none: [`Error::Missing`](crate::Error::Missing).

mod abi;
mod entry;
#[cfg(test)]
mod tests;

use crate::netlink::{Attributes, Batch, Refusal, Socket, flags};
use crate::{Error, Result};
use abi::*;
use entry::{Found, read_real, read_virtual, write_change, write_identity};
use netstate::ipvs::{Change, Table, VirtualAddress};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The door to the IPVS of one network namespace.
#[derive(Debug)]
pub struct Ipvs {
    socket: Socket,
    family: u16,
}

/// A table with what the kernel counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub table: Table,
    pub virtual_traffic: BTreeMap<VirtualAddress, Traffic>,
    pub real_load: BTreeMap<(VirtualAddress, SocketAddr), Load>,
}

/// Counted since the server was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    pub octets_in: u64,
    pub octets_out: u64,
}

/// What a real server carries at this moment, and what it carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open.
    pub active: u32,
    /// Connections that are not (TCP after its end, all of UDP).
    pub inactive: u32,
    /// Clients that come back to it.
    pub persistent: u32,
    pub traffic: Traffic,
}

/// What the kernel says of its IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Major, minor, patch.
    pub version: [u8; 3],
    /// Buckets of the connection table.
    pub connection_buckets: u32,
}

impl Ipvs {
    /// [`Error::Missing`] where this kernel has no IPVS and no module that brings it.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::generic()?;
        let family = resolve(&mut socket)?;
        Ok(Ipvs { socket, family })
    }

    pub fn info(&mut self) -> Result<Info> {
        let operation = "read IPVS";
        let mut batch = Batch::default();
        batch.request(self.family, 0, |body| body.fixed(&header(IPVS_CMD_GET_INFO)));
        let info = self.socket.ask(operation, "", &mut batch, |info, message| {
            *info = message.split::<GENERIC>().and_then(|(_, attributes)| read_info(&attributes));
            Ok(())
        })?;
        info.ok_or(Error::Malformed { operation, problem: "no version" })
    }

    /// All virtual servers and who is behind them.
    ///
    /// Not at one moment: a virtual server that goes while the table is read has nobody behind it.
    pub fn read(&mut self) -> Result<Observed> {
        let mut batch = Batch::default();
        let all = flags(libc::NLM_F_DUMP);
        batch.request(self.family, all, |body| body.fixed(&header(IPVS_CMD_GET_SERVICE)));
        let operation = "read virtual servers";
        let found =
            self.socket.dump(operation, "", &mut batch, |found: &mut Vec<_>, message| {
                found.extend(read_virtual(message));
                Ok(())
            })?;
        let mut observed = Observed::default();
        for Found { virtual_address, mut server, traffic } in found {
            for (address, real, load) in self.real_servers(&virtual_address)? {
                server.real_servers.insert(address, real);
                observed.real_load.insert((virtual_address, address), load);
            }
            observed.virtual_traffic.insert(virtual_address, traffic);
            observed.table.virtual_servers.insert(virtual_address, server);
        }
        Ok(observed)
    }

    fn real_servers(&mut self, of: &VirtualAddress) -> Result<Vec<entry::Real>> {
        let mut batch = Batch::default();
        batch.request(self.family, flags(libc::NLM_F_DUMP), |body| {
            body.fixed(&header(IPVS_CMD_GET_DEST));
            body.nest(IPVS_CMD_ATTR_SERVICE, |body| write_identity(body, of));
        });
        let operation = "read real servers";
        self.socket.dump(operation, &of.to_string(), &mut batch, |found: &mut Vec<_>, message| {
            found.extend(read_real(message, of.family()));
            Ok(())
        })
    }

    /// What one real server carries; `None` where it is not there.
    pub fn load(&mut self, of: &VirtualAddress, real: SocketAddr) -> Result<Option<Load>> {
        match self.real_servers(of) {
            Ok(found) => {
                let mut found = found.into_iter();
                Ok(found.find(|(address, ..)| *address == real).map(|(_, _, load)| load))
            }
            Err(error) if error.errno().is_some_and(is_absence) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes all changes in order; returns an error for each that the kernel refused.
    ///
    /// Changes are independent: one that is refused does not keep the later ones from being tried. Setting makes
    /// or replaces; deleting what is not there is no error.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), Vec<Error>> {
        let mut errors = Vec::new();
        for part in changes.chunks(CHUNK) {
            if let Err(error) = self.apply_part(part, &mut errors) {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The kernel has commands that make and commands that edit: each is tried with what it needs more often
    /// first, and with the other one where the kernel says so.
    fn apply_part(&mut self, changes: &[Change], errors: &mut Vec<Error>) -> Result<()> {
        let new = self.try_all(changes.iter(), Verb::New)?;
        let there = |refusal: &Refusal| refusal.errno == Errno::EEXIST;
        let again: Vec<_> = new
            .iter()
            .filter(|refusal| there(refusal))
            .filter_map(|at| changes.get(at.index))
            .collect();
        let edited = self.try_all(again.iter().copied(), Verb::Edit)?;
        let mut note = |refusal: Refusal, change: Option<&Change>| {
            let Some(change) = change else { return };
            if !(deletes(change) && is_absence(refusal.errno)) {
                errors.push(refusal.into_error(operation(change), change.to_string()));
            }
        };
        for refusal in new.into_iter().filter(|refusal| !there(refusal)) {
            let change = changes.get(refusal.index);
            note(refusal, change);
        }
        for refusal in edited {
            let change = again.get(refusal.index).copied();
            note(refusal, change);
        }
        Ok(())
    }

    fn try_all<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        verb: Verb,
    ) -> Result<Vec<Refusal>> {
        let mut batch = Batch::default();
        for change in changes {
            write_change(&mut batch, self.family, verb, change);
        }
        self.socket.execute("change virtual servers", &mut batch)
    }

    /// Deletes all virtual servers of the namespace, whoever made them.
    pub fn flush(&mut self) -> Result<()> {
        let mut batch = Batch::default();
        batch.request(self.family, 0, |body| body.fixed(&header(IPVS_CMD_FLUSH)));
        self.socket.ask("flush", "IPVS", &mut batch, |_: &mut (), _| Ok(()))
    }
}

/// Messages in one send: their refusals fit into the smallest receive buffer the kernel gives.
const CHUNK: usize = 256;

/// Whether a server is made or edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    New,
    Edit,
}

fn operation(change: &Change) -> &'static str {
    match change {
        Change::SetVirtual { .. } => "set virtual server",
        Change::DeleteVirtual { .. } => "delete virtual server",
        Change::SetReal { .. } => "set real server",
        Change::DeleteReal { .. } => "delete real server",
    }
}

fn deletes(change: &Change) -> bool {
    matches!(change, Change::DeleteVirtual { .. } | Change::DeleteReal { .. })
}

/// `ESRCH`: no such virtual server; `ENOENT`: no such real server.
fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::ESRCH | Errno::ENOENT)
}

/// The number that generic netlink gave IPVS; asking loads the module where there is one.
fn resolve(socket: &mut Socket) -> Result<u16> {
    let mut batch = Batch::default();
    batch.request(GENL_ID_CTRL, 0, |body| {
        body.fixed(&header(CTRL_CMD_GETFAMILY));
        body.text(CTRL_ATTR_FAMILY_NAME, "IPVS");
    });
    let operation = "find IPVS";
    let family = socket.ask(operation, "", &mut batch, |family, message| {
        *family = message
            .split::<GENERIC>()
            .and_then(|(_, attributes)| attributes.find(CTRL_ATTR_FAMILY_ID)?.u16());
        Ok(())
    });
    match family {
        Ok(Some(family)) => Ok(family),
        Ok(None) => Err(Error::Malformed { operation, problem: "no family number" }),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {
            Err(Error::Missing { feature: "IPVS", module: "ip_vs" })
        }
        Err(error) => Err(error),
    }
}

fn read_info(attributes: &Attributes<'_>) -> Option<Info> {
    let [_, major, minor, patch] = attributes.find(IPVS_INFO_ATTR_VERSION)?.u32()?.to_be_bytes();
    let connection_buckets = attributes.find(IPVS_INFO_ATTR_CONN_TAB_SIZE)?.u32()?;
    Some(Info { version: [major, minor, patch], connection_buckets })
}
