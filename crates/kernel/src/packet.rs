//! Raw sockets: VRRP over IPv4, whole Ethernet frames, and segments in somebody else's name.
//!
//! The sockets never block, so that an event loop may wait on their descriptors.

mod forged;

pub use forged::send_forged_syn;

use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, SockFlag, SockType, SockaddrIn, sockopt};
use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use wire::{Mac, vrrp};

/// Precedence "internetwork control": VRRP goes before what it protects.
const TOS_CONTROL: i32 = 0xc0;

/// Sends and receives VRRP packets on one interface.
#[derive(Debug)]
pub struct VrrpSocket(OwnedFd);

impl VrrpSocket {
    /// Joins [`vrrp::GROUP`] on `interface`; packets leave with `source` as their source address.
    pub fn open(interface: &str, source: Ipv4Addr) -> Result<Self> {
        let fd = raw_socket(libc::AF_INET, vrrp::PROTOCOL.into(), interface)?;
        let failure = |errno| failed("set up vrrp socket", interface, errno);
        socket::setsockopt(&fd, sockopt::BindToDevice, &interface.into()).map_err(failure)?;
        socket::setsockopt(&fd, sockopt::IpMulticastTtl, &vrrp::TTL).map_err(failure)?;
        socket::setsockopt(&fd, sockopt::IpMulticastLoop, &false).map_err(failure)?;
        socket::setsockopt(&fd, sockopt::Ipv4Tos, &TOS_CONTROL).map_err(failure)?;
        let index = index(interface)?;
        let membership = libc::ip_mreqn {
            imr_multiaddr: in_addr(vrrp::GROUP),
            imr_address: in_addr(source),
            imr_ifindex: index.cast_signed(),
        };
        set_ip_option(&fd, libc::IP_ADD_MEMBERSHIP, &membership).map_err(failure)?;
        set_ip_option(&fd, libc::IP_MULTICAST_IF, &membership).map_err(failure)?;
        Ok(VrrpSocket(fd))
    }

    /// Sends the payload of an IPv4 packet to the group.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        let to = SockaddrIn::from(SocketAddrV4::new(vrrp::GROUP, 0));
        socket::sendto(self.0.as_raw_fd(), payload, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// The next packet that waits, with its IPv4 header; `None` when there is none.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        receive(&self.0, buffer)
    }
}

/// Sends and receives Ethernet frames on one interface.
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Frames of `ether_type` are received; none where it is zero.
    pub fn open(interface: &str, ether_type: u16) -> Result<Self> {
        // Opened for no protocol: nothing of another interface arrives before the socket is bound.
        let fd = raw_socket(libc::AF_PACKET, 0, interface)?;
        let family = u16::try_from(libc::AF_PACKET).expect("address families are small");
        let address = libc::sockaddr_ll {
            sll_family: family,
            sll_protocol: ether_type.to_be(),
            sll_ifindex: index(interface)?.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the pointer is to a sockaddr_ll that outlives the call, and the length is its own.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        };
        Errno::result(result).map_err(|errno| failed("bind packet socket", interface, errno))?;
        Ok(FrameSocket(fd))
    }

    /// The Ethernet address of the interface.
    pub fn mac(&self) -> Result<Mac> {
        // SAFETY: all-zero octets are a valid sockaddr_ll, a structure of integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = length_of::<libc::sockaddr_ll>();
        let pointer = (&raw mut address).cast();
        // SAFETY: both pointers outlive the call, and `length` is the room behind `pointer`.
        let result = unsafe { libc::getsockname(self.0.as_raw_fd(), pointer, &raw mut length) };
        Errno::result(result)
            .map_err(|errno| failed("read the address of", "packet socket", errno))?;
        match (address.sll_halen, address.sll_addr.first_chunk()) {
            (6, Some(mac)) => Ok(Mac(*mac)),
            _ => Err(Error::Malformed {
                operation: "read the address of a packet socket",
                problem: "no Ethernet address",
            }),
        }
    }

    /// Sends a whole frame, header included.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        socket::send(self.0.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame that waits; `None` when there is none.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        receive(&self.0, buffer)
    }
}

macro_rules! descriptor {
    ($($socket:ident),*) => { $(
        impl AsFd for $socket {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $socket {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }
    )* };
}

descriptor!(VrrpSocket, FrameSocket);

fn receive<'a>(fd: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    loop {
        match socket::recv(fd.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => return Ok(Some(&buffer[..length])),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// nix knows only some protocols, and 112 is none of them.
fn raw_socket(family: i32, protocol: i32, interface: &str) -> Result<OwnedFd> {
    let kind =
        SockType::Raw as i32 | SockFlag::SOCK_CLOEXEC.bits() | SockFlag::SOCK_NONBLOCK.bits();
    // SAFETY: takes three numbers and returns a new descriptor or an error.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    let fd = Errno::result(fd).map_err(|errno| failed("open raw socket", interface, errno))?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_ip_option<T>(fd: &OwnedFd, option: i32, value: &T) -> nix::Result<()> {
    // SAFETY: the pointer is to a T that outlives the call, and the length is its own.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const *value).cast(),
            length_of::<T>(),
        )
    };
    Errno::result(result).map(drop)
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("socket structures are small")
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(address).to_be() }
}

fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface)
        .map_err(|errno| failed("find interface", interface, errno))
}

fn failed(operation: &'static str, object: &str, errno: Errno) -> Error {
    Error::System { operation, object: object.to_owned(), errno }
}
