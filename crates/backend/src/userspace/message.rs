//! What an agent and the process that carries the connections say to each other: JSON after its length in four
//! octets, one answer to each request.

use super::lower::{Door, Locality, ServiceKey};
use program::{Action, Binding, Endpoint, Frontend, Pool};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The name, in its network namespace, of the process that carries the connections.
pub(super) const NAME: &str = "podway/relay";
/// So begin the names of those that were told to finish, while they still carry connections.
pub(super) const LEAVING: &str = "podway/relay-leaving/";
/// Both ends must say the same.
pub(super) const LANGUAGE: u32 = 1;
/// No message is longer.
const LONGEST: u32 = 1 << 30;

/// What the process says first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) language: u32,
    /// Of the program.
    pub(super) version: String,
    /// Somebody else than an agent has started it, and sees to it that it is replaced.
    pub(super) supervised: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Answered with [`State`].
    Read,
    /// Answered with [`Counts`].
    Count,
    /// Answered with [`Done`].
    Change(Change),
    /// Answered with [`State`] and then the sockets of its doors. Whoever asked takes the place of the process,
    /// which goes on with the connections that it has.
    HandOver,
    /// Answered with `null` when each connection with a client has sent a packet.
    Probe,
    /// Answered with `null`: nobody is listened to any more. The connections that there are go on; with `release` the
    /// addresses of Services are given up with the last of them.
    Finish { release: bool },
}

/// What is to be otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// How long connections to endpoints that are gone are left alone; `None`: for ever.
    pub(super) grace: Option<Duration>,
    /// `None`: as it is.
    pub(super) locality: Option<Locality>,
    /// Addresses of the node's own pods, which are not gone even if no Service has them; `None`: as it is.
    pub(super) pods: Option<BTreeSet<IpAddr>>,
    /// With nothing: gone.
    pub(super) fronts: Vec<(Frontend, Option<Binding>)>,
    /// With nothing: closed.
    pub(super) doors: Vec<(Door, Option<Frontend>)>,
}

/// All that the process serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) grace: Option<Duration>,
    pub(super) locality: Locality,
    pub(super) pods: BTreeSet<IpAddr>,
    pub(super) fronts: Vec<(Frontend, Binding)>,
    pub(super) doors: Vec<(Door, Frontend)>,
}

/// What a change led to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) opened: usize,
    pub(super) changed: usize,
    pub(super) closed: usize,
    pub(super) unopened: Vec<(Door, Obstacle)>,
}

/// Why a door cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Obstacle {
    /// The machine does not have the address, and giving it one takes CAP_NET_ADMIN.
    NotLocal,
    /// Ports below `net.ipv4.ip_unprivileged_port_start` take CAP_NET_BIND_SERVICE.
    Reserved,
    /// Somebody else listens there.
    Taken,
    /// The kernel has no SCTP.
    NoSctp,
    /// `RLIMIT_NOFILE` is too low for so many front ends.
    Descriptors,
    /// An error number.
    Other(i32),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NotLocal => f.write_str(
                "this machine does not have their addresses, and taking them needs CAP_NET_ADMIN",
            ),
            Obstacle::Reserved => f.write_str(
                "their ports are reserved: set net.ipv4.ip_unprivileged_port_start or grant CAP_NET_BIND_SERVICE",
            ),
            Obstacle::Taken => f.write_str("another program listens there"),
            Obstacle::NoSctp => f.write_str("this kernel has no SCTP"),
            Obstacle::Descriptors => f.write_str("the limit of open files is too low (RLIMIT_NOFILE)"),
            Obstacle::Other(errno) => write!(f, "{}", kernel::Errno::from_raw(*errno).desc()),
        }
    }
}

/// What the process has counted since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub fronts: Vec<FrontCount>,
    pub endpoints: Vec<EndpointCount>,
    pub process: ProcessCount,
}

/// Of one front end, with what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontCount {
    pub frontend: Frontend,
    pub binding: Binding,
    pub open: u64,
    /// Connections and conversations that got an endpoint.
    pub connections: u64,
    /// Those that got none: their clients may not connect, or no endpoint answered.
    pub unserved: u64,
    pub octets: Octets,
}

/// Of one endpoint of a Service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCount {
    pub service: ServiceKey,
    pub endpoint: SocketAddr,
    pub open: u64,
    pub connections: u64,
    /// Attempts that came to nothing.
    pub failures: u64,
    pub octets: Octets,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Octets {
    /// From clients.
    pub received: u64,
    /// To clients.
    pub sent: u64,
}

/// Of the process as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessCount {
    /// Descriptors that it may have.
    pub descriptors: u64,
    /// Those that are left.
    pub free: u64,
    /// Connections that waited because none were left.
    pub waited: u64,
    /// Conversations in datagrams that could not begin because none were left.
    pub lost: u64,
    /// Connections that were reset because their endpoints were gone.
    pub reset: u64,
}

/// The binding as the process gets it: its endpoints without what their slices know.
pub(super) fn told(binding: &Binding) -> Binding {
    let plain = |pool: &Arc<Pool>| {
        let endpoints = pool.endpoints.iter().map(|it| Endpoint::at(it.address(), it.weight));
        Arc::new(Pool { endpoints: endpoints.collect(), ..**pool })
    };
    let action = match &binding.action {
        Action::Balance { pool, masquerade } => {
            Action::Balance { pool: plain(pool), masquerade: *masquerade }
        }
        Action::BySource { inside, outside } => {
            Action::BySource { inside: plain(inside), outside: outside.as_ref().map(plain) }
        }
        Action::Reject | Action::Drop => binding.action.clone(),
    };
    Binding { action, ..binding.clone() }
}

pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&framed(message)?)
}

pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut text = vec![0; length_of(u32::from_be_bytes(length))?];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// The message with its length before it.
pub(super) fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

pub(super) async fn tell(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    to.write_all(&framed(message)?).await
}

pub(super) async fn hear<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let length = length_of(from.read_u32().await?)?;
    let mut text = vec![0; length];
    from.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

fn length_of(length: u32) -> io::Result<usize> {
    let length = Some(length).filter(|length| *length <= LONGEST);
    let length = length.and_then(|length| usize::try_from(length).ok());
    length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no message is so long"))
}
