//! Connections: accepted, given an endpoint, carried.

use super::apply::{Behind, Shared};
use super::lower::Door;
use super::relay::relay;
use super::service::Lease;
use kernel::stream::{Transport, begin_connect, set_keepalive};
use model::Protocol;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// An endpoint that says nothing for so long is passed over.
const PATIENCE: Duration = Duration::from_secs(4);
/// Endpoints that are tried before the client is given up.
const ATTEMPTS: usize = 4;
/// A silent peer is probed after two hours' half, as the kernel would, but given up within ten minutes more.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_hours(1), Duration::from_mins(1), 9);

/// For ever.
pub(super) async fn accept(
    listener: Arc<TcpListener>,
    door: Door,
    behind: watch::Receiver<Behind>,
    shared: Arc<Shared>,
) {
    loop {
        match listener.accept().await {
            Ok((client, source)) => {
                let Some(permit) = shared.limits.connection().await else { return };
                let (behind, shared) = (behind.borrow().clone(), shared.clone());
                // Not owned by the door: a connection outlives it.
                drop(tokio::spawn(async move {
                    serve(client, source, door, behind, &shared).await;
                    drop(permit);
                }));
            }
            // The client gave up first, or descriptors ran out; both pass.
            Err(error) => {
                tracing::warn!(%error, address = %door.address, "cannot accept");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(client: TcpStream, source: SocketAddr, door: Door, behind: Behind, shared: &Shared) {
    let Some((lease, server)) = dial(source, door, &behind, shared).await else {
        return reset(&client);
    };
    behind.made.fetch_add(1, Relaxed);
    // The relay must not keep a replaced front end alive.
    drop(behind);
    for stream in [&client, &server] {
        let (idle, interval, count) = KEEPALIVE;
        // Fails only on a connection that is already gone, which the relay finds out, and on SCTP, which has
        // heartbeats of its own.
        set_keepalive(stream, idle, interval, count).ok();
    }
    let whole = tokio::select! {
        outcome = relay(&client, &server, &shared.limits) => outcome.is_ok(),
        () = lease.is_cut() => false,
    };
    if !whole {
        reset(&client);
        reset(&server);
    }
}

/// Closing it will send a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is already gone.
    stream.set_zero_linger().ok();
}

async fn dial(
    source: SocketAddr,
    door: Door,
    behind: &Behind,
    shared: &Shared,
) -> Option<(Lease, TcpStream)> {
    let ways = (source.ip(), door.address.ip());
    let target = behind.front.target(ways.0, ways.1)?;
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS {
        let lease = behind.service.choose(&behind.front, target, ways, &tried)?;
        let endpoint = lease.endpoint;
        match timeout(PATIENCE, connect(endpoint, door.protocol, shared)).await {
            Ok(Ok(stream)) => return Some((lease, stream)),
            Ok(Err(error)) => tracing::debug!(%endpoint, %error, "endpoint passed over"),
            Err(_elapsed) => tracing::debug!(%endpoint, "endpoint passed over: no answer"),
        }
        tried.push(endpoint);
    }
    None
}

async fn connect(to: SocketAddr, protocol: Protocol, shared: &Shared) -> io::Result<TcpStream> {
    if !shared.is_dialable(protocol, to) {
        return Err(ErrorKind::HostUnreachable.into());
    }
    let stream = TcpStream::from_std(begin_connect(to, transport(protocol))?)?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

pub(super) fn transport(protocol: Protocol) -> Transport {
    if protocol == Protocol::Sctp { Transport::Sctp } else { Transport::Tcp }
}
