//! One TCP segment in somebody else's name.

use super::failed;
use crate::Result;
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const TCP_HEADER: usize = 20;
const SYN: u8 = 1 << 1;
const TTL: u8 = 64;

/// Sends a SYN as if `from` had sent it, through the network namespace of the calling thread.
///
/// A peer in the midst of a connection with `from` answers with a challenge (RFC 5961 §4.2).
pub fn send_forged_syn(from: SocketAddr, to: SocketAddr) -> Result<()> {
    let packet = syn(from, to);
    let failure = |errno| failed("send forged segment to", &to.to_string(), errno);
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = SockType::Raw as i32 | SockFlag::SOCK_CLOEXEC.bits();
    // SAFETY: takes three numbers and returns a new descriptor or an error.
    let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) };
    let fd = Errno::result(fd).map_err(failure)?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let sent = match to.ip() {
        IpAddr::V4(address) => {
            let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
            socket::sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty())
        }
        IpAddr::V6(address) => {
            let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, 0));
            socket::sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty())
        }
    };
    sent.map(drop).map_err(failure)
}

/// The whole packet. The kernel fills in the length, identification and checksum of an IPv4 header.
fn syn(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut segment = Vec::with_capacity(TCP_HEADER);
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend([0; 8]);
    segment.extend([0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [octets(from.ip()), octets(to.ip()), vec![0, 6, 0, 20]].concat();
    let sum = checksum(pseudo.iter().chain(&segment));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut packet = match to.ip() {
        IpAddr::V4(_) => vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, TTL, 6, 0, 0],
        IpAddr::V6(_) => vec![0x60, 0, 0, 0, 0, 20, 6, TTL],
    };
    packet.extend(octets(from.ip()));
    packet.extend(octets(to.ip()));
    packet.extend(segment);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071, of an even number of octets.
fn checksum<'a>(octets: impl Iterator<Item = &'a u8>) -> u16 {
    let sum: u32 = octets
        .enumerate()
        .map(|(place, octet)| if place % 2 == 0 { u32::from(*octet) << 8 } else { (*octet).into() })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_holds_in_both_families() {
        for (from, to, header) in [
            ("10.96.0.10:80", "10.244.0.5:40000", 20),
            ("[fd00:96::a]:80", "[fd00:244::5]:40000", 40),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let packet = syn(from, to);
            assert_eq!(packet.len(), header + TCP_HEADER);
            let pseudo = [octets(from.ip()), octets(to.ip()), vec![0, 6, 0, 20]].concat();
            assert_eq!(checksum(pseudo.iter().chain(&packet[header..])), 0);
            assert_eq!(packet[header + 13], SYN);
        }
    }
}
