//! Doors opened, changed and closed; connections under way go on.

use super::addresses::{Addresses, Wanted};
use super::limits::{Limits, Permit};
use super::lower::{Door, Front, Locality, ServiceKey, bound, doors};
use super::service::{GRACE, Service};
use super::{datagrams, streams};
use kernel::{Errno, descriptors, filter, stream};
use model::{Family, Origin, Protocol};
use program::{Binding, Change, Frontend, FrontendKind, Program, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{Handle, TryCurrentError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("addresses of Services")]
    Addresses(#[from] kernel::Error),
    #[error("relays need a runtime to live on")]
    NoRuntime(#[source] TryCurrentError),
    /// Everything else is in place.
    #[error("another program has {protocol} {address}, and {others} more")]
    Taken { protocol: Protocol, address: SocketAddr, others: usize },
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub opened: usize,
    pub changed: usize,
    pub closed: usize,
}

/// Why a door cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
            Obstacle::Other(errno) => write!(f, "{}", Errno::from_raw(*errno).desc()),
        }
    }
}

/// Front ends that are not served, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    pub obstacle: Obstacle,
    pub number: usize,
    pub example: Door,
    pub origin: Origin,
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unserved { obstacle, number, example: Door { protocol, address }, origin } = self;
        write!(
            f,
            "{number} front ends are not served ({protocol} {address} of {origin} is one): {obstacle}"
        )
    }
}

/// What is behind a door at the moment.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    pub(super) front: Arc<Front>,
    pub(super) service: Arc<Service>,
    /// How many connections the door led to an endpoint.
    pub(super) made: Arc<AtomicU64>,
}

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    /// Open doors: an endpoint that is one would lead a connection in a circle. Written by the back end alone.
    doors: RwLock<BTreeSet<Door>>,
}

impl Shared {
    /// Whether an endpoint may be connected to on somebody else's behalf.
    pub(super) fn is_dialable(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let ip = address.ip();
        let door = Door { protocol, address };
        let open = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !open.contains(&door)
    }
}

/// Ends with its owner.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Task(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Opened {
    behind: watch::Sender<Behind>,
    socket: Socket,
    _task: Task,
    _permit: Permit,
}

#[derive(Debug, Clone)]
enum Socket {
    Streams(Arc<TcpListener>),
    Datagrams(Arc<UdpSocket>),
}

/// The socket of a door that was closed, as long as its task has not noticed.
#[derive(Debug)]
enum Closing {
    Streams(Weak<TcpListener>),
    Datagrams(Weak<UdpSocket>),
}

/// A node's front ends, served by this process.
#[derive(Debug)]
pub struct Backend {
    runtime: Handle,
    shared: Arc<Shared>,
    addresses: Addresses,
    locality: Arc<Locality>,
    doors: BTreeMap<Door, Opened>,
    closing: BTreeMap<Door, Closing>,
    unserved: BTreeMap<Door, (Obstacle, Origin)>,
    told: Vec<Unserved>,
    services: BTreeMap<ServiceKey, (Arc<Service>, BTreeSet<Frontend>)>,
}

impl Backend {
    /// Relays run on the runtime that this is called in.
    pub fn here() -> Result<Self, Error> {
        Backend::open(Handle::try_current().map_err(Error::NoRuntime)?)
    }

    /// Relays run on `runtime`, in the network namespace of the threads that it has.
    pub fn open(runtime: Handle) -> Result<Self, Error> {
        let limits = Limits::new(descriptors::raise_limit()?);
        Ok(Backend {
            runtime,
            shared: Arc::new(Shared { limits, doors: RwLock::default() }),
            addresses: Addresses::open()?,
            locality: Arc::default(),
            doors: BTreeMap::new(),
            closing: BTreeMap::new(),
            unserved: BTreeMap::new(),
            told: Vec::new(),
            services: BTreeMap::new(),
        })
    }

    /// Makes everything as the program has it, whatever was there.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        self.locality = Arc::new(Locality::of(program));
        self.addresses.read()?;
        let wanted = program.services.iter().filter_map(|(frontend, _)| address_of(*frontend));
        let wanted: BTreeSet<_> = wanted.collect();
        self.claim(program, &wanted)?;
        let all = program.services.iter().flat_map(|(frontend, _)| doors(program, *frontend));
        let known = self.doors.keys().chain(self.unserved.keys()).copied();
        let all: BTreeSet<_> = all.chain(known).collect();
        let known = self.services.values().flat_map(|(_, frontends)| frontends).copied();
        let frontends = program.services.iter().map(|(frontend, _)| *frontend);
        let frontends = known.chain(frontends).collect();
        self.attend(program, &frontends);
        let applied = self.set_doors(program, all);
        let lost = self.addresses.claimed().filter(|address| !wanted.contains(address)).collect();
        self.addresses.release(&lost)?;
        self.outcome(applied)
    }

    /// Makes what has changed.
    pub fn change(&mut self, program: &Program, changes: &[Change]) -> Result<Applied, Error> {
        let of_all = |change: &Change| {
            matches!(
                change,
                Change::Addresses { .. } | Change::PodSources { .. } | Change::Network { .. }
            )
        };
        if changes.iter().any(of_all) {
            return self.reconcile(program);
        }
        let frontend = |change: &Change| match change {
            Change::Frontend { frontend, .. } => Some(*frontend),
            _ => None,
        };
        let frontends: BTreeSet<_> = changes.iter().filter_map(frontend).collect();
        let touched: BTreeSet<_> = frontends.iter().copied().filter_map(address_of).collect();
        let (wanted, lost): (BTreeSet<_>, BTreeSet<_>) = touched
            .into_iter()
            .partition(|address| program.frontends_at(*address).next().is_some());
        self.claim(program, &wanted)?;
        self.attend(program, &frontends);
        let touched = frontends.iter().flat_map(|frontend| doors(program, *frontend)).collect();
        let applied = self.set_doors(program, touched);
        self.addresses.release(&lost)?;
        self.outcome(applied)
    }

    /// What is not served, one for each reason.
    pub fn unserved(&self) -> Vec<Unserved> {
        let mut reasons: BTreeMap<Obstacle, Unserved> = BTreeMap::new();
        for (door, (obstacle, origin)) in &self.unserved {
            let first = || Unserved {
                obstacle: *obstacle,
                number: 0,
                example: *door,
                origin: origin.clone(),
            };
            reasons.entry(*obstacle).or_insert_with(first).number += 1;
        }
        reasons.into_values().collect()
    }

    /// Whether sockets that were closed have let go of their ports: they do within a moment.
    pub fn is_settled(&self) -> bool {
        self.closing.values().all(|socket| socket.open().is_none())
    }

    /// The one that addresses are made local through.
    pub fn socket(&self) -> &kernel::netlink::Socket {
        self.addresses.socket()
    }

    /// Says once what is not served.
    fn tell(&mut self) {
        let unserved = self.unserved();
        if unserved != self.told {
            unserved.iter().for_each(|unserved| tracing::warn!("{unserved}"));
            self.told = unserved;
        }
    }

    fn claim(&mut self, program: &Program, addresses: &BTreeSet<IpAddr>) -> Result<bool, Error> {
        let own = |address: &&IpAddr| program.is_own_address(**address);
        let external = |binding: &Binding| {
            matches!(binding.kind, FrontendKind::ExternalIp | FrontendKind::LoadBalancer)
        };
        let wanted = |address: &IpAddr| Wanted {
            source: program.primary_address(Family::of(*address)),
            shared: program.frontends_at(*address).any(|(_, binding)| external(binding)),
        };
        let foreign = addresses.iter().filter(|address| !own(address));
        let wanted = foreign.map(|address| (*address, wanted(address))).collect();
        Ok(self.addresses.claim(&wanted)?)
    }

    /// Lets Services know which endpoints there are, and forgets Services that have no front end any more.
    fn attend(&mut self, program: &Program, frontends: &BTreeSet<Frontend>) {
        for frontend in frontends {
            for (_, has) in self.services.values_mut() {
                has.remove(frontend);
            }
            let Some(binding) = program.services.get(frontend) else { continue };
            let new = || (Arc::new(Service::new()), BTreeSet::new());
            let key = ServiceKey::of(*frontend, binding);
            let (service, has) = self.services.entry(key).or_insert_with(new);
            has.insert(*frontend);
            if service.stand(&binding.standing) {
                let service = service.clone();
                drop(self.runtime.spawn(async move {
                    tokio::time::sleep(GRACE).await;
                    service.cut();
                }));
            }
        }
        self.services.retain(|_, (_, frontends)| !frontends.is_empty());
    }

    fn set_doors(&mut self, program: &Program, doors: BTreeSet<Door>) -> Applied {
        let mut applied = Applied::default();
        for door in doors {
            self.unserved.remove(&door);
            match bound(program, door) {
                Some((frontend, binding)) => self.set_door(door, frontend, binding, &mut applied),
                None => applied.closed += usize::from(self.close_door(door)),
            }
        }
        self.closing.retain(|_, socket| socket.open().is_some());
        let open = self.doors.keys().copied().collect();
        *self.shared.doors.write().unwrap_or_else(PoisonError::into_inner) = open;
        applied
    }

    fn set_door(
        &mut self,
        door: Door,
        frontend: Frontend,
        binding: &Binding,
        applied: &mut Applied,
    ) {
        let front = Arc::new(Front::new(frontend, binding, &self.locality));
        let Some((service, _)) = self.services.get(&front.service) else { return };
        let service = service.clone();
        if let Some(opened) = self.doors.get(&door) {
            let now = opened.behind.borrow().clone();
            if now.front != front || !Arc::ptr_eq(&now.service, &service) {
                admit(&opened.socket, door, &front);
                opened.behind.send_replace(Behind { front, service, ..now });
                applied.changed += 1;
            }
            return;
        }
        match self.open_door(door, Behind { front, service, made: Arc::default() }) {
            Ok(opened) => {
                self.doors.insert(door, opened);
                applied.opened += 1;
            }
            Err(obstacle) => {
                self.unserved.insert(door, (obstacle, binding.origin.clone()));
            }
        }
    }

    fn open_door(&mut self, door: Door, behind: Behind) -> Result<Opened, Obstacle> {
        let local = self.addresses.is_local(door.address.ip()).map_err(|error| {
            error.errno().map_or(Obstacle::NotLocal, |errno| Obstacle::Other(errno as i32))
        })?;
        if !local {
            return Err(Obstacle::NotLocal);
        }
        let permit = self.shared.limits.door().ok_or(Obstacle::Descriptors)?;
        let _inside = self.runtime.enter();
        let socket = match self.closing.remove(&door).and_then(|socket| socket.open()) {
            Some(socket) => socket,
            None => Socket::open(door).map_err(|error| obstacle(&error, door.protocol))?,
        };
        admit(&socket, door, &behind.front);
        let (sender, receiver) = watch::channel(behind);
        let shared = self.shared.clone();
        let task = match socket.clone() {
            Socket::Streams(it) => Task::spawn(streams::accept(it, door, receiver, shared)),
            Socket::Datagrams(it) => Task::spawn(datagrams::serve(it, door, receiver, shared)),
        };
        Ok(Opened { behind: sender, socket, _task: task, _permit: permit })
    }

    /// Whether it was open.
    fn close_door(&mut self, door: Door) -> bool {
        let Some(Opened { socket, .. }) = self.doors.remove(&door) else { return false };
        let closing = match &socket {
            Socket::Streams(it) => Closing::Streams(Arc::downgrade(it)),
            Socket::Datagrams(it) => Closing::Datagrams(Arc::downgrade(it)),
        };
        self.closing.insert(door, closing);
        true
    }

    fn outcome(&mut self, applied: Applied) -> Result<Applied, Error> {
        self.tell();
        let mut taken = self.unserved.iter().filter(|(_, (why, _))| *why == Obstacle::Taken);
        match taken.next() {
            Some((Door { protocol, address }, _)) => {
                Err(Error::Taken { protocol: *protocol, address: *address, others: taken.count() })
            }
            None => Ok(applied),
        }
    }
}

impl Socket {
    fn open(door: Door) -> io::Result<Self> {
        if door.protocol == Protocol::Udp {
            let socket = UdpSocket::from_std(stream::receive_at(door.address)?)?;
            return Ok(Socket::Datagrams(Arc::new(socket)));
        }
        let listener = stream::listen_for(streams::transport(door.protocol), door.address)?;
        Ok(Socket::Streams(Arc::new(TcpListener::from_std(listener)?)))
    }
}

impl Closing {
    fn open(&self) -> Option<Socket> {
        match self {
            Closing::Streams(it) => it.upgrade().map(Socket::Streams),
            Closing::Datagrams(it) => it.upgrade().map(Socket::Datagrams),
        }
    }
}

/// Removes the addresses that this back end made local in the network namespace of the calling thread.
pub fn clean() -> Result<(), Error> {
    let mut addresses = Addresses::open()?;
    addresses.read()?;
    let all = addresses.claimed().collect();
    Ok(addresses.release(&all)?)
}

fn address_of(frontend: Frontend) -> Option<IpAddr> {
    match frontend.scope {
        Scope::Address(address) => Some(address),
        Scope::NodePort(_) => None,
    }
}

/// Loses the packets of those who get nowhere, so that they notice as little as of a packet filter's rule.
fn admit(socket: &Socket, door: Door, front: &Front) {
    let Socket::Streams(listener) = socket else { return };
    if door.protocol != Protocol::Tcp {
        return;
    }
    let outcome = match front.admitted(door.address.ip()) {
        Some(sources) => filter::admit_only(listener.as_ref(), &sources),
        None => filter::admit_all(listener.as_ref()),
    };
    // They are refused after they were accepted, then.
    if let Err(error) = outcome {
        tracing::warn!(address = %door.address, %error, "no filter: sources are refused instead of ignored");
    }
}

fn obstacle(error: &io::Error, protocol: Protocol) -> Obstacle {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    match errno {
        Errno::EADDRINUSE => Obstacle::Taken,
        Errno::EADDRNOTAVAIL => Obstacle::NotLocal,
        Errno::EACCES => Obstacle::Reserved,
        Errno::EMFILE | Errno::ENFILE => Obstacle::Descriptors,
        Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT if protocol == Protocol::Sctp => {
            Obstacle::NoSctp
        }
        errno => Obstacle::Other(errno as i32),
    }
}
