//! Connections: accepted, given an endpoint, carried.

use super::doors::{Behind, Shared};
use super::lower::Door;
use super::service::{Lease, Service};
use futures::FutureExt;
use kernel::stream::{Transport, listen_for, set_keepalive};
use model::Protocol;
use relay::{Pace, Server, is_servers_fault, relay, reset};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client waits for an endpoint, whichever it is.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one endpoint has the client to itself: as kube-proxy's mode userspace had it.
const ALONE: Duration = Duration::from_millis(250);
/// The same of the endpoint that a client is remembered for: so a SYN may be lost once (RFC 6298: after a second it is
/// repeated) before the client moves.
const ALONE_WITH_FRIENDS: Duration = Duration::from_millis(1250);
/// Endpoints that are tried before the client is given up.
const ATTEMPTS: usize = 16;
/// A silent client is probed after an hour, and given up within ten minutes more.
const KEEPALIVE: Keepalive = (Duration::from_hours(1), Duration::from_mins(1), 9);
/// So a client is asked at once, or when it was silent for a second.
const PROBE: Keepalive = (Duration::from_secs(1), Duration::from_mins(1), 9);
/// After so long it has been.
pub(super) const PROBED: Duration = Duration::from_millis(1500);

/// After how much silence a peer is probed, how often then, and how many times at most.
type Keepalive = (Duration, Duration, u32);

/// As long as somebody says what is behind the door.
pub(super) async fn accept(
    listener: Arc<TcpListener>,
    door: Door,
    mut behind: watch::Receiver<Behind>,
    shared: Arc<Shared>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            changed = behind.changed() => match changed {
                Ok(()) => continue,
                // Those that the kernel has taken so far are still for this process.
                Err(_over) => match listener.accept().now_or_never() {
                    Some(accepted) => accepted,
                    None => return,
                },
            },
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, source)) => {
                let Some(permit) = shared.limits.connection().await else { return };
                let (behind, shared) = (behind.borrow().clone(), shared.clone());
                let workers = shared.workers.clone();
                // Not owned by the door: a connection outlives it.
                workers.carry(client, async move |client| {
                    serve(client, source, door, behind, &shared).await;
                    drop(permit);
                });
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
        behind.tally.unserved();
        return reset(&client);
    };
    behind.service.made(&behind.front, source.ip(), &lease);
    let carried = behind.tally.clone().made();
    // The relay must not keep a replaced front end alive.
    drop(behind);
    // The client's side has it from its listener. One call for the endpoint's: it is soon known to be gone.
    kernel::stream::keep_alive(&server).ok();
    let count = |way, octets| {
        lease.octets().add(way, octets);
        carried.octets().add(way, octets);
    };
    let mut probing = shared.probing.subscribe();
    let relayed = relay(&client, &server, &shared.limits, count);
    tokio::pin!(relayed);
    let whole = loop {
        tokio::select! {
            outcome = &mut relayed => break outcome.is_ok(),
            () = lease.is_cut() => break false,
            Ok(()) = probing.changed() => match *probing.borrow_and_update() {
                true => keep_alive(&client, PROBE),
                false => keep_alive(&client, KEEPALIVE),
            },
        }
    };
    if !whole {
        reset(&client);
        reset(&server);
    }
}

/// Fails only on a connection that is already gone, which the relay finds out, and on SCTP, which has heartbeats of
/// its own.
fn keep_alive(socket: &impl AsFd, (idle, interval, count): Keepalive) {
    set_keepalive(socket, idle, interval, count).ok();
}

/// Accepted connections inherit what is said of the listener.
pub(super) fn listen(door: Door) -> io::Result<TcpListener> {
    let listener = listen_for(transport(door.protocol), door.address)?;
    keep_alive(&listener, KEEPALIVE);
    TcpListener::from_std(listener)
}

async fn dial(
    source: SocketAddr,
    door: Door,
    behind: &Behind,
    shared: &Shared,
) -> Option<(Lease, TcpStream)> {
    let Behind { front, service, .. } = behind;
    let ways = (source.ip(), door.address.ip());
    let target = front.target(ways.0, ways.1)?;
    let mut tried = Vec::new();
    let next = || {
        let lease = service.choose(front, target, ways, &tried)?;
        tried.push(lease.endpoint);
        let dialable = shared.is_dialable(door.protocol, lease.endpoint);
        Some(Attempt { lease, service, transport: dialable.then(|| transport(door.protocol)) })
    };
    let beside = if front.affinity.is_some() { ALONE_WITH_FRIENDS } else { ALONE };
    let pace = Pace { beside, attempt: PATIENCE, whole: Some(PATIENCE), attempts: ATTEMPTS };
    let (connection, _) = relay::dial(pace, &shared.limits, next).await;
    connection.map(|(attempt, stream)| (attempt.lease, stream))
}

struct Attempt<'a> {
    lease: Lease,
    service: &'a Service,
    /// `None`: the endpoint may not be connected to.
    transport: Option<Transport>,
}

impl Server for Attempt<'_> {
    async fn connect(&self) -> io::Result<TcpStream> {
        let transport = self.transport.ok_or(ErrorKind::HostUnreachable)?;
        relay::connect(self.lease.endpoint, transport).await
    }

    fn is_slow(&self) {
        self.service.passed_over(&self.lease);
    }

    fn failed(&self, error: &io::Error) {
        let endpoint = self.lease.endpoint;
        if is_servers_fault(error) {
            tracing::debug!(%endpoint, %error, "endpoint passed over");
            self.service.passed_over(&self.lease);
        } else {
            tracing::warn!(%endpoint, %error, "cannot connect");
        }
    }
}

fn transport(protocol: Protocol) -> Transport {
    if protocol == Protocol::Sctp { Transport::Sctp } else { Transport::Tcp }
}
