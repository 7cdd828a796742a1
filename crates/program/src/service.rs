//! Services as a node sees them: front ends, and pools of endpoints behind them.

use model::{ObjectKey, Origin, Protocol};
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
