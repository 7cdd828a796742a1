//! The request socket.

use super::attribute::{Attributes, Message, Messages, u32_at};
use super::batch::{Batch, flags};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    getsockopt, recv, send, setsockopt, socket,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the kernel is asked to let one send carry; a limit, not an allocation.
const WANTED_SEND_ROOM: usize = 512 << 20;
const WANTED_RECEIVE_ROOM: usize = 8 << 20;
/// The kernel never makes an answer datagram of more than 32 KiB in a dump; single answers may be longer.
const RECEIVE_BUFFER: usize = 256 << 10;
/// How often a dump is begun anew because the kernel's tables changed under it.
const DUMP_ATTEMPTS: usize = 32;

/// A netlink socket for requests, bound to the network namespace in which it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    receive: Vec<u8>,
    room: usize,
}

/// One request of a batch that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which message of the batch.
    pub index: usize,
    pub errno: Errno,
    /// `NLMSGERR_ATTR_MSG`.
    pub detail: Option<String>,
    /// `NLMSGERR_ATTR_OFFS`: octets from the message's begin to the offending attribute.
    pub offset: Option<usize>,
}

impl Refusal {
    pub(crate) fn into_error(self, operation: &'static str, object: String) -> Error {
        Error::Refused { operation, object, errno: self.errno, detail: self.detail }
    }
}

impl Socket {
    /// For links, addresses, routes and neighbours.
    pub fn route() -> Result<Self> {
        Socket::open(SockProtocol::NetlinkRoute, "NETLINK_ROUTE")
    }

    /// For nf_tables and conntrack.
    pub fn netfilter() -> Result<Self> {
        Socket::open(SockProtocol::NetlinkNetFilter, "NETLINK_NETFILTER")
    }

    /// For what has no protocol number of its own, as IPVS.
    pub fn generic() -> Result<Self> {
        Socket::open(SockProtocol::NetlinkGeneric, "NETLINK_GENERIC")
    }

    fn open(protocol: SockProtocol, name: &'static str) -> Result<Self> {
        let (fd, port) = open(protocol, name, &[])?;
        let failed = system("prepare netlink socket", name);
        // Forcing takes CAP_NET_ADMIN in the first user namespace; without it net.core.wmem_max bounds what we get.
        setsockopt(&fd, SndBufForce, &WANTED_SEND_ROOM)
            .or_else(|_not_privileged| setsockopt(&fd, SndBuf, &WANTED_SEND_ROOM))
            .map_err(&failed)?;
        // `netlink_sendmsg` refuses what is longer than sk_sndbuf − 32.
        let room = getsockopt(&fd, SndBuf).map_err(&failed)? - 32;
        Ok(Socket { fd, port, sequence: 1, receive: vec![0; RECEIVE_BUFFER], room })
    }

    /// Octets that one send can carry.
    ///
    /// Privileged in the first user namespace: practically no bound. Elsewhere twice `net.core.wmem_max`.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The socket's own address: changes asked for here carry it in notifications ([`super::Monitor::ignore`]).
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends all requests in one datagram; the kernel tries every one.
    ///
    /// Returns what it refused, in order. `operation` only names the errors of the exchange itself.
    pub fn execute(&mut self, operation: &'static str, batch: &mut Batch) -> Result<Vec<Refusal>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.execute_until(operation, batch, batch.len() - 1)
    }

    /// As [`Socket::execute`], with message `last` the one that the kernel acknowledges when it has done all.
    pub(crate) fn execute_until(
        &mut self,
        operation: &'static str,
        batch: &mut Batch,
        last: usize,
    ) -> Result<Vec<Refusal>> {
        batch.acknowledge(last);
        self.exchange(operation, batch, |_unexpected| Ok(())).map(|answer| answer.refusals)
    }

    /// Sends one question and visits its answers; returns what was refused after them.
    pub(crate) fn query(
        &mut self,
        operation: &'static str,
        batch: &mut Batch,
        visit: impl FnMut(Message<'_>) -> Result<()>,
    ) -> Result<Vec<Refusal>> {
        batch.acknowledge(batch.len() - 1);
        self.exchange(operation, batch, visit).map(|answer| answer.refusals)
    }

    /// Sends one question and folds its answers; `Err` when the kernel refuses it.
    pub fn ask<T: Default>(
        &mut self,
        operation: &'static str,
        object: &str,
        batch: &mut Batch,
        mut fold: impl FnMut(&mut T, Message<'_>) -> Result<()>,
    ) -> Result<T> {
        let mut value = T::default();
        let refusals = self.query(operation, batch, |message| fold(&mut value, message))?;
        match refusals.into_iter().next() {
            Some(refusal) => Err(refusal.into_error(operation, object.to_owned())),
            None => Ok(value),
        }
    }

    /// Sends one request that has `NLM_F_DUMP` and folds the entries it lists.
    ///
    /// A dump that the kernel marks as interrupted by a change is thrown away and made again.
    pub fn dump<T: Default>(
        &mut self,
        operation: &'static str,
        object: &str,
        batch: &mut Batch,
        mut fold: impl FnMut(&mut T, Message<'_>) -> Result<()>,
    ) -> Result<T> {
        for _attempt in 0..DUMP_ATTEMPTS {
            let mut value = T::default();
            let answer = self.exchange(operation, batch, |message| fold(&mut value, message))?;
            if let Some(refusal) = answer.refusals.into_iter().next() {
                return Err(refusal.into_error(operation, object.to_owned()));
            }
            if !answer.interrupted {
                return Ok(value);
            }
        }
        Err(Error::Unsettled { operation, object: object.to_owned() })
    }

    fn exchange(
        &mut self,
        operation: &'static str,
        batch: &mut Batch,
        mut visit: impl FnMut(Message<'_>) -> Result<()>,
    ) -> Result<Answer> {
        let first = self.sequence;
        batch.number(first);
        self.sequence = first.wrapping_add(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        self.send(operation, batch.as_bytes())?;
        let mut receive = std::mem::take(&mut self.receive);
        let answer = self.collect(operation, &mut receive, first, batch.len(), &mut visit);
        self.receive = receive;
        let answer = answer?;
        if answer.ended || !answer.refusals.is_empty() {
            return Ok(answer);
        }
        Err(Error::Malformed { operation, problem: "it ends without saying so" })
    }

    /// Reads until nothing is left, even past an error, so that no answer is ever taken for another request's.
    fn collect(
        &self,
        operation: &'static str,
        buffer: &mut [u8],
        first: u32,
        requests: usize,
        visit: &mut impl FnMut(Message<'_>) -> Result<()>,
    ) -> Result<Answer> {
        let mut answer = Answer::default();
        let mut outcome = Ok(());
        while let Some(length) = self.receive(operation, buffer)? {
            for message in Messages::new(&buffer[..length]) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if index >= requests || answer.note(index, message) || outcome.is_err() {
                    continue;
                }
                outcome = visit(message);
            }
        }
        outcome.map(|()| answer)
    }

    fn send(&self, operation: &'static str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.room {
            return Err(Error::TooLarge { operation, octets: bytes.len(), room: self.room });
        }
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(system(operation, "netlink send")(errno)),
            }
        }
    }

    /// The next datagram that is already here.
    fn receive(&self, operation: &'static str, buffer: &mut [u8]) -> Result<Option<usize>> {
        let length =
            receive(self.fd.as_fd(), buffer).map_err(system(operation, "netlink receive"))?;
        match length {
            Some(length) if length > buffer.len() => Err(Error::Malformed {
                operation,
                problem: "one datagram is longer than the receive buffer",
            }),
            length => Ok(length),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the control messages of one exchange said.
#[derive(Debug, Default)]
struct Answer {
    refusals: Vec<Refusal>,
    ended: bool,
    interrupted: bool,
}

impl Answer {
    /// Takes note of a message; true when it was a control message and carries no entry.
    fn note(&mut self, index: usize, message: Message<'_>) -> bool {
        self.interrupted |= message.flags & flags(libc::NLM_F_DUMP_INTR) != 0;
        match libc::c_int::from(message.kind) {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                let code = u32_at(message.payload, 0).map_or(0, u32::cast_signed);
                match code {
                    0 => self.ended = true,
                    _ => self.refusals.push(refusal(index, code, message)),
                }
                true
            }
            libc::NLMSG_NOOP | libc::NLMSG_OVERRUN => true,
            _ => false,
        }
    }
}

fn refusal(index: usize, code: i32, message: Message<'_>) -> Refusal {
    const MESSAGE: u16 = 1;
    const OFFSET: u16 = 2;
    // With NETLINK_CAP_ACK only the header of the refused message is repeated before the attributes.
    let fixed = if libc::c_int::from(message.kind) == libc::NLMSG_DONE { 4 } else { 20 };
    let attributes = match message.flags & flags(libc::NLM_F_ACK_TLVS) {
        0 => Attributes::new(&[]),
        _ => Attributes::new(message.payload.get(fixed..).unwrap_or_default()),
    };
    Refusal {
        index,
        errno: Errno::from_raw(code.wrapping_neg()),
        detail: attributes.find(MESSAGE).and_then(|attribute| attribute.text()).map(str::to_owned),
        offset: attributes
            .find(OFFSET)
            .and_then(|attribute| attribute.u32())
            .map(|offset| offset as usize),
    }
}

/// A netlink socket, bound and member of the groups, with its address.
pub(super) fn open(
    protocol: SockProtocol,
    name: &'static str,
    groups: &[u32],
) -> Result<(OwnedFd, u32)> {
    let failed = system("open netlink socket", name);
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
        .map_err(&failed)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(&failed)?;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        set_option(fd.as_fd(), option, 1).map_err(&failed)?;
    }
    for group in groups {
        set_option(fd.as_fd(), libc::NETLINK_ADD_MEMBERSHIP, *group).map_err(&failed)?;
    }
    setsockopt(&fd, RcvBufForce, &WANTED_RECEIVE_ROOM)
        .or_else(|_not_privileged| setsockopt(&fd, RcvBuf, &WANTED_RECEIVE_ROOM))
        .map_err(&failed)?;
    let address: NetlinkAddr = getsockname(fd.as_raw_fd()).map_err(&failed)?;
    Ok((fd, address.pid()))
}

/// The length of the next datagram that is already here, which may exceed the buffer.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Option<usize>> {
    loop {
        match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
            Ok(length) => return Ok(Some(length)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn set_option(fd: BorrowedFd<'_>, option: libc::c_int, value: u32) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<u32>()).expect("four fits");
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    Errno::result(result).map(|_zero| ())
}

fn system(operation: &'static str, object: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System { operation, object: object.to_owned(), errno }
}
