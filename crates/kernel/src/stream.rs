//! TCP sockets as a balancer wants them: listening on addresses that may come and go, and noticing
//! peers that vanished.

use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt,
};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Connections that wait for `accept`; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listens on `address`, which the machine need not have yet (`IP_FREEBIND`). Never blocks.
///
/// Accepted connections do not wait to fill packets (`TCP_NODELAY`); they inherit this, and what
/// [`set_keepalive`] says of the listener.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket::socket(family, SockType::Stream, flags, None)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // One option serves both families (ip(7), since Linux 4.15 also for IPv6 sockets).
    socket::setsockopt(&fd, sockopt::IpFreebind, &true)?;
    socket::setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

/// Sends the end of the stream; the other direction stays open.
pub fn finish(stream: &impl AsFd) -> io::Result<()> {
    Ok(socket::shutdown(stream.as_fd().as_raw_fd(), socket::Shutdown::Write)?)
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
