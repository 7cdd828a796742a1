//! One real connection in the lab, and what its kernels keep of it.

use super::Misuse;
use ::explain::verify::{Answer, Counted, Observation, Tracked, Tuple};
use ::explain::{Explanation, Host, Stage};
use backend::{Served, services, userspace};
use kernel::conntrack::{self, Which};
use kernel::namespace::{self, Kind, Namespace};
use kernel::netlink::Socket;
use lab::layout;
use model::{ObjectKey, Protocol, World};
use program::{Frontend, Scope};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection or an answer may take. A balancer gives up after about one second.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the sender got, and where it sent from.
struct Attempt {
    answer: Answer,
    sender: Option<SocketAddr>,
}

/// Sends what the explanation is about and reads the connection tracking of all nodes.
pub(super) fn observe(world: &World, explanation: &Explanation) -> anyhow::Result<Observation> {
    let first = &explanation.path().request[0];
    let (target, protocol) = (first.before.destination, first.before.protocol);
    let balanced = explanation.path().request.iter().any(|hop| hop.stage == Stage::Balancer);
    let place = netns_of(world, &first.host)?;
    let host = || first.host.to_string();
    let netns =
        Namespace::open(Kind::Net, &place).map_err(|_gone| Misuse::NoSuchPlace { host: host() })?;
    let before = counters(world)?;
    let attempt = namespace::in_netns(&netns, || match protocol {
        Protocol::Tcp => Ok(over_tcp(target, balanced)),
        Protocol::Udp => Ok(over_udp(target)),
        Protocol::Sctp => Err(Misuse::Sctp),
    })??;
    let Attempt { answer, sender } = attempt;
    let counted = risen(&before, counters(world)?);
    Ok(Observation { answer, sender, tracked: tracked(world, protocol)?, counted })
}

fn netns_of(world: &World, host: &Host) -> Result<PathBuf, Misuse> {
    let nowhere = || Misuse::NoSuchPlace { host: host.to_string() };
    match host {
        Host::Client => Ok(layout::client_netns()),
        Host::Node(name) => Ok(layout::node_netns(name)),
        Host::Pod(key) => Ok(layout::pod_netns(&world.pod(key).ok_or_else(nowhere)?.meta.uid)),
        Host::Outside(_) | Host::Gateway => Err(nowhere()),
    }
}

fn over_tcp(target: SocketAddr, balanced: bool) -> Attempt {
    let mut stream = match TcpStream::connect_timeout(&target, PATIENCE) {
        Ok(stream) => stream,
        Err(error) => return Attempt { answer: failure(&error), sender: None },
    };
    let sender = stream.local_addr().ok();
    let answer = match ask(&mut stream, target) {
        Ok(text) if text.is_empty() => Answer::Refused,
        Ok(text) => echo(text.split("\r\n\r\n").nth(1).unwrap_or_default()),
        // A balancer takes the connection before it has a back end.
        Err(error) if is_late(&error) && balanced => Answer::Silence,
        Err(error) if is_late(&error) => Answer::Taken,
        Err(error) => failure(&error),
    };
    Attempt { answer, sender }
}

fn ask(stream: &mut TcpStream, target: SocketAddr) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Whoever says something and then goes silent has taken the connection.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn over_udp(target: SocketAddr) -> Attempt {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let exchange = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(target)?;
        let sender = socket.local_addr()?;
        Ok((sender, datagram(&socket)))
    };
    match exchange() {
        Ok((sender, Ok(text))) => Attempt { answer: echo(&text), sender: Some(sender) },
        Ok((sender, Err(error))) => Attempt { answer: failure(&error), sender: Some(sender) },
        Err(error) => Attempt { answer: failure(&error), sender: None },
    }
}

fn datagram(socket: &UdpSocket) -> io::Result<String> {
    match socket.send(b"podway explain") {
        // A rule of the sender's own node stopped it; where it refused, ICMP says so next.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        sent => drop(sent?),
    }
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn failure(error: &io::Error) -> Answer {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => Answer::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Answer::Unreachable,
        _ => Answer::Silence,
    }
}

/// The built-in server's words; anybody else's only show that there is somebody.
fn echo(body: &str) -> Answer {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| said[name].as_str().filter(|text| !text.is_empty());
    let parts = (|| {
        let client: IpAddr = text("clientIP")?.parse().ok()?;
        let port = u16::try_from(said["clientPort"].as_u64()?).ok()?;
        Some((ObjectKey::new(text("namespace")?, text("pod")?), SocketAddr::new(client, port)))
    })();
    parts.map_or(Answer::Taken, |(pod, client)| Answer::Echo { pod, client })
}

type Counters = BTreeMap<Arc<str>, Vec<Counted>>;

/// How many connections each front end of each node has had, ever.
fn counters(world: &World) -> anyhow::Result<Counters> {
    let mut found = Counters::new();
    for (name, netns) in living(world) {
        let services = namespace::in_netns(&netns, services::served)??;
        let front_end = |served: Served| {
            let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            let protocol = protocols.into_iter().find(|it| it.number() == served.protocol)?;
            let scope = served.address.map_or(Scope::NodePort(served.family), Scope::Address);
            Some(Counted {
                frontend: Frontend { scope, protocol, port: served.port },
                origin: served.origin,
                connections: served.connections?.packets,
            })
        };
        found.insert(name, services.into_iter().filter_map(front_end).collect());
    }
    Ok(found)
}

/// What was counted since; a front end made anew has begun at nothing.
fn risen(before: &Counters, after: Counters) -> Counters {
    let mut risen = after;
    for (name, counted) in &mut risen {
        let earlier = before.get(name).map_or(&[][..], Vec::as_slice);
        for now in counted {
            let same = |it: &&Counted| it.frontend == now.frontend;
            let had = earlier.iter().find(same).map_or(0, |it| it.connections);
            now.connections = now.connections.checked_sub(had).unwrap_or(now.connections);
        }
    }
    risen
}

/// The nodes that have power, each with its network namespace.
pub(super) fn living(world: &World) -> impl Iterator<Item = (Arc<str>, Namespace)> {
    world.nodes().filter_map(|node| {
        let name = &node.meta.key.name;
        // A node without power has no kernel to ask.
        Some((name.clone(), Namespace::open(Kind::Net, &layout::node_netns(name)).ok()?))
    })
}

fn tracked(world: &World, protocol: Protocol) -> anyhow::Result<BTreeMap<Arc<str>, Vec<Tracked>>> {
    let mut found = BTreeMap::new();
    for (name, netns) in living(world) {
        let connections = namespace::in_netns(&netns, || {
            let number = protocol.number();
            let mut socket = Socket::netfilter()?;
            conntrack::connections(&mut socket, Which::Both, |it| it.original.protocol == number)
        })??;
        let entries = connections.iter().filter_map(|connection| {
            let (original, reply) = (tuple(&connection.original)?, tuple(&connection.reply)?);
            Some(Tracked { protocol, original, reply })
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable();
        // Relays need no connection tracking, so without rules of others there is none.
        if entries.is_empty() && namespace::in_netns(&netns, userspace::is_there)?? {
            continue;
        }
        found.insert(name, entries);
    }
    Ok(found)
}

fn tuple(tuple: &conntrack::Tuple) -> Option<Tuple> {
    Some(Tuple {
        source: SocketAddr::new(tuple.source, tuple.source_port()?),
        destination: SocketAddr::new(tuple.destination, tuple.destination_port()?),
    })
}
