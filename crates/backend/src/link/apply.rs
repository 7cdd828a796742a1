//! The tunnel kept as the program wants it.

use super::lower::{self, Underlay};
use super::plan;
use ipnet::IpNet;
use kernel::netlink::Socket;
use kernel::route;
use model::Family;
use netstate::{Link, Local, NetState, Route};
use program::{Change, Peer, Program};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

/// Why the pod network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No interface of this machine has the address that the Node object names.
    #[error("no interface has the node's address {address}")]
    NoUnderlay { address: IpAddr },
    #[error("reading the network configuration")]
    Read(#[source] kernel::Error),
    /// The kernel refused some of the changes; the others are made.
    #[error("{} of {changes} changes refused, first: {}", refused.len(), refused[0])]
    Refused { changes: usize, refused: Vec<kernel::Error> },
}

/// The door to the tunnel device, its routes, neighbours and forwarding entries, in the network
/// namespace in which it was opened.
#[derive(Debug)]
pub struct Backend {
    socket: Socket,
}

impl Backend {
    /// The socket that the changes go through, to tell them from other people's.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn open() -> Result<Self, Error> {
        Ok(Backend { socket: Socket::route().map_err(Error::Read)? })
    }

    /// The interface that has the node's own address.
    pub fn underlay(&mut self, address: IpAddr) -> Result<Underlay, Error> {
        let addresses = route::addresses(&mut self.socket).map_err(Error::Read)?;
        let found = addresses.iter().find(|have| have.net.addr() == address);
        let device = &found.ok_or(Error::NoUnderlay { address })?.device;
        let link = route::link(&mut self.socket, device).map_err(Error::Read)?;
        let mtu = link.and_then(|found| found.link.mtu).unwrap_or(1500);
        Ok(Underlay { device: device.clone(), mtu, address })
    }

    /// Reads what is there and changes what differs; returns the number of changes.
    ///
    /// What is right already is not touched, so a restart disturbs nothing.
    pub fn reconcile(&mut self, program: &Program, underlays: &[Underlay]) -> Result<usize, Error> {
        let wanted = lower::lower(program, underlays);
        let observed = self.read(&wanted)?;
        self.apply(&plan::changes(&observed, &wanted))
    }

    /// Gives what processes of the node say from ::1 ways back, where rules translate it, and takes them away where
    /// none do; returns the number of changes. To be called anew when devices or their addresses change.
    pub fn open_loopback(&mut self, translated: bool) -> Result<usize, Error> {
        let ours = |way: &Local| {
            way.protocol == Route::PODWAY
                && way.device != Local::ANYWHERE
                && way.address == Ipv6Addr::LOCALHOST
        };
        let mut observed = route::locals(&mut self.socket).map_err(Error::Read)?;
        observed.retain(ours);
        let wanted = match translated {
            true => lower::loopback_ways(&route::read(&mut self.socket).map_err(Error::Read)?),
            false => BTreeSet::new(),
        };
        let gone = observed.difference(&wanted).cloned().map(route::Change::DeleteLocal);
        let new = wanted.difference(&observed).cloned().map(route::Change::AddLocal);
        self.apply(&gone.chain(new).collect::<Vec<_>>())
    }

    /// Makes the changes of the program that concern peers.
    pub fn change_peers(&mut self, changes: &[Change]) -> Result<usize, Error> {
        let state = |family: Family, peer: &Option<Peer>| {
            peer.as_ref().map(|peer| lower::peer(family, peer)).unwrap_or_default()
        };
        let steps = changes.iter().flat_map(|change| match change {
            Change::Peer { family, before, after, .. } => {
                plan::changes(&state(*family, before), &state(*family, after))
            }
            _ => Vec::new(),
        });
        self.apply(&steps.collect::<Vec<_>>())
    }

    /// Our part of the configuration: the devices, what hangs on them, and the unreachable subnets.
    fn read(&mut self, wanted: &NetState) -> Result<NetState, Error> {
        let mut state = route::read(&mut self.socket).map_err(Error::Read)?;
        let devices = Family::ALL.map(lower::device);
        let is_ours = |device: &String| devices.contains(&device.as_str());
        state.links.retain(|name, link| is_ours(name) || is_renamed(link, wanted));
        // Every device has a link-local address of IPv6, which is the kernel's business.
        let counts = |net: &IpNet| match net {
            IpNet::V4(_) => true,
            IpNet::V6(net) => !net.addr().is_unicast_link_local(),
        };
        state.addresses.retain(|address| is_ours(&address.device) && counts(&address.net));
        state.routes.retain(|route| is_ours(&route.device) && route.protocol == Route::PODWAY);
        state.unreachable.retain(|route| route.protocol == Route::PODWAY);
        state.neighbours.retain(|neighbour| is_ours(&neighbour.device));
        state.fdb.retain(|entry| is_ours(&entry.device));
        Ok(state)
    }

    fn apply(&mut self, changes: &[route::Change]) -> Result<usize, Error> {
        let done = changes.len();
        match route::apply(&mut self.socket, changes) {
            Ok(()) => Ok(done),
            Err(refused) => Err(Error::Refused { changes: done, refused }),
        }
    }
}

/// Whether somebody gave a tunnel device another name: the kernel has no room for a second one of its kind.
fn is_renamed(link: &Link, wanted: &NetState) -> bool {
    let mut tunnels = wanted.links.values();
    link.mac.is_some() && tunnels.any(|wanted| wanted.mac == link.mac && wanted.kind == link.kind)
}
