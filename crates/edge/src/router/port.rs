//! One interface as a virtual router sees it: packets in and out, and addresses on it.

use ipnet::{IpNet, Ipv4Net};
use kernel::netlink;
use kernel::packet::{FrameSocket, VrrpSocket};
use kernel::route::{self, Change};
use netstate::Address;
use std::io;
use std::net::Ipv4Addr;
use tokio::io::unix::AsyncFd;
use wire::vrrp::Advertisement;
use wire::{Mac, arp, ipv4};

/// Announcements of an address in one burst, as keepalived sends them: some hosts drop the first.
const BURST: usize = 5;
/// Larger than any advertisement.
const PACKET: usize = 2048;

pub(super) struct Port {
    interface: String,
    source: Ipv4Addr,
    packets: AsyncFd<VrrpSocket>,
    frames: FrameSocket,
    mac: Mac,
    netlink: netlink::Socket,
}

impl Port {
    pub(super) fn open(interface: &str, source: Ipv4Addr) -> kernel::Result<Self> {
        let packets = VrrpSocket::open(interface, source)?;
        let frames = FrameSocket::open(interface, 0)?;
        Ok(Port {
            interface: interface.to_owned(),
            source,
            packets: register(packets)?,
            mac: frames.mac()?,
            frames,
            netlink: netlink::Socket::route()?,
        })
    }

    /// Waits until [`Port::receive`] may have something.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.packets.readable().await?.clear_ready();
        Ok(())
    }

    /// The next valid advertisement that waits.
    pub(super) fn receive(&self) -> io::Result<Option<(Ipv4Addr, Advertisement)>> {
        let mut buffer = [0; PACKET];
        while let Some(bytes) = self.packets.get_ref().receive(&mut buffer)? {
            let parsed = ipv4::Repr::parse(bytes)
                .and_then(|packet| Ok((packet.source, Advertisement::parse(&packet)?)));
            match parsed {
                Ok(heard) => return Ok(Some(heard)),
                Err(error) => tracing::debug!(%error, "ignored a packet"),
            }
        }
        Ok(None)
    }

    pub(super) fn send(&self, advertisement: &Advertisement) -> io::Result<()> {
        self.packets.get_ref().send(&advertisement.emit(self.source))
    }

    pub(super) fn announce(&self, addresses: &[Ipv4Addr]) -> io::Result<()> {
        for _ in 0..BURST {
            for &address in addresses {
                self.frames.send(&arp::Repr::gratuitous(self.mac, address).frame())?;
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, addresses: &[Ipv4Addr]) -> Result<(), Vec<kernel::Error>> {
        self.change(addresses, Change::AddAddress)
    }

    pub(super) fn remove(&mut self, addresses: &[Ipv4Addr]) -> Result<(), Vec<kernel::Error>> {
        self.change(addresses, Change::DeleteAddress)
    }

    /// Whether any of `addresses` is on the interface.
    pub(super) fn holds_any(&mut self, addresses: &[Ipv4Addr]) -> kernel::Result<bool> {
        let there = route::addresses(&mut self.netlink)?;
        Ok(addresses.iter().any(|&address| there.contains(&self.entry(address))))
    }

    fn change(
        &mut self,
        addresses: &[Ipv4Addr],
        kind: fn(Address) -> Change,
    ) -> Result<(), Vec<kernel::Error>> {
        let changes: Vec<Change> =
            addresses.iter().map(|&address| kind(self.entry(address))).collect();
        route::apply(&mut self.netlink, &changes)
    }

    fn entry(&self, address: Ipv4Addr) -> Address {
        Address { device: self.interface.clone(), net: IpNet::V4(Ipv4Net::from(address)) }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe, for types that lie about their descriptor; this socket owns its own"
)]
fn register(packets: VrrpSocket) -> kernel::Result<AsyncFd<VrrpSocket>> {
    let failure =
        |source| kernel::Error::File { operation: "wait for", path: "vrrp socket".into(), source };
    AsyncFd::new(packets).map_err(failure)
}
