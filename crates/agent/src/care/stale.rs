//! Which connections are stale, and which have lost their other end. Pure.

use crate::place::{Place, reply_source};
use kernel::conntrack::{Connection, TcpState};
use model::Protocol;
use program::{Change, Frontend, Program, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The front ends of a node with the endpoints that there are.
#[derive(Debug, Default)]
pub(super) struct Frontends {
    standing: BTreeMap<Frontend, Arc<[Standing]>>,
    /// Front ends that went away: what they had translated is stale.
    removed: BTreeSet<Frontend>,
    place: Place,
    pods: BTreeSet<IpAddr>,
}

/// Endpoints that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    /// Those of these front ends.
    Of(BTreeSet<(Frontend, SocketAddr)>),
    /// All that are no endpoints.
    Any,
}

impl Default for Gone {
    fn default() -> Self {
        Gone::Of(BTreeSet::new())
    }
}

impl Gone {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Gone::Of(endpoints) if endpoints.is_empty())
    }

    /// A front end that lost endpoints. One that is gone itself says nothing about its endpoints.
    pub(super) fn note(&mut self, change: &Change) {
        let Gone::Of(endpoints) = self else { return };
        let Change::Frontend { frontend, before: Some(before), after: Some(after) } = change else {
            return;
        };
        let left = |address: &SocketAddr| after.standing.iter().any(|it| it.address() == *address);
        let lost = before.standing.iter().map(Standing::address).filter(|address| !left(address));
        if frontend.protocol == Protocol::Tcp {
            endpoints.extend(lost.map(|address| (*frontend, address)));
        }
    }
}

impl Frontends {
    pub(super) fn of(program: Program) -> Self {
        let standing = program.services.iter();
        let standing = standing.map(|(frontend, it)| (*frontend, it.standing.clone())).collect();
        let pods = program.pods.iter().map(|(address, _)| *address).collect();
        let place = Place::of(&program);
        Frontends { standing, removed: BTreeSet::new(), place, pods }
    }

    pub(super) fn all(&self) -> BTreeSet<Frontend> {
        self.standing.keys().copied().collect()
    }

    /// Takes a change in and says which front ends it touches.
    pub(super) fn change(&mut self, change: Change) -> Vec<Frontend> {
        match change {
            Change::Frontend { frontend, after: Some(after), .. } => {
                self.removed.remove(&frontend);
                self.standing.insert(frontend, after.standing);
                vec![frontend]
            }
            Change::Frontend { frontend, after: None, .. } => {
                self.standing.remove(&frontend);
                self.removed.insert(frontend);
                vec![frontend]
            }
            Change::Addresses { .. } => {
                self.place.change(&change);
                Vec::new()
            }
            Change::Pod { address, after, .. } => {
                match after {
                    Some(_) => self.pods.insert(address),
                    None => self.pods.remove(&address),
                };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// What removed front ends left behind has been dealt with.
    pub(super) fn settle(&mut self) {
        self.removed.clear();
    }

    pub(super) fn needs_addresses(&self) -> bool {
        self.place.needs_addresses()
    }

    /// All of the node's addresses, as the kernel has them.
    pub(super) fn learn(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        self.place.learn(addresses);
    }

    /// Addresses at which somebody still is, for whatever Service.
    pub(super) fn alive(&self) -> BTreeSet<IpAddr> {
        let standing = self.standing.values().flat_map(|standing| standing.iter());
        standing.map(|it| it.ip).chain(self.pods.iter().copied()).collect()
    }

    /// Whether a connection goes through one of the touched front ends and is answered by nobody who serves there.
    pub(super) fn is_stale(&self, connection: &Connection, touched: &BTreeSet<Frontend>) -> bool {
        let Some(frontend) = self.frontend_of(connection) else { return false };
        if !touched.contains(&frontend) {
            return false;
        }
        let Some(answers) = reply_source(connection) else { return false };
        match self.standing.get(&frontend) {
            Some(standing) => !standing.iter().any(|it| it.serving && it.address() == answers),
            // What nobody translated is nobody's but the address's owner's.
            None => connection.destination_translated(),
        }
    }

    /// Whether a TCP connection goes through a front end to an endpoint that is gone from it.
    pub(super) fn is_to_gone(&self, connection: &Connection, gone: &Gone) -> bool {
        let is_open = matches!(
            connection.tcp_state,
            Some(TcpState::Established | TcpState::SynSent | TcpState::SynReceived)
        );
        if !is_open || !connection.destination_translated() {
            return false;
        }
        let Some((frontend, endpoint)) = self.frontend_of(connection).zip(reply_source(connection))
        else {
            return false;
        };
        let is_named = match gone {
            Gone::Of(endpoints) => endpoints.contains(&(frontend, endpoint)),
            Gone::Any => true,
        };
        let stands =
            |standing: &Arc<[Standing]>| standing.iter().any(|it| it.address() == endpoint);
        is_named && !self.standing.get(&frontend).is_some_and(stands)
    }

    /// The front end that a connection is addressed to, be it there or just removed.
    fn frontend_of(&self, connection: &Connection) -> Option<Frontend> {
        self.place.frontend(&connection.original, |frontend| {
            self.standing.contains_key(frontend) || self.removed.contains(frontend)
        })
    }
}

#[cfg(test)]
mod tests;
