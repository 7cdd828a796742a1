//! One packet sent and watched: who got it, from whom it seemed to come, and whether the answer came back.

use kernel::Errno;
use kernel::stream::{Transport, listen_for};
use kernel::sysctl;
use model::Protocol;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, setsockopt,
    socket,
};
use program::Packet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    /// A server got it and saw this source; `answered`: the sender got the answer from where it had sent to.
    Reached {
        by: SocketAddr,
        source: IpAddr,
        answered: bool,
    },
    /// TCP reset, SCTP abort or ICMP port unreachable.
    Refused,
    /// ICMP host or network unreachable.
    Unreachable,
    Silence,
}

/// Sockets that listen in all namespaces. One thread serves them, in step with the sender: nothing races.
#[derive(Default)]
pub(crate) struct Servers {
    udp: Vec<(SocketAddr, UdpSocket)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
    /// None where the kernel has no SCTP. One association a socket, used like a connection of TCP.
    sctp: Vec<(SocketAddr, TcpListener)>,
}

impl Servers {
    /// Opens one socket of each protocol at each address, in the calling thread's namespace.
    pub(crate) fn listen(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        for at in addresses {
            let (udp, tcp) = (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
            udp.set_nonblocking(true).unwrap();
            tcp.set_nonblocking(true).unwrap();
            self.udp.push((at, udp));
            self.tcp.push((at, tcp));
            match listen_for(Transport::Sctp, at) {
                Ok(sctp) => {
                    sctp.set_nonblocking(true).unwrap();
                    self.sctp.push((at, sctp));
                }
                Err(error) => assert!(is_unknown(&error), "SCTP at {at}: {error}"),
            }
        }
    }

    pub(crate) fn know_sctp(&self) -> bool {
        !self.sctp.is_empty()
    }

    fn streams(&self, protocol: Protocol) -> &[(SocketAddr, TcpListener)] {
        if protocol == Protocol::Sctp { &self.sctp } else { &self.tcp }
    }

    fn sockets(&self, protocol: Protocol) -> Vec<BorrowedFd<'_>> {
        match protocol {
            Protocol::Udp => self.udp.iter().map(|(_, socket)| socket.as_fd()).collect(),
            _ => self.streams(protocol).iter().map(|(_, socket)| socket.as_fd()).collect(),
        }
    }

    /// Takes so many datagrams, or as many as come in time, and says where they came to.
    pub(crate) fn gather(&self, number: usize, patience: Duration) -> Vec<(SocketAddr, usize)> {
        let deadline = Instant::now() + patience;
        let mut gathered = Vec::new();
        let count =
            |socket: &UdpSocket| (0..).take_while(|_| socket.recv(&mut [0; 8]).is_ok()).count();
        let mut left = number;
        while left > 0 && Instant::now() < deadline {
            let all = self.sockets(Protocol::Udp).into_iter();
            let mut all: Vec<_> = all.map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
            await_any(&mut all, deadline);
            let counts = self.udp.iter().map(|(at, socket)| (*at, count(socket)));
            gathered.extend(counts.filter(|(_, count)| *count > 0));
            left = number.saturating_sub(gathered.iter().map(|(_, count)| count).sum());
        }
        gathered
    }

    /// Sends the packet from the calling thread's namespace and watches it until its fate is known.
    ///
    /// `answer`: wait for the answer too, not only for a server to be reached.
    pub(crate) fn watch(&self, packet: Packet, answer: bool, patience: Duration) -> Sight {
        let mut watch = match Watch::begin(packet) {
            Ok(watch) => watch,
            Err(error) => return failure(&error),
        };
        let deadline = Instant::now() + patience;
        while !watch.is_over(answer) && Instant::now() < deadline {
            let ready = self.wait(&watch, deadline);
            self.serve(&mut watch, &ready);
            watch.listen();
        }
        watch.sight()
    }

    /// Which sockets of its protocol have something.
    fn wait(&self, watch: &Watch, deadline: Instant) -> Vec<bool> {
        let (own, events) = match &watch.sender {
            Sender::Datagram(socket) => (socket.as_fd(), PollFlags::POLLIN),
            Sender::Stream(_) if watch.answered => (watch.sender.as_fd(), PollFlags::empty()),
            Sender::Stream(stream) => (stream.as_fd(), PollFlags::POLLOUT),
        };
        let servers = self.sockets(watch.packet.protocol).into_iter();
        let servers = servers.map(|socket| PollFd::new(socket, PollFlags::POLLIN));
        let mut all: Vec<_> = servers.chain([PollFd::new(own, events)]).collect();
        await_any(&mut all, deadline);
        all.iter().map(|socket| socket.any().unwrap()).collect()
    }

    /// Takes what has arrived and answers it.
    fn serve(&self, watch: &mut Watch, ready: &[bool]) {
        match watch.packet.protocol {
            Protocol::Udp => {
                those(&self.udp, ready).for_each(|(at, socket)| watch.datagram(*at, socket));
            }
            protocol => those(self.streams(protocol), ready)
                .for_each(|(at, listener)| watch.connection(*at, listener)),
        }
    }
}

fn those<'a, T>(all: &'a [T], ready: &'a [bool]) -> impl Iterator<Item = &'a T> {
    all.iter().zip(ready).filter_map(|(one, ready)| ready.then_some(one))
}

fn await_any(sockets: &mut [PollFd<'_>], deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    poll(sockets, PollTimeout::try_from(left).unwrap()).unwrap();
}

/// A packet on its way.
struct Watch {
    packet: Packet,
    sender: Sender,
    reached: Option<(SocketAddr, IpAddr)>,
    answered: bool,
    failure: Option<Sight>,
}

enum Sender {
    Datagram(UdpSocket),
    Stream(TcpStream),
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Sender::Datagram(socket) => socket.as_fd(),
            Sender::Stream(stream) => stream.as_fd(),
        }
    }
}

impl Watch {
    fn begin(packet: Packet) -> io::Result<Self> {
        let sender = match packet.protocol {
            Protocol::Udp => Sender::Datagram(datagram(packet)?),
            _ => Sender::Stream(connection(packet)?),
        };
        Ok(Watch { packet, sender, reached: None, answered: false, failure: None })
    }

    /// What tells this packet from an older one: the sender's port, which is never used twice.
    fn mark(&self) -> [u8; 2] {
        self.packet.source.port().to_be_bytes()
    }

    fn datagram(&mut self, at: SocketAddr, socket: &UdpSocket) {
        let mut octets = [0; 8];
        while let Ok((length, source)) = socket.recv_from(&mut octets) {
            if octets[..length] == self.mark() {
                self.reached = Some((at, source.ip()));
                socket.send_to(&octets[..length], source).unwrap();
            }
        }
    }

    /// Takes one, which is there: SCTP lets whoever asks for nobody wait for the next tick of the clock.
    fn connection(&mut self, at: SocketAddr, listener: &TcpListener) {
        if let Ok((_closed_at_once, source)) = listener.accept() {
            self.reached = Some((at, source.ip()));
        }
    }

    /// Takes what has come back to the sender.
    fn listen(&mut self) {
        match &self.sender {
            Sender::Datagram(socket) => match socket.recv(&mut [0; 8]) {
                Ok(_) => self.answered = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.failure = Some(failure(&error)),
            },
            Sender::Stream(stream) => match stream.take_error().unwrap() {
                Some(error) => self.failure = Some(failure(&error)),
                None => self.answered |= stream.peer_addr().is_ok(),
            },
        }
    }

    fn is_over(&self, answer: bool) -> bool {
        self.failure.is_some() || self.reached.is_some() && (self.answered || !answer)
    }

    fn sight(self) -> Sight {
        let answered = self.answered;
        let reached = self.reached.map(|(by, source)| Sight::Reached { by, source, answered });
        reached.or(self.failure).unwrap_or(Sight::Silence)
    }
}

/// Sends one datagram from a socket that hears of ICMP errors.
fn datagram(packet: Packet) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(packet.source)?;
    hear_errors(&socket, packet.source)?;
    socket.set_nonblocking(true)?;
    socket.connect(packet.destination)?;
    match socket.send(&packet.source.port().to_be_bytes()) {
        // A rule on the way out refused it: the ICMP error is waiting.
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(socket),
        sent => sent.map(|_| socket),
    }
}

/// TCP tells of ICMP errors without being asked.
fn hear_errors(socket: &impl AsFd, own: SocketAddr) -> io::Result<()> {
    let asked = match own {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvErr, &true),
    };
    asked.map_err(io::Error::from)
}

fn connection(packet: Packet) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let family = if packet.source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let protocol =
        if packet.protocol == Protocol::Sctp { SockProtocol::Sctp } else { SockProtocol::Tcp };
    if protocol == SockProtocol::Sctp {
        ask_again_soon();
    }
    let socket: OwnedFd = socket(family, SockType::Stream, flags, protocol)?;
    if protocol == SockProtocol::Sctp {
        hear_errors(&socket, packet.source)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(packet.source))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(packet.destination)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// An answer that comes while the sender still sends, SCTP takes note of when it asks again: after three seconds.
fn ask_again_soon() {
    for name in ["rto_min", "rto_initial"] {
        sysctl::write(&format!("net/sctp/{name}"), "100").unwrap();
    }
}

fn is_unknown(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT))
}

fn failure(error: &io::Error) -> Sight {
    match error.raw_os_error().map(Errno::from_raw) {
        // A relay accepts before it knows that nobody is there.
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => Sight::Refused,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Sight::Unreachable,
        _ => panic!("{error}"),
    }
}
