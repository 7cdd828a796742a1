//! A program to the tunnel device and what hangs on it. Pure.

use ipnet::IpNet;
use model::Family;
use netstate::link::Vxlan;
use netstate::{Address, FdbEntry, Link, LinkKind, Neighbour, NetState, Route, Unreachable};
use program::{Peer, PodNetwork, Program};
use std::net::IpAddr;

/// flannel's name for the device of VNI 1.
pub const DEVICE: &str = "flannel.1";

/// Outer IPv4 (20), UDP (8), VXLAN (8) and inner Ethernet (14) headers.
const OVERHEAD_IPV4: u32 = 50;
/// The outer IPv6 header is 20 octets longer.
const OVERHEAD_IPV6: u32 = 70;

/// The interface that the nodes see each other through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    pub device: String,
    /// Octets of its largest packet.
    pub mtu: u32,
    /// The node's own address on it.
    pub address: IpAddr,
}

impl Underlay {
    /// Octets of the largest packet that a pod can send.
    pub fn pod_mtu(&self) -> u32 {
        let overhead = if self.address.is_ipv4() { OVERHEAD_IPV4 } else { OVERHEAD_IPV6 };
        self.mtu.saturating_sub(overhead)
    }
}

/// All of it.
pub fn lower(program: &Program, underlay: &Underlay) -> NetState {
    let mut state = NetState::default();
    let Some(network) = program.networks.get(&Family::V4) else { return state };
    own(&mut state, network, underlay);
    let peers = program.peers.iter().filter(|((family, _), _)| *family == Family::V4);
    for (_, peer) in peers {
        add_peer(&mut state, peer);
    }
    state
}

/// What one peer contributes.
pub fn peer(peer: &Peer) -> NetState {
    let mut state = NetState::default();
    add_peer(&mut state, peer);
    state
}

fn own(state: &mut NetState, network: &PodNetwork, underlay: &Underlay) {
    let kind = LinkKind::Vxlan(Vxlan {
        vni: network.vni,
        port: network.tunnel_port,
        local: underlay.address,
        device: underlay.device.clone(),
        learning: false,
    });
    let link = Link {
        name: DEVICE.to_owned(),
        kind,
        mac: Some(network.tunnel_mac),
        mtu: Some(underlay.pod_mtu()),
        up: true,
    };
    state.links.insert(DEVICE.to_owned(), link);
    let net = IpNet::from(network.tunnel_address);
    state.addresses.insert(Address { device: DEVICE.to_owned(), net });
    // A pod that is gone must not be looked for beyond the node's own door.
    let protocol = Route::PODWAY;
    state.unreachable.insert(Unreachable { destination: network.subnet, protocol });
}

/// The subnet's own address stands for the peer's tunnel end, as flannel has it.
fn add_peer(state: &mut NetState, peer: &Peer) {
    let device = || DEVICE.to_owned();
    state.fdb.insert(FdbEntry { device: device(), mac: peer.tunnel_mac, remote: peer.public_ip });
    for subnet in peer.subnets.iter().filter(|subnet| subnet.addr().is_ipv4()) {
        let address = subnet.network();
        state.neighbours.insert(Neighbour { device: device(), address, mac: peer.tunnel_mac });
        state.routes.insert(Route {
            destination: *subnet,
            via: Some(address),
            device: device(),
            onlink: true,
            source: None,
            protocol: Route::PODWAY,
        });
    }
}
