//! What must change to get from one state of the tunnel to another. Pure.

use kernel::route::Change;
use netstate::{Link, LinkKind, NetState};
use std::collections::BTreeSet;

/// The changes in an order that never lets a packet go astray: ways come last and go first.
pub fn changes(observed: &NetState, wanted: &NetState) -> Vec<Change> {
    let (before, after) = (observed, wanted);
    let mut changes = Vec::new();
    gone(&mut changes, &before.routes, &after.routes, Change::DeleteRoute);
    gone(&mut changes, &before.neighbours, &after.neighbours, Change::DeleteNeighbour);
    gone(&mut changes, &before.fdb, &after.fdb, Change::DeleteFdb);
    gone(&mut changes, &before.addresses, &after.addresses, Change::DeleteAddress);
    for name in before.links.keys().filter(|name| !after.links.contains_key(*name)) {
        changes.push(Change::DeleteLink(name.clone()));
    }
    let mut renewed = false;
    for link in after.links.values() {
        renewed |= link_changes(&mut changes, before.links.get(&link.name), link);
    }
    // With a device made anew everything that hung on the old one is gone.
    let nothing = NetState::default();
    let before = if renewed { &nothing } else { before };
    gone(&mut changes, &after.addresses, &before.addresses, Change::AddAddress);
    gone(&mut changes, &after.fdb, &before.fdb, Change::AddFdb);
    gone(&mut changes, &after.neighbours, &before.neighbours, Change::AddNeighbour);
    gone(&mut changes, &after.unreachable, &before.unreachable, Change::AddUnreachable);
    gone(&mut changes, &after.routes, &before.routes, Change::AddRoute);
    gone(&mut changes, &observed.unreachable, &after.unreachable, Change::DeleteUnreachable);
    changes
}

/// A change for each entry of `these` that `those` lacks.
fn gone<T: Ord + Clone>(
    changes: &mut Vec<Change>,
    these: &BTreeSet<T>,
    those: &BTreeSet<T>,
    change: impl Fn(T) -> Change,
) {
    changes.extend(these.difference(those).cloned().map(change));
}

/// Whether the link had to be made anew.
fn link_changes(changes: &mut Vec<Change>, observed: Option<&Link>, wanted: &Link) -> bool {
    let device = || wanted.name.clone();
    let Some(observed) = observed.filter(|observed| observed.kind == wanted.kind) else {
        if observed.is_some() {
            changes.push(Change::DeleteLink(device()));
        }
        changes.push(Change::AddLink(wanted.clone()));
        return true;
    };
    if let Some(mac) = wanted.mac.filter(|mac| observed.mac != Some(*mac)) {
        changes.push(Change::SetMac { device: device(), mac });
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| observed.mtu != Some(*mtu)) {
        changes.push(Change::SetMtu { device: device(), mtu });
    }
    if wanted.up && !observed.up {
        changes.push(Change::SetUp { device: device(), up: true });
        // The kernel forgot the routes when the device went down.
        return matches!(wanted.kind, LinkKind::Vxlan(_));
    }
    false
}
