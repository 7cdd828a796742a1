//! Hearing that something changed.

use super::attribute::{Message, Messages};
use super::socket::{Socket, open, receive};
use crate::{Error, Result, filter};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

const RECEIVE_BUFFER: usize = 64 << 10;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const ROUTE_GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// `IFA_ADDRESS` and `RTA_DST`.
const ADDRESS: u16 = 1;
/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 7;

/// A socket that becomes readable when network configuration changed in its namespace.
///
/// It is non-blocking: wait for its descriptor (poll, or tokio's `AsyncFd`), then [`Monitor::drain`] it.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    ignored: Vec<u32>,
    /// Until the next look.
    ignored_once: Vec<u32>,
    buffer: Vec<u8>,
}

/// What changed since the last look. After an overflow of the socket's buffer everything counts as changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    pub links: Devices,
    /// But for the IPv6 addresses of the link that the kernel gives every device by itself.
    pub addresses: Devices,
    /// Routes of type `local`: which addresses are this host's own; but for those same ones.
    pub locals: bool,
    pub routes: bool,
    /// Neighbours and forwarding entries; learned ones come and go with traffic.
    pub neighbours: bool,
    pub rules: bool,
}

impl Changed {
    pub const EVERYTHING: Changed = Changed {
        links: Devices::All,
        addresses: Devices::All,
        locals: true,
        routes: true,
        neighbours: true,
        rules: true,
    };

    pub fn any(&self) -> bool {
        *self != Changed::default()
    }
}

/// Devices, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    These(BTreeSet<u32>),
    All,
}

impl Devices {
    pub fn any(&self) -> bool {
        *self != Devices::default()
    }

    pub fn contains(&self, device: u32) -> bool {
        match self {
            Devices::These(devices) => devices.contains(&device),
            Devices::All => true,
        }
    }

    /// `None`: some device.
    fn note(&mut self, device: Option<u32>) {
        match (self, device) {
            (Devices::All, _) => {}
            (Devices::These(devices), Some(device)) => drop(devices.insert(device)),
            (all, None) => *all = Devices::All,
        }
    }
}

impl Default for Devices {
    fn default() -> Self {
        Devices::These(BTreeSet::new())
    }
}

impl Monitor {
    /// Links, addresses, routes and neighbours, IPv4 and IPv6.
    pub fn route() -> Result<Self> {
        Monitor::open(SockProtocol::NetlinkRoute, "NETLINK_ROUTE", &ROUTE_GROUPS)
    }

    /// nf_tables rule sets.
    pub fn rules() -> Result<Self> {
        Monitor::open(SockProtocol::NetlinkNetFilter, "NETLINK_NETFILTER", &[NFTABLES_GROUP])
    }

    fn open(protocol: SockProtocol, name: &'static str, groups: &[u32]) -> Result<Self> {
        let fd = open_monitor(protocol, name, groups)?;
        Ok(Monitor {
            fd,
            ignored: Vec::new(),
            ignored_once: Vec::new(),
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// Makes changes asked for through `socket` count as no change: one need not be told what one did.
    ///
    /// They do not even wake anybody, and many of them are no overflow.
    /// The kernel does not say who made links and forwarding entries: these are always heard.
    pub fn ignore(&mut self, socket: &Socket) -> Result<()> {
        self.ignored.push(socket.port());
        filter::pass_over(&self.fd, &self.ignored).map_err(|errno| Error::System {
            operation: "filter",
            object: "netlink notifications".to_owned(),
            errno,
        })
    }

    /// Makes what a child with this process number did to rules count as no change. To be told when it has ended, and
    /// before the next look: the kernel names a process's first socket after it, and tells of rules before it answers.
    pub fn ignore_child(&mut self, process: u32) {
        self.ignored_once.push(process);
    }

    /// Takes everything that is there and says what it was about.
    pub fn drain(&mut self) -> Result<Changed> {
        let changed = self.take();
        self.ignored_once.clear();
        changed
    }

    fn take(&mut self) -> Result<Changed> {
        let mut changed = Changed::default();
        loop {
            match receive(self.fd.as_fd(), &mut self.buffer) {
                Ok(None) => return Ok(changed),
                Ok(Some(length)) if length > self.buffer.len() => changed = Changed::EVERYTHING,
                Ok(Some(length)) => self.note(length, &mut changed),
                Err(Errno::ENOBUFS) => changed = Changed::EVERYTHING,
                Err(errno) => {
                    let object = "netlink notifications".to_owned();
                    return Err(Error::System { operation: "read", object, errno });
                }
            }
        }
    }

    fn note(&self, length: usize, changed: &mut Changed) {
        for message in Messages::new(&self.buffer[..length]) {
            if self.ignored.contains(&message.port) || self.ignored_once.contains(&message.port) {
                continue;
            }
            match message.kind {
                libc::RTM_NEWLINK | libc::RTM_DELLINK => changed.links.note(device(&message)),
                libc::RTM_NEWADDR | libc::RTM_DELADDR if is_of_link::<8>(&message) => {}
                libc::RTM_NEWADDR | libc::RTM_DELADDR => changed.addresses.note(device(&message)),
                libc::RTM_NEWROUTE | libc::RTM_DELROUTE if !is_local(&message) => {
                    changed.routes = true;
                }
                libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                    changed.locals |= !is_of_link::<12>(&message);
                }
                libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => changed.neighbours = true,
                kind if kind >> 8 == NFNL_SUBSYS_NFTABLES => changed.rules = true,
                _ => {}
            }
        }
    }
}

/// `ifi_index` of `struct ifinfomsg`, `ifa_index` of `struct ifaddrmsg`: both after four octets.
fn device(message: &Message<'_>) -> Option<u32> {
    let (fixed, _attributes) = message.split::<8>()?;
    Some(u32::from_ne_bytes(*fixed.last_chunk()?))
}

/// `rtm_type` of `struct rtmsg`.
fn is_local(message: &Message<'_>) -> bool {
    message.payload.get(7) == Some(&libc::RTN_LOCAL)
}

/// Whether it is about an IPv6 address of a link; `FIXED`: octets of `struct ifaddrmsg` or `struct rtmsg`.
fn is_of_link<const FIXED: usize>(message: &Message<'_>) -> bool {
    let address = message.split::<FIXED>().and_then(|(_, attributes)| attributes.find(ADDRESS));
    let octets = address.and_then(|address| <[u8; 16]>::try_from(address.value).ok());
    octets.is_some_and(|octets| Ipv6Addr::from(octets).is_unicast_link_local())
}

/// A non-blocking socket that hears what is told to these groups.
pub(crate) fn open_monitor(
    protocol: SockProtocol,
    name: &'static str,
    groups: &[u32],
) -> Result<OwnedFd> {
    let (fd, _port) = open(protocol, name, groups)?;
    set_nonblocking(&fd).map_err(|errno| Error::System {
        operation: "make non-blocking",
        object: name.to_owned(),
        errno,
    })?;
    Ok(fd)
}

fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(|_flags| ())
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
