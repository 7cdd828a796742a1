//! A program to the tunnel device and what hangs on it. Pure.

use ipnet::IpNet;
use model::Family;
use netstate::link::Vxlan;
use netstate::{Address, FdbEntry, Link, LinkKind, Local, Neighbour, NetState, Route, Unreachable};
use program::{Peer, PodNetwork, Program};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

/// flannel's names for the devices of VNI 1, one for each family of pods.
pub fn device(family: Family) -> &'static str {
    match family {
        Family::V4 => "flannel.1",
        Family::V6 => "flannel-v6.1",
    }
}

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

/// All of it: a tunnel for each family that has both pods and an underlay.
pub fn lower(program: &Program, underlays: &[Underlay]) -> NetState {
    let mut state = NetState::default();
    for underlay in underlays {
        let family = Family::of(underlay.address);
        let Some(network) = program.networks.get(&family) else { continue };
        own(&mut state, family, network, underlay);
        let peers = program.peers.iter().filter(|((of, _), _)| *of == family);
        for (_, peer) in peers {
            add_peer(&mut state, family, peer);
        }
    }
    state
}

/// The ways back to ::1 for what processes of the node said to node ports there.
///
/// Once translated it leaves the node and is answered through any device. For ::1 alone the kernel takes no route but
/// of the device that a packet came through (`rt6_need_strict`). Others cannot use them: what comes from the network
/// with ::1 in it is dropped before anything (`ip6_rcv_core`).
pub fn loopback_ways(observed: &NetState) -> BTreeSet<Local> {
    // Without an address of the family there is no IPv6 on a device, and no route to be had.
    let speaks = |device: &str| {
        let mut addresses = observed.addresses.iter();
        addresses.any(|it| it.device == device && it.net.addr().is_ipv6())
    };
    let links = observed.links.values();
    let ways =
        links.filter(|link| link.up && link.kind != LinkKind::Loopback && speaks(&link.name));
    let way = |link: &Link| Local {
        address: Ipv6Addr::LOCALHOST.into(),
        device: link.name.clone(),
        source: None,
        protocol: Route::PODWAY,
    };
    ways.map(way).collect()
}

/// What one peer contributes.
pub fn peer(family: Family, peer: &Peer) -> NetState {
    let mut state = NetState::default();
    add_peer(&mut state, family, peer);
    state
}

fn own(state: &mut NetState, family: Family, network: &PodNetwork, underlay: &Underlay) {
    let device = || device(family).to_owned();
    let kind = LinkKind::Vxlan(Vxlan {
        vni: network.vni,
        port: network.tunnel_port,
        local: underlay.address,
        device: underlay.device.clone(),
        learning: false,
    });
    let link = Link {
        name: device(),
        kind,
        mac: Some(network.tunnel_mac),
        mtu: Some(underlay.pod_mtu()),
        up: true,
    };
    state.links.insert(device(), link);
    let net = IpNet::from(network.tunnel_address);
    state.addresses.insert(Address { device: device(), net });
    // A pod that is gone must not be looked for beyond the node's own door.
    let protocol = Route::PODWAY;
    state.unreachable.insert(Unreachable { destination: network.subnet, protocol });
}

/// The subnet's own address stands for the peer's tunnel end, as flannel has it.
fn add_peer(state: &mut NetState, family: Family, peer: &Peer) {
    let device = || device(family).to_owned();
    state.fdb.insert(FdbEntry { device: device(), mac: peer.tunnel_mac, remote: peer.public_ip });
    for subnet in peer.subnets.iter().filter(|subnet| Family::of_net(subnet) == family) {
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
