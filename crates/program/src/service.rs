//! Services as a node sees them: front ends, and pools of endpoints behind them.

use crate::change::Change;
use model::{ObjectKey, Origin, Protocol};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a connection must be addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub scope: Scope,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This address, wherever it is: a cluster IP.
    Address(IpAddr),
    /// The node's own addresses.
    NodePort,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::Address(address) => write!(f, "{}", SocketAddr::new(address, self.port))?,
            Scope::NodePort => write!(f, "node port {}", self.port)?,
        }
        write!(f, " {}", self.protocol)
    }
}

/// The name of a Service's port: `default/web:http`, without the colon for an unnamed port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePortName {
    pub service: ObjectKey,
    /// Empty for an unnamed port.
    pub port: Arc<str>,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// What a front end does, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub port: ServicePortName,
    pub origin: Origin,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A new connection goes to one endpoint of the pool, each as likely as any other.
    Balance { pool: Arc<Pool>, masquerade: Masquerade },
    /// Answers that nobody is there.
    Reject,
}

/// When the source of a balanced connection is replaced by the node's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Masquerade {
    Always,
    /// When it is not a pod of this cluster.
    FromOutside,
}

/// Endpoints in order of address and port, without duplicates, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The node it runs on, where known.
    pub node: Option<Arc<str>>,
    pub pod: Option<ObjectKey>,
    pub origin: Origin,
}

/// All front ends of a node.
///
/// Several Services may claim one front end; the first by name has it, whatever the order of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    claims: BTreeMap<Frontend, BTreeMap<ObjectKey, Binding>>,
    claimed_by: BTreeMap<ObjectKey, Vec<Frontend>>,
}

impl Table {
    pub fn get(&self, frontend: &Frontend) -> Option<&Binding> {
        self.claims.get(frontend)?.values().next()
    }

    /// Front ends in order: addresses first, node ports last.
    pub fn iter(&self) -> impl Iterator<Item = (&Frontend, &Binding)> {
        self.claims
            .iter()
            .filter_map(|(frontend, claims)| Some((frontend, claims.values().next()?)))
    }

    /// Whether any front end has this address, on whatever port.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.at_address(address).next().is_some()
    }

    /// The front ends that have this address.
    pub fn at_address(&self, address: IpAddr) -> impl Iterator<Item = (&Frontend, &Binding)> {
        let bound = |protocol, port| Frontend { scope: Scope::Address(address), protocol, port };
        let range = bound(Protocol::Tcp, 0)..=bound(Protocol::Sctp, u16::MAX);
        let range = self.claims.range(range);
        range.filter_map(|(frontend, claims)| Some((frontend, claims.values().next()?)))
    }

    /// The claims that lost, with the Service that has the front end instead.
    pub fn shadowed(&self) -> impl Iterator<Item = (&Frontend, &Binding, &Binding)> {
        self.claims.iter().flat_map(|(frontend, claims)| {
            let winner = claims.values().next();
            let losers = claims.values().skip(1);
            losers.filter_map(move |loser| Some((frontend, loser, winner?)))
        })
    }

    pub(crate) fn replace(
        &mut self,
        service: &ObjectKey,
        bindings: BTreeMap<Frontend, Binding>,
    ) -> Vec<Change> {
        let old = self.claimed_by.remove(service).unwrap_or_default();
        let mut touched = old;
        touched.extend(bindings.keys().copied());
        touched.sort_unstable();
        touched.dedup();
        if !bindings.is_empty() {
            self.claimed_by.insert(service.clone(), bindings.keys().copied().collect());
        }
        let mut bindings = bindings;
        touched
            .into_iter()
            .filter_map(|frontend| {
                let before = self.get(&frontend).cloned();
                self.claim(frontend, service, bindings.remove(&frontend));
                let after = self.get(&frontend).cloned();
                (before != after).then_some(Change::Frontend { frontend, before, after })
            })
            .collect()
    }

    fn claim(&mut self, frontend: Frontend, service: &ObjectKey, binding: Option<Binding>) {
        let claims = self.claims.entry(frontend).or_default();
        match binding {
            Some(binding) => claims.insert(service.clone(), binding),
            None => claims.remove(service),
        };
        if claims.is_empty() {
            self.claims.remove(&frontend);
        }
    }
}
