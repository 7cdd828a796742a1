//! The edge of the cluster: virtual IPs and what listens on them.

use model::{Algorithm, HealthCheck, Origin};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A virtual IP in which this node takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    pub addresses: Vec<IpAddr>,
    /// VRID, 1–255.
    pub virtual_router_id: u8,
    /// This node's VRRP priority, 1–254; the highest of the living holds the addresses.
    pub priority: u8,
    pub interval: Duration,
    pub preempt: bool,
    pub listeners: Vec<Listener>,
    pub origin: Origin,
}

/// A port of a virtual IP and the back ends that its connections are spread over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub port: u16,
    pub algorithm: Algorithm,
    pub backends: Vec<Backend>,
    pub health_check: HealthCheck,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub node: Arc<str>,
    pub address: SocketAddr,
}
