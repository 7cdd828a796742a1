//! Changes of a program, to changes of what it becomes. Pure.

use super::lower::{Piece, Settings, Wanted, node_port_addresses, piece};
use model::Family;
use netstate::ipvs::VirtualAddress;
use program::{Change, Frontend, Program, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lowered {
    /// For the service table.
    pub changes: Vec<Change>,
    pub wanted: BTreeMap<VirtualAddress, Wanted>,
    /// The virtual servers that something changes for; those that are not wanted go.
    pub which: BTreeSet<VirtualAddress>,
    /// Those that `kube-ipvs0` gets (true) and loses.
    pub addresses: BTreeMap<IpAddr, bool>,
}

/// `program` is as it is after the changes, `owned` are the addresses of `kube-ipvs0` before them.
///
/// `None` where more may change than one can see from here, and all is to be compared.
pub fn lower(
    program: &Program,
    settings: &Settings,
    owned: &BTreeSet<IpAddr>,
    changes: &[Change],
) -> Option<Lowered> {
    let mut lowered = Lowered::default();
    let mut touched = BTreeSet::new();
    for change in changes {
        if concerns_node(program, change) {
            return None;
        }
        let Change::Frontend { frontend, before, after } = change else {
            lowered.changes.push(change.clone());
            continue;
        };
        let piece = |binding| piece(program, settings, frontend, binding);
        let (before, after) = (before.as_ref().map(piece), after.as_ref().map(piece));
        lowered.replace(before.unwrap_or_default(), after.unwrap_or_default());
        if let Scope::Address(address) = frontend.scope {
            touched.insert(address);
        }
    }
    for address in touched {
        let mut frontends = program.frontends_at(address);
        let owns = frontends
            .any(|(frontend, binding)| piece(program, settings, frontend, binding).owned.is_some());
        if owns != owned.contains(&address) {
            lowered.addresses.insert(address, owns);
        }
    }
    Some(lowered)
}

impl Lowered {
    fn replace(&mut self, before: Piece, mut after: Piece) {
        for at in before.virtual_servers.keys() {
            self.wanted.remove(at);
        }
        let servers = before.virtual_servers.keys().chain(after.virtual_servers.keys());
        self.which.extend(servers.copied());
        self.wanted.append(&mut after.virtual_servers);
        for (frontend, before) in before.frontends {
            let after = after.frontends.remove(&frontend);
            if after.as_ref() != Some(&before) {
                self.changes.push(Change::Frontend { frontend, before: Some(before), after });
            }
        }
        for (frontend, after) in after.frontends {
            self.changes.push(Change::Frontend { frontend, before: None, after: Some(after) });
        }
    }
}

/// Whether more changes by it than a front end.
fn concerns_node(program: &Program, change: &Change) -> bool {
    match change {
        Change::Addresses { .. } | Change::VirtualIp { .. } | Change::Network { .. } => true,
        // It may hide a node port, or give it back.
        Change::Frontend { frontend: Frontend { scope: Scope::Address(address), .. }, .. } => {
            node_port_addresses(program, Family::of(*address)).contains(address)
        }
        _ => false,
    }
}
