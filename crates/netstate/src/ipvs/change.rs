//! The difference between two tables, as steps that can be made one after the other.

use super::{RealServer, Settings, Table, VirtualAddress};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// One step. IPVS has no transactions: each is right by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a virtual server without real servers, or gives one that is there other settings.
    SetVirtual {
        virtual_address: VirtualAddress,
        settings: Settings,
    },
    /// With all its real servers.
    DeleteVirtual {
        virtual_address: VirtualAddress,
    },
    SetReal {
        virtual_address: VirtualAddress,
        address: SocketAddr,
        server: RealServer,
    },
    DeleteReal {
        virtual_address: VirtualAddress,
        address: SocketAddr,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::SetVirtual { virtual_address, settings } => {
                write!(f, "{virtual_address} {}", settings.scheduler)
            }
            Change::DeleteVirtual { virtual_address } => write!(f, "{virtual_address}"),
            Change::SetReal { virtual_address, address, server } => {
                write!(f, "{virtual_address} -> {address} weight {}", server.weight)
            }
            Change::DeleteReal { virtual_address, address } => {
                write!(f, "{virtual_address} -> {address}")
            }
        }
    }
}

/// What makes `wanted` out of `observed`.
///
/// New real servers come before old ones go, so that a virtual server never has fewer than in either table.
pub fn changes(observed: &Table, wanted: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    for virtual_address in observed.virtual_servers.keys() {
        if !wanted.virtual_servers.contains_key(virtual_address) {
            changes.push(Change::DeleteVirtual { virtual_address: *virtual_address });
        }
    }
    let nobody = BTreeMap::new();
    for (virtual_address, server) in &wanted.virtual_servers {
        let old = observed.virtual_servers.get(virtual_address);
        if old.map(|old| &old.settings) != Some(&server.settings) {
            let settings = server.settings.clone();
            changes.push(Change::SetVirtual { virtual_address: *virtual_address, settings });
        }
        let old = old.map_or(&nobody, |old| &old.real_servers);
        real_changes(*virtual_address, old, &server.real_servers, &mut changes);
    }
    changes
}

fn real_changes(
    virtual_address: VirtualAddress,
    old: &BTreeMap<SocketAddr, RealServer>,
    new: &BTreeMap<SocketAddr, RealServer>,
    changes: &mut Vec<Change>,
) {
    let different = new.iter().filter(|(address, server)| old.get(address) != Some(server));
    changes.extend(different.map(|(address, server)| Change::SetReal {
        virtual_address,
        address: *address,
        server: *server,
    }));
    let gone = old.keys().filter(|address| !new.contains_key(address));
    changes.extend(gone.map(|address| Change::DeleteReal { virtual_address, address: *address }));
}

impl Table {
    /// Does to the values what the kernel does to its table; a step about what is not there changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::SetVirtual { virtual_address, settings } => {
                let new = || super::VirtualServer {
                    settings: settings.clone(),
                    real_servers: BTreeMap::new(),
                };
                let server = self.virtual_servers.entry(*virtual_address).or_insert_with(new);
                server.settings = settings.clone();
            }
            Change::DeleteVirtual { virtual_address } => {
                self.virtual_servers.remove(virtual_address);
            }
            Change::SetReal { virtual_address, address, server } => {
                if let Some(found) = self.virtual_servers.get_mut(virtual_address) {
                    found.real_servers.insert(*address, *server);
                }
            }
            Change::DeleteReal { virtual_address, address } => {
                if let Some(found) = self.virtual_servers.get_mut(virtual_address) {
                    found.real_servers.remove(address);
                }
            }
        }
    }
}
