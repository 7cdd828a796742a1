//! What reaches a socket at all, by classic BPF (`SO_ATTACH_FILTER`).
//!
//! Sockets of datagrams and of netlink take a filter from anyone; those of TCP do so from CAP_NET_ADMIN only where the
//! kernel is new (seen with 6.18: `EPERM`).
//!
//! What the filter refuses is lost before the socket sees it: a packet as if a packet filter had dropped it, a netlink
//! notification without taking room in the socket's buffer.

#![allow(
    clippy::cast_possible_truncation,
    reason = "instruction codes of linux/filter.h and lengths of prefixes, all far below 2^16"
)]

use ipnet::IpNet;
use nix::errno::Errno;
use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Offsets that count from the network header begin here (`SKF_NET_OFF`).
const NETWORK: u32 = 0xfff0_0000;
/// Where the source address is in an IPv4 and in an IPv6 header.
const SOURCE: [u32; 2] = [12, 8];
/// Where a netlink message has the port of who asked for it (`nlmsghdr.nlmsg_pid`).
const ASKING_PORT: u32 = 12;
/// Where a TCP header has its flags, and the one that begins a connection.
const FLAGS: u32 = 13;
const SYN: u32 = 1 << 1;
/// `BPF_MAXINSNS`.
const MOST: usize = 4096;

/// Lets only these sources' packets reach the socket; an empty list lets nobody's. Replaces an earlier filter.
///
/// Sockets that it accepts inherit the filter. Errors: `E2BIG` where the list takes more instructions than the
/// kernel runs.
pub fn admit_only(socket: &impl AsFd, sources: &[IpNet]) -> io::Result<()> {
    let mut filter: Vec<_> = sources.iter().flat_map(admit).collect();
    filter.push(answer(0));
    Ok(attach(socket, filter)?)
}

/// Lets no new connection of TCP begin at a listening socket; those that have begun come. Replaces an earlier filter.
pub fn admit_no_new(listener: &impl AsFd) -> io::Result<()> {
    let filter = vec![
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, FLAGS),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 1, SYN),
        answer(0),
        answer(u32::MAX),
    ];
    Ok(attach(listener, filter)?)
}

/// Lets no netlink notification reach the socket that tells of what was asked for from these ports. Replaces an earlier
/// filter.
pub(crate) fn pass_over(socket: &impl AsFd, ports: &[u32]) -> nix::Result<()> {
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, ASKING_PORT)];
    for port in ports {
        // Words are loaded as the network has them, and netlink's are the machine's.
        let wanted = port.to_be();
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, wanted));
        filter.push(answer(0));
    }
    filter.push(answer(u32::MAX));
    attach(socket, filter)
}

fn attach(socket: &impl AsFd, mut filter: Vec<libc::sock_filter>) -> nix::Result<()> {
    if filter.len() > MOST {
        return Err(Errno::E2BIG);
    }
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    set(socket, libc::SO_ATTACH_FILTER, &program)
}

/// Takes the filter away. A socket without one is no error.
pub fn admit_all(socket: &impl AsFd) -> io::Result<()> {
    match set(socket, libc::SO_DETACH_FILTER, &0) {
        Err(Errno::ENOENT) => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn set<T>(socket: &impl AsFd, option: i32, value: &T) -> nix::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value outlives the call, its length is its own, and the kernel copies and checks the program.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const *value).cast(),
            length,
        )
    };
    Errno::result(outcome).map(drop)
}

/// Word by word: a difference leads past the answer.
fn admit(net: &IpNet) -> Vec<libc::sock_filter> {
    let (octets, offset) = match net.network() {
        IpAddr::V4(address) => (address.octets().to_vec(), SOURCE[0]),
        IpAddr::V6(address) => (address.octets().to_vec(), SOURCE[1]),
    };
    let length = usize::from(net.prefix_len());
    let words = length.div_ceil(32);
    let mut filter = Vec::new();
    for (number, word) in octets.chunks(4).take(words).enumerate() {
        let bits = (length - 32 * number).min(32);
        let mask = u32::MAX << (32 - bits);
        let wanted = word.iter().fold(0, |value, octet| value << 8 | u32::from(*octet));
        let past = 3 * (words - 1 - number) + 1;
        filter.extend([
            instruction(
                libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
                0,
                NETWORK + offset + 4 * number as u32,
            ),
            instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, mask),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, past as u8, wanted),
        ]);
    }
    filter.push(answer(u32::MAX));
    filter
}

fn answer(octets: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, octets)
}

fn instruction(code: u32, otherwise: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: otherwise, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{SocketAddr, UdpSocket};

    /// What the program says of a packet from `source`, instruction by instruction.
    fn run(filter: &[libc::sock_filter], source: IpAddr) -> bool {
        let (octets, offset) = match source {
            IpAddr::V4(address) => (address.octets().to_vec(), SOURCE[0]),
            IpAddr::V6(address) => (address.octets().to_vec(), SOURCE[1]),
        };
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let libc::sock_filter { code, jf, k, .. } = filter[at];
            at += 1;
            match u32::from(code) & 0x07 {
                libc::BPF_LD => {
                    let at = (k - NETWORK - offset) as usize;
                    value = u32::from_be_bytes(octets[at..at + 4].try_into().unwrap());
                }
                libc::BPF_ALU => value &= k,
                libc::BPF_JMP => at += if value == k { 0 } else { usize::from(jf) },
                _ => return k != 0,
            }
        }
    }

    fn net(v4: bool) -> impl Strategy<Value = IpNet> {
        let (length, octets) = (0..=if v4 { 32_u8 } else { 128 }, any::<[u8; 16]>());
        (octets, length).prop_map(move |(octets, length)| {
            let v4_octets = [octets[0], octets[1], octets[2], octets[3]];
            let address = if v4 { IpAddr::from(v4_octets) } else { IpAddr::from(octets) };
            IpNet::new(address, length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_prefixes_say(
            (nets, strangers) in any::<bool>().prop_flat_map(|v4| {
                let nets = || prop::collection::vec(net(v4), 0..6);
                (nets(), nets())
            }),
        ) {
            let mut filter: Vec<_> = nets.iter().flat_map(admit).collect();
            filter.push(answer(0));
            for source in nets.iter().chain(&strangers).map(IpNet::addr) {
                let wanted = nets.iter().any(|net| net.contains(&source));
                prop_assert_eq!(run(&filter, source), wanted, "{} by {:?}", source, nets);
            }
        }
    }

    #[test]
    fn the_kernel_runs_it() {
        for host in ["127.0.0.1", "::1"] {
            let host: IpAddr = host.parse().unwrap();
            let at = |port| SocketAddr::new(host, port);
            let (server, client) =
                (UdpSocket::bind(at(0)).unwrap(), UdpSocket::bind(at(0)).unwrap());
            let to = server.local_addr().unwrap();
            let own = IpNet::from(host);
            let elsewhere: IpNet =
                if host.is_ipv4() { "127.0.0.2/31" } else { "::2/127" }.parse().unwrap();
            admit_only(&server, &[elsewhere]).unwrap();
            client.send_to(b"lost", to).unwrap();
            admit_only(&server, &[elsewhere, own]).unwrap();
            client.send_to(b"let in", to).unwrap();
            admit_only(&server, &[]).unwrap();
            client.send_to(b"lost", to).unwrap();
            admit_all(&server).unwrap();
            admit_all(&server).unwrap();
            client.send_to(b"open", to).unwrap();
            let mut heard = [0; 16];
            for wanted in [&b"let in"[..], b"open"] {
                let (length, _from) = server.recv_from(&mut heard).unwrap();
                assert_eq!(&heard[..length], wanted);
            }
        }
    }
}
