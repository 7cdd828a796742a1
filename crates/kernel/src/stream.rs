//! TCP and SCTP sockets as a balancer wants them: listening on addresses that may come and go, and noticing
//! peers that vanished.

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage,
    sockopt,
};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Connections that wait for `accept`; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What a connection is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    /// In the style of TCP (RFC 6458, section 4): one association a socket, used like a connection.
    Sctp,
}

/// Listens on `address`, which the machine need not have yet. Never blocks.
///
/// Accepted connections do not wait to fill packets (`TCP_NODELAY`); they inherit this, and what
/// [`set_keepalive`] says of the listener.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_for(Transport::Tcp, address)
}

/// Like [`listen`]. Errors: `EPROTONOSUPPORT` where the kernel has no such transport.
pub fn listen_for(transport: Transport, address: SocketAddr) -> io::Result<TcpListener> {
    let fd = open(address, transport)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind_freely(&fd, address)?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

/// A socket for datagrams to `address`, which the machine need not have yet. Never blocks.
pub fn receive_at(address: SocketAddr) -> io::Result<UdpSocket> {
    let fd: OwnedFd = socket::socket(family(address), SockType::Datagram, FLAGS, None)?;
    bind_freely(&fd, address)?;
    Ok(UdpSocket::from(fd))
}

fn bind_freely(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    // One option serves both families (ip(7), since Linux 4.15 also for IPv6 sockets).
    socket::setsockopt(fd, sockopt::IpFreebind, &true)?;
    Ok(socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?)
}

/// Begins to connect; the stream is writable once that has succeeded or failed, and then knows the error.
pub fn begin_connect(address: SocketAddr, transport: Transport) -> io::Result<TcpStream> {
    let fd = open(address, transport)?;
    match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(errno) => Err(errno.into()),
    }
}

fn open(address: SocketAddr, transport: Transport) -> io::Result<OwnedFd> {
    let protocol = match transport {
        Transport::Tcp => SockProtocol::Tcp,
        Transport::Sctp => SockProtocol::Sctp,
    };
    let fd: OwnedFd = socket::socket(family(address), SockType::Stream, FLAGS, protocol)?;
    if transport == Transport::Tcp {
        socket::setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    }
    Ok(fd)
}

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// What there is of the stream, as far as there is room for it; 0: its end. Never blocks.
pub fn receive(stream: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT;
    Ok(socket::recv(stream.as_fd().as_raw_fd(), buffer, flags)?)
}

/// Sends the end of the stream; the other direction stays open.
pub fn finish(stream: &impl AsFd) -> io::Result<()> {
    Ok(socket::shutdown(stream.as_fd().as_raw_fd(), socket::Shutdown::Write)?)
}

/// Probes a silent peer as the machine is used to (`net.ipv4.tcp_keepalive_time`: after two hours).
pub fn keep_alive(stream: &impl AsFd) -> io::Result<()> {
    Ok(socket::setsockopt(&stream.as_fd(), sockopt::KeepAlive, &true)?)
}

/// Probes a silent peer after `idle`, then every `interval`, and gives up after `count` of them.
pub fn set_keepalive(
    stream: &impl AsFd,
    idle: Duration,
    interval: Duration,
    count: u32,
) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
    let fd = stream.as_fd();
    socket::setsockopt(&fd, sockopt::KeepAlive, &true)?;
    socket::setsockopt(&fd, sockopt::TcpKeepIdle, &seconds(idle))?;
    socket::setsockopt(&fd, sockopt::TcpKeepInterval, &seconds(interval))?;
    Ok(socket::setsockopt(&fd, sockopt::TcpKeepCount, &count)?)
}
