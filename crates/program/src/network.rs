//! The pod network: this node's own part of it and the ways to the others.

use ipnet::IpNet;
use model::{ObjectKey, Origin};
use std::net::IpAddr;
use wire::Mac;

/// This node's part of the pod network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// All pods of the cluster; sources outside of it count as external.
    pub cluster: Vec<IpNet>,
    /// The pods of this node.
    pub subnet: IpNet,
    /// The first host address of the subnet: what the node's own pods have as gateway.
    pub gateway: IpAddr,
    /// The subnet's own address, on the tunnel device: what peers see when the node speaks to their pods.
    pub tunnel_address: IpAddr,
    pub tunnel_mac: Mac,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of the tunnel.
    pub tunnel_port: u16,
    pub origin: Origin,
}

/// Another node and how its pods are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub subnets: Vec<IpNet>,
    /// Where the outer packets go.
    pub public_ip: IpAddr,
    pub tunnel_mac: Mac,
    pub origin: Origin,
}

/// A pod on this node, as the data plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPod {
    pub pod: ObjectKey,
    pub origin: Origin,
}
