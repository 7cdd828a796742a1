//! Hearing that something changed.

use super::attribute::Messages;
use super::socket::{Socket, open, receive};
use crate::{Error, Result, filter};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    pub links: bool,
    pub addresses: bool,
    pub routes: bool,
    /// Neighbours and forwarding entries; learned ones come and go with traffic.
    pub neighbours: bool,
    pub rules: bool,
}

impl Changed {
    pub const EVERYTHING: Changed =
        Changed { links: true, addresses: true, routes: true, neighbours: true, rules: true };

    pub fn any(&self) -> bool {
        *self != Changed::default()
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
                libc::RTM_NEWLINK | libc::RTM_DELLINK => changed.links = true,
                libc::RTM_NEWADDR | libc::RTM_DELADDR => changed.addresses = true,
                libc::RTM_NEWROUTE | libc::RTM_DELROUTE => changed.routes = true,
                libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => changed.neighbours = true,
                kind if kind >> 8 == NFNL_SUBSYS_NFTABLES => changed.rules = true,
                _ => {}
            }
        }
    }
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
