//! Datagrams: a conversation for each client, with a socket of its own towards its endpoint.

use super::doors::{Behind, Carried, Shared, Task};
use super::lower::Door;
use super::service::{Lease, Service};
use super::sessions::Sessions;
use relay::{Permit, Way, with_scratch};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Datagrams that one client's socket takes in a row before others have their turn.
const RUN: usize = 64;

struct Post {
    socket: Arc<UdpSocket>,
    door: Door,
    began: Instant,
    /// Written by the door's task, and by those that carry answers.
    sessions: Mutex<Sessions<Session>>,
}

struct Session {
    service: Arc<Service>,
    lease: Lease,
    carried: Carried,
    server: Arc<UdpSocket>,
    _answers: Task,
    _permit: Permit,
}

/// As long as somebody says what is behind the door; then until the conversations that there are have ended.
pub(super) async fn serve(
    socket: Arc<UdpSocket>,
    door: Door,
    mut behind: watch::Receiver<Behind>,
    shared: Arc<Shared>,
) {
    let (began, sessions) = (Instant::now(), Mutex::default());
    let post = Arc::new(Post { socket, door, began, sessions });
    loop {
        let end = post.sessions().next_end().map(|end| began + end);
        tokio::select! {
            ready = post.socket.readable() => {
                let behind = behind.borrow().clone();
                match ready {
                    Ok(()) => hear(&post, &behind, &shared),
                    Err(error) => return tracing::error!(%error, "cannot receive"),
                }
            }
            () = sleep_until(end.unwrap_or(began)), if end.is_some() => {
                let over = post.sessions().expire(post.now());
                drop(over);
            }
            changed = behind.changed() => {
                if changed.is_err() {
                    return outlive(&post).await;
                }
                let service = behind.borrow().service.clone();
                post.sessions().retain(|session| service.is_serving(session.lease.endpoint));
            }
        }
    }
}

/// Somebody else hears the clients now; answers to what was heard before still have to go out.
async fn outlive(post: &Arc<Post>) {
    loop {
        let next = post.sessions().next_end();
        let Some(end) = next else { return };
        sleep_until(post.began + end).await;
        let over = post.sessions().expire(post.now());
        drop(over);
    }
}

fn hear(post: &Arc<Post>, behind: &Behind, shared: &Shared) {
    with_scratch(|buffer| {
        for _datagram in 0..RUN {
            match post.socket.try_recv_from(buffer) {
                Ok((length, client)) => pass(post, behind, shared, client, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An answer met nobody; the datagrams behind it are none the worse.
                Err(_refused) => {}
            }
        }
    });
}

/// To the client's endpoint. Where nobody listens there any more, another one is chosen.
fn pass(post: &Arc<Post>, behind: &Behind, shared: &Shared, client: SocketAddr, datagram: &[u8]) {
    let known = post.sessions().hear(post.now(), client).map(|session| {
        session.count(Way::There, datagram.len());
        session.server.clone()
    });
    if let Some(server) = known {
        match server.try_send(datagram) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                post.refused(client);
            }
            // What does not go through is lost, as datagrams are.
            _ => return,
        }
    }
    if let Some(session) = begin(post, behind, shared, client, datagram) {
        post.sessions().begin(post.now(), client, session);
    }
}

fn begin(
    post: &Arc<Post>,
    behind: &Behind,
    shared: &Shared,
    client: SocketAddr,
    datagram: &[u8],
) -> Option<Session> {
    let ways = (client.ip(), post.door.address.ip());
    let Some(target) = behind.front.target(ways.0, ways.1) else {
        behind.tally.unserved();
        return None;
    };
    let mut tried = Vec::new();
    loop {
        let Some(lease) = behind.service.choose(&behind.front, target, ways, &tried) else {
            behind.tally.unserved();
            return None;
        };
        let permit = shared.limits.session()?;
        let dialable = shared.is_dialable(post.door.protocol, lease.endpoint);
        let server = if dialable {
            send(datagram, lease.endpoint)
        } else {
            Err(ErrorKind::HostUnreachable.into())
        };
        if let Ok(server) = server {
            behind.service.made(&behind.front, client.ip(), &lease);
            let server = Arc::new(server);
            let answers = Task::spawn(answer(Arc::downgrade(post), server.clone(), client));
            let carried = behind.tally.clone().made();
            let service = behind.service.clone();
            let session =
                Session { service, lease, carried, server, _answers: answers, _permit: permit };
            session.count(Way::There, datagram.len());
            return Some(session);
        }
        behind.service.passed_over(&lease);
        tried.push(lease.endpoint);
    }
}

/// From a socket of its own.
fn send(datagram: &[u8], to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    socket.send(datagram)?;
    UdpSocket::from_std(socket)
}

/// Carries the endpoint's answers, until nobody listens there. Does not keep the door open.
async fn answer(post: Weak<Post>, server: Arc<UdpSocket>, client: SocketAddr) {
    while server.readable().await.is_ok() {
        let Some(post) = post.upgrade() else { return };
        let received = with_scratch(|buffer| {
            let length = server.try_recv(buffer)?;
            post.socket.try_send_to(&buffer[..length], client).ok();
            Ok::<_, io::Error>(length)
        });
        match received {
            Ok(length) => {
                let mut sessions = post.sessions();
                sessions.answer(post.now(), client);
                if let Some(session) = sessions.value(client) {
                    session.count(Way::Back, length);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_refused) => {
                // Ends this task, too.
                return post.refused(client);
            }
        }
    }
}

impl Session {
    fn count(&self, way: Way, length: usize) {
        let octets = u64::try_from(length).unwrap_or(u64::MAX);
        self.lease.octets().add(way, octets);
        self.carried.octets().add(way, octets);
    }
}

impl Post {
    /// Nobody listens at the client's endpoint any more: what the client says next goes to another one.
    fn refused(&self, client: SocketAddr) {
        let ended = self.sessions().end(client);
        if let Some(session) = ended {
            session.service.passed_over(&session.lease);
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
