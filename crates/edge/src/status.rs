//! What an edge is doing, as plain values.

use std::net::SocketAddr;
use std::time::SystemTime;
pub use wire::machine::vrrp::State;

/// Of one virtual IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub name: String,
    /// `Initialize`: not running, for example because the interface is missing.
    pub state: State,
    /// Since when it is in that state.
    pub since: SystemTime,
    pub listeners: Vec<Listener>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    /// One for each address of the virtual IP that has the port open.
    pub listening: Vec<SocketAddr>,
    /// Connections from clients.
    pub accepted: u64,
    /// Of them: reset because no healthy back end answered.
    pub unserved: u64,
    /// Second and further attempts after a failure.
    pub retries: u64,
    /// Second and further attempts because an answer took long.
    pub hedges: u64,
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    pub up: bool,
    /// Open now, the ones being opened included.
    pub active: u64,
    /// Opened so far.
    pub connections: u64,
    /// Failed attempts of connections for clients.
    pub failures: u64,
    /// Octets from clients.
    pub received: u64,
    /// Octets to clients.
    pub sent: u64,
}
