//! Hearing of connections that the kernel has forgotten, with what they carried.

use super::{Connection, DELETE, read};
use crate::netlink::{Messages, open_monitor, receive};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// `NFNLGRP_CONNTRACK_DESTROY` of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 3;
const BUFFER: usize = 64 << 10;

/// A socket that becomes readable when connections of its namespace have ended.
///
/// It is non-blocking: wait for its descriptor, then [`Ended::drain`] it. Connections that began before it was there
/// may end without a word (sysctl `net/netfilter/nf_conntrack_events` 2).
#[derive(Debug)]
pub struct Ended {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Ended {
    pub fn listen() -> Result<Self> {
        let fd = open_monitor(SockProtocol::NetlinkNetFilter, "NETLINK_NETFILTER", &[GROUP])?;
        Ok(Ended { fd, buffer: vec![0; BUFFER] })
    }

    /// Visits everything that is there. True: more came than the socket had room for, and some are lost.
    pub fn drain(&mut self, mut visit: impl FnMut(Connection)) -> Result<bool> {
        let mut lost = false;
        loop {
            match receive(self.fd.as_fd(), &mut self.buffer) {
                Ok(None) => return Ok(lost),
                Ok(Some(length)) if length > self.buffer.len() => lost = true,
                Ok(Some(length)) => {
                    let messages = Messages::new(&self.buffer[..length]);
                    messages.filter(|it| it.kind == DELETE).filter_map(read).for_each(&mut visit);
                }
                Err(Errno::ENOBUFS) => lost = true,
                Err(errno) => {
                    let object = "connections that ended".to_owned();
                    return Err(Error::System { operation: "read", object, errno });
                }
            }
        }
    }
}

impl AsFd for Ended {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Ended {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
