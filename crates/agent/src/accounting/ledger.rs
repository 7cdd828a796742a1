//! What connections to Services carried, summed up by front end and by endpoint. Pure.
//!
//! ```text
//!  connections that ended (told by the kernel) ──► ended ─┐
//!                                                         ├─► told = ended + live, which never goes down
//!  connections that there are (a census)  ───────► live ──┘
//! ```
//!
//! The number of sums is bounded by the program's front ends and endpoints, not by connections.

use crate::place::{Place, reply_source};
use kernel::conntrack::{Connection, TcpState};
use program::{Change, Frontend, Program, ServicePortName, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Octets are those of whole packets with their IP headers, as connection tracking counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) connections: u64,
    /// From the client.
    pub(crate) request_octets: u64,
    pub(crate) reply_octets: u64,
}

impl Sum {
    fn of(connection: &Connection) -> Self {
        let octets = connection.counts.map(|it| (it.original.octets, it.reply.octets));
        let (request_octets, reply_octets) = octets.unwrap_or_default();
        Sum { connections: 1, request_octets, reply_octets }
    }

    fn with(self, other: Sum, change: fn(u64, u64) -> u64) -> Sum {
        Sum {
            connections: change(self.connections, other.connections),
            request_octets: change(self.request_octets, other.request_octets),
            reply_octets: change(self.reply_octets, other.reply_octets),
        }
    }

    fn add(&mut self, other: Sum) {
        *self = self.with(other, u64::saturating_add);
    }
}

/// What went through one front end or to one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    ended: Sum,
    live: Sum,
    /// All connections so far.
    pub(crate) told: Sum,
    /// Those that are open.
    pub(crate) active: u64,
}

impl Account {
    /// As a process has counted that carries the connections itself: octets are those of what they say, without
    /// headers.
    pub(crate) fn of_relay(
        connections: u64,
        request_octets: u64,
        reply_octets: u64,
        active: u64,
    ) -> Self {
        let told = Sum { connections, request_octets, reply_octets };
        Account { told, active, ..Account::default() }
    }

    /// What was there at the last census, is not there any more and was not told of either has ended unheard: it
    /// counts as it was seen last. Where as many others have come since, that does not show, and is missed.
    fn settle(&mut self, live: Sum, active: u64) {
        let missing = self.told.with(self.ended, u64::saturating_sub);
        self.ended.add(missing.with(live, u64::saturating_sub));
        (self.live, self.active) = (live, active);
        self.told = self.ended;
        self.told.add(live);
    }
}

/// An endpoint of a Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) port: ServicePortName,
    /// IP protocol number.
    pub(crate) protocol: u8,
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
struct Front {
    port: ServicePortName,
    standing: Arc<[Standing]>,
}

/// The sums of a node.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    place: Place,
    fronts: BTreeMap<Frontend, Front>,
    frontends: BTreeMap<Frontend, Account>,
    endpoints: BTreeMap<Endpoint, Account>,
}

/// The connections that there are at one moment.
#[derive(Debug, Default)]
pub(super) struct Census {
    frontends: BTreeMap<Frontend, (Sum, u64)>,
    endpoints: BTreeMap<Endpoint, (Sum, u64)>,
    /// The kernel's numbers of those that were counted.
    ids: Vec<u32>,
}

/// All sums, to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub(crate) frontends: Vec<(Frontend, ServicePortName, Account)>,
    pub(crate) endpoints: Vec<(Endpoint, Account)>,
}

impl Ledger {
    /// Front ends that are still there keep their sums.
    pub(super) fn follow(&mut self, program: &Program) {
        self.place = Place::of(program);
        let front = |(frontend, binding): (&Frontend, &program::Binding)| {
            (*frontend, Front { port: binding.port.clone(), standing: binding.standing.clone() })
        };
        self.fronts = program.services.iter().map(front).collect();
        self.frontends.retain(|frontend, _| self.fronts.contains_key(frontend));
    }

    pub(super) fn change(&mut self, change: Change) {
        self.place.change(&change);
        let Change::Frontend { frontend, before, after } = change else { return };
        let before = before.map(|binding| binding.port);
        match after {
            Some(binding) => {
                // Another Service has taken the address over.
                if before.is_some_and(|before| before != binding.port) {
                    self.frontends.remove(&frontend);
                }
                let front = Front { port: binding.port, standing: binding.standing };
                self.fronts.insert(frontend, front);
            }
            None => {
                self.fronts.remove(&frontend);
                self.frontends.remove(&frontend);
            }
        }
    }

    pub(super) fn needs_addresses(&self) -> bool {
        self.place.needs_addresses()
    }

    pub(super) fn learn(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        self.place.learn(addresses);
    }

    /// Takes note of a connection that has ended.
    pub(super) fn end(&mut self, connection: &Connection) {
        let Some((frontend, endpoint)) = self.attribute(connection) else { return };
        let sum = Sum::of(connection);
        self.frontends.entry(frontend).or_default().ended.add(sum);
        self.endpoints.entry(endpoint).or_default().ended.add(sum);
    }

    /// Counts a connection that there is.
    pub(super) fn count(&self, census: &mut Census, connection: &Connection) {
        let Some((frontend, endpoint)) = self.attribute(connection) else { return };
        let (sum, active) = (Sum::of(connection), u64::from(is_open(connection)));
        for (total, open) in [
            census.frontends.entry(frontend).or_default(),
            census.endpoints.entry(endpoint).or_default(),
        ] {
            total.add(sum);
            *open += active;
        }
        census.ids.push(connection.id);
    }

    /// Takes a census in. `late` ended while it was made: those that it has counted are still to end.
    pub(super) fn settle(&mut self, mut census: Census, late: &[Connection]) {
        census.ids.sort_unstable();
        let (counted, missed): (Vec<_>, Vec<_>) =
            late.iter().partition(|it| census.ids.binary_search(&it.id).is_ok());
        missed.into_iter().for_each(|connection| self.end(connection));
        settle_all(&mut self.frontends, census.frontends);
        settle_all(&mut self.endpoints, census.endpoints);
        counted.into_iter().for_each(|connection| self.end(connection));
        self.forget();
    }

    /// Endpoints that are gone are told of while they have connections.
    fn forget(&mut self) {
        let standing = self.fronts.iter().flat_map(|(frontend, front)| {
            let protocol = frontend.protocol.number();
            front.standing.iter().map(move |it| (&front.port, protocol, it.address()))
        });
        let standing: BTreeSet<_> = standing.collect();
        self.endpoints.retain(|it, account| {
            account.live.connections > 0 || standing.contains(&(&it.port, it.protocol, it.address))
        });
    }

    pub(super) fn accounts(&self) -> Accounts {
        let frontends = self.frontends.iter().filter_map(|(frontend, account)| {
            Some((*frontend, self.fronts.get(frontend)?.port.clone(), *account))
        });
        let endpoints = self.endpoints.iter().map(|(endpoint, it)| (endpoint.clone(), *it));
        Accounts { frontends: frontends.collect(), endpoints: endpoints.collect() }
    }

    /// Whose a connection is; `None`: nobody's here.
    fn attribute(&self, connection: &Connection) -> Option<(Frontend, Endpoint)> {
        let original = &connection.original;
        let frontend =
            self.place.frontend(original, |frontend| self.fronts.contains_key(frontend))?;
        let (address, asked) = (reply_source(connection)?, original.destination);
        // One that nobody was chosen for: it was refused, or the address's owner answers.
        if address.ip() == asked && Some(address.port()) == original.destination_port() {
            return None;
        }
        let port = self.fronts.get(&frontend)?.port.clone();
        Some((frontend, Endpoint { port, protocol: original.protocol, address }))
    }
}

fn settle_all<K: Ord>(accounts: &mut BTreeMap<K, Account>, mut live: BTreeMap<K, (Sum, u64)>) {
    for (key, account) in accounts.iter_mut() {
        let (sum, active) = live.remove(key).unwrap_or_default();
        account.settle(sum, active);
    }
    for (key, (sum, active)) in live {
        accounts.entry(key).or_default().settle(sum, active);
    }
}

/// TCP entries outlive their connections for a while.
fn is_open(connection: &Connection) -> bool {
    !matches!(connection.tcp_state, Some(TcpState::TimeWait | TcpState::Close))
}

#[cfg(test)]
mod tests;
