//! Doors opened, changed and closed; connections under way go on.

use super::lower::{Door, Front, Locality, ServiceKey};
use super::message::{Change, Counts, Done, FrontCount, Obstacle, ProcessCount, State};
use super::service::{Service, Traffic};
use super::{datagrams, streams};
use kernel::{Errno, filter, stream};
use model::Protocol;
use program::{Action, Binding, Frontend};
use relay::{Limits, Permit, Workers};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a door may wait for descriptors before it is closed all the same.
const CLOSING: Duration = Duration::from_secs(1);

/// What is behind a door at the moment.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    pub(super) front: Arc<Front>,
    pub(super) service: Arc<Service>,
    pub(super) tally: Arc<Tally>,
}

/// What all doors of a front end have counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    open: AtomicU64,
    made: AtomicU64,
    unserved: AtomicU64,
    octets: Traffic,
}

/// A connection that is counted at its front end.
#[derive(Debug)]
pub(super) struct Carried(Arc<Tally>);

impl Carried {
    pub(super) fn octets(&self) -> &Traffic {
        &self.0.octets
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Tally {
    /// A connection that got an endpoint; open while it lives.
    pub(super) fn made(self: Arc<Self>) -> Carried {
        self.made.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Carried(self)
    }

    pub(super) fn unserved(&self) {
        self.unserved.fetch_add(1, Relaxed);
    }
}

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) workers: Workers,
    /// Open doors: an endpoint that is one would lead a connection in a circle. Written by their owner alone.
    doors: RwLock<BTreeSet<Door>>,
    reset: AtomicU64,
    /// Whether clients are to be asked whether they are still there.
    pub(super) probing: watch::Sender<bool>,
    /// Dropped with the last task that carries something.
    _carried: mpsc::Sender<()>,
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

/// A front end, and where it is listened for.
#[derive(Debug)]
struct Served {
    binding: Binding,
    tally: Arc<Tally>,
    doors: BTreeSet<Door>,
}

#[derive(Debug)]
struct Opened {
    frontend: Frontend,
    behind: watch::Sender<Behind>,
    socket: Socket,
    task: JoinHandle<()>,
    _permit: Permit,
}

#[derive(Debug, Clone)]
enum Socket {
    Streams(Arc<TcpListener>),
    Datagrams(Arc<UdpSocket>),
}

/// All front ends that this process serves.
#[derive(Debug)]
pub(super) struct Doors {
    shared: Arc<Shared>,
    /// Closed when nothing is carried any more.
    carried: mpsc::Receiver<()>,
    grace: Option<Duration>,
    locality: Arc<Locality>,
    pods: BTreeSet<IpAddr>,
    /// When to look whether connections are left to endpoints that are gone.
    cuts: BTreeSet<Instant>,
    fronts: BTreeMap<Frontend, Served>,
    open: BTreeMap<Door, Opened>,
    services: BTreeMap<ServiceKey, (Arc<Service>, BTreeSet<Frontend>)>,
}

impl Doors {
    /// `descriptors`: as many as this process may have.
    pub(super) fn new(descriptors: u64, workers: Workers) -> Self {
        let (sender, carried) = mpsc::channel(1);
        let shared = Shared {
            limits: Limits::new(descriptors),
            workers,
            doors: RwLock::default(),
            reset: AtomicU64::new(0),
            probing: watch::Sender::new(false),
            _carried: sender,
        };
        Doors {
            shared: Arc::new(shared),
            carried,
            grace: None,
            locality: Arc::default(),
            pods: BTreeSet::new(),
            cuts: BTreeSet::new(),
            fronts: BTreeMap::new(),
            open: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }

    pub(super) async fn change(&mut self, change: Change) -> Done {
        let Change { grace, locality, pods, fronts, doors } = change;
        self.grace = grace;
        if let Some(pods) = pods {
            let lost = self.pods.iter().any(|pod| !pods.contains(pod));
            self.pods = pods;
            self.cut_later(lost);
        }
        let mut touched: BTreeSet<Door> = BTreeSet::new();
        if let Some(locality) = locality {
            self.locality = Arc::new(locality);
            touched.extend(self.open.keys());
        }
        for (frontend, binding) in fronts {
            self.attend(frontend, binding.as_ref());
            touched.extend(self.set_front(frontend, binding));
        }
        self.forget_services();
        let mut done = Done::default();
        for (door, frontend) in doors {
            touched.remove(&door);
            match frontend {
                Some(frontend) => self.set_door(door, frontend, None, &mut done),
                None => done.closed += usize::from(self.close_door(door).await),
            }
        }
        for door in touched {
            match self.open.get(&door).map(|opened| opened.frontend) {
                Some(frontend) if self.fronts.contains_key(&frontend) => {
                    self.set_door(door, frontend, None, &mut done);
                }
                Some(_gone) => done.closed += usize::from(self.close_door(door).await),
                None => {}
            }
        }
        self.note_doors();
        done
    }

    /// Serves what another process served, with its sockets, which are in the order of its doors.
    pub(super) fn adopt(&mut self, state: State, sockets: Vec<OwnedFd>) -> Done {
        let State { grace, locality, pods, fronts, doors } = state;
        (self.grace, self.locality, self.pods) = (grace, Arc::new(locality), pods);
        for (frontend, binding) in fronts {
            self.attend(frontend, Some(&binding));
            self.set_front(frontend, Some(binding));
        }
        let mut done = Done::default();
        for ((door, frontend), socket) in doors.into_iter().zip(sockets) {
            self.set_door(door, frontend, Some(socket), &mut done);
        }
        self.note_doors();
        done
    }

    pub(super) fn state(&self) -> State {
        let fronts = self.fronts.iter().map(|(frontend, it)| (*frontend, it.binding.clone()));
        State {
            grace: self.grace,
            locality: (*self.locality).clone(),
            pods: self.pods.clone(),
            fronts: fronts.collect(),
            doors: self.open.iter().map(|(door, opened)| (*door, opened.frontend)).collect(),
        }
    }

    /// In the order of the state's doors.
    pub(super) fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let copy = |opened: &Opened| match &opened.socket {
            Socket::Streams(it) => it.as_fd().try_clone_to_owned(),
            Socket::Datagrams(it) => it.as_fd().try_clone_to_owned(),
        };
        self.open.values().map(copy).collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let front = |(frontend, served): (&Frontend, &Served)| FrontCount {
            frontend: *frontend,
            binding: served.binding.clone(),
            open: served.tally.open.load(Relaxed),
            connections: served.tally.made.load(Relaxed),
            unserved: served.tally.unserved.load(Relaxed),
            octets: served.tally.octets.read(),
        };
        let services = self.services.iter();
        let limits = &self.shared.limits;
        Counts {
            fronts: self.fronts.iter().map(front).collect(),
            endpoints: services.flat_map(|(key, (service, _))| service.counts(key)).collect(),
            process: ProcessCount {
                descriptors: limits.descriptors(),
                free: limits.free(),
                waited: limits.waited(),
                lost: limits.lost(),
                reset: self.shared.reset.load(Relaxed),
            },
        }
    }

    /// Listens no more: somebody else has the sockets. What was heard so far is carried to its end.
    pub(super) fn leave(&mut self) {
        // Tasks end when nobody says any more what is behind their doors.
        self.open.clear();
    }

    /// Listens no more. Connections that the kernel has made so far are carried to their ends.
    pub(super) async fn close(&mut self) {
        let mut tasks = Vec::new();
        for (door, Opened { task, .. }) in std::mem::take(&mut self.open) {
            if door.protocol == Protocol::Udp {
                task.abort();
            }
            tasks.push(task);
        }
        for mut task in tasks {
            if tokio::time::timeout(CLOSING, &mut task).await.is_err() {
                task.abort();
                task.await.ok();
            }
        }
    }

    /// Returns when each connection with a client has sent a packet.
    pub(super) async fn probe(&self) {
        self.shared.probing.send_replace(true);
        tokio::time::sleep(streams::PROBED).await;
        self.shared.probing.send_replace(false);
    }

    /// When all that was carried has ended.
    pub(super) async fn carried_all(self) {
        let Doors { shared, mut carried, .. } = self;
        drop(shared);
        while carried.recv().await.is_some() {}
    }

    /// When [`Doors::cut`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.cuts.first().copied()
    }

    /// Ends connections to endpoints that have been gone for long enough.
    pub(super) fn cut(&mut self) {
        let now = Instant::now();
        self.cuts.retain(|due| *due > now);
        let Some(grace) = self.grace else { return };
        let services = || self.services.values().map(|(service, _)| service);
        let endpoints = services().flat_map(|service| service.addresses());
        let alive: BTreeSet<_> = endpoints.chain(self.pods.iter().copied()).collect();
        let reset = services().map(|service| service.cut(grace, &alive)).sum();
        self.shared.reset.fetch_add(reset, Relaxed);
        self.forget_services();
    }

    fn cut_later(&mut self, needed: bool) {
        if let Some(grace) = self.grace.filter(|_| needed) {
            self.cuts.insert(Instant::now() + grace);
        }
    }

    /// Those without a front end, once their connections have ended.
    fn forget_services(&mut self) {
        self.services.retain(|_, (service, has)| !has.is_empty() || service.is_busy());
    }

    /// Lets the Service know which endpoints there are.
    fn attend(&mut self, frontend: Frontend, binding: Option<&Binding>) {
        let before = self.fronts.get(&frontend);
        if let Some(before) = before.map(|served| ServiceKey::of(frontend, &served.binding))
            && let Some((service, frontends)) = self.services.get_mut(&before)
        {
            frontends.remove(&frontend);
            let lost = frontends.is_empty() && service.stand(&[]);
            self.cut_later(lost);
        }
        let Some(binding) = binding else { return };
        let new = || (Arc::new(Service::new()), BTreeSet::new());
        let key = ServiceKey::of(frontend, binding);
        let (service, frontends) = self.services.entry(key).or_insert_with(new);
        frontends.insert(frontend);
        let lost = service.stand(&binding.standing);
        self.cut_later(lost);
    }

    /// Returns the doors that are open for it.
    fn set_front(&mut self, frontend: Frontend, binding: Option<Binding>) -> BTreeSet<Door> {
        match (self.fronts.get_mut(&frontend), binding) {
            (_, None) => {
                let gone = self.fronts.remove(&frontend);
                return gone.map(|served| served.doors).unwrap_or_default();
            }
            (Some(served), Some(binding)) => {
                served.binding = binding;
                return served.doors.clone();
            }
            (None, Some(binding)) => {
                let (tally, doors) = (Arc::default(), BTreeSet::new());
                self.fronts.insert(frontend, Served { binding, tally, doors });
            }
        }
        BTreeSet::new()
    }

    fn set_door(
        &mut self,
        door: Door,
        frontend: Frontend,
        socket: Option<OwnedFd>,
        done: &mut Done,
    ) {
        let Some(behind) = self.behind(frontend) else { return };
        if let Some(opened) = self.open.get_mut(&door) {
            let (now, before) = (opened.behind.borrow().clone(), opened.frontend);
            if now.front != behind.front || before != frontend {
                admit(&opened.socket, door, &behind.front);
                opened.behind.send_replace(behind);
                opened.frontend = frontend;
                done.changed += 1;
            }
            self.lead(door, Some(before), Some(frontend));
            return;
        }
        match self.open_door(door, frontend, behind, socket) {
            Ok(opened) => {
                self.open.insert(door, opened);
                self.lead(door, None, Some(frontend));
                done.opened += 1;
            }
            Err(obstacle) => done.unopened.push((door, obstacle)),
        }
    }

    /// Nothing where it is not to be listened for.
    fn behind(&self, frontend: Frontend) -> Option<Behind> {
        let served = self.fronts.get(&frontend)?;
        if served.binding.action == Action::Reject {
            return None;
        }
        let front = Arc::new(Front::new(frontend, &served.binding, &self.locality));
        let (service, _) = self.services.get(&front.service)?;
        Some(Behind { front, service: service.clone(), tally: served.tally.clone() })
    }

    fn open_door(
        &self,
        door: Door,
        frontend: Frontend,
        behind: Behind,
        socket: Option<OwnedFd>,
    ) -> Result<Opened, Obstacle> {
        let permit = self.shared.limits.door().ok_or(Obstacle::Descriptors)?;
        let worker = self.shared.workers.next();
        let socket = worker.with(|| match socket {
            Some(socket) => Socket::adopted(door, socket),
            None => Socket::open(door),
        });
        let socket = socket.map_err(|error| obstacle(&error, door.protocol))?;
        admit(&socket, door, &behind.front);
        let (sender, receiver) = watch::channel(behind);
        let shared = self.shared.clone();
        let task = match socket.clone() {
            Socket::Streams(it) => worker.spawn(streams::accept(it, door, receiver, shared)),
            Socket::Datagrams(it) => worker.spawn(datagrams::serve(it, door, receiver, shared)),
        };
        Ok(Opened { frontend, behind: sender, socket, task, _permit: permit })
    }

    /// Whether it was open. Its port is free afterwards.
    async fn close_door(&mut self, door: Door) -> bool {
        let Some(Opened { frontend, task, .. }) = self.open.remove(&door) else { return false };
        self.lead(door, Some(frontend), None);
        task.abort();
        // It was told to end.
        task.await.ok();
        true
    }

    /// Takes note of which front end is behind a door.
    fn lead(&mut self, door: Door, before: Option<Frontend>, after: Option<Frontend>) {
        if let Some(served) = before.and_then(|frontend| self.fronts.get_mut(&frontend)) {
            served.doors.remove(&door);
        }
        if let Some(served) = after.and_then(|frontend| self.fronts.get_mut(&frontend)) {
            served.doors.insert(door);
        }
    }

    fn note_doors(&self) {
        let open = self.open.keys().copied().collect();
        *self.shared.doors.write().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

impl Socket {
    fn open(door: Door) -> io::Result<Self> {
        if door.protocol == Protocol::Udp {
            let socket = UdpSocket::from_std(stream::receive_at(door.address)?)?;
            return Ok(Socket::Datagrams(Arc::new(socket)));
        }
        Ok(Socket::Streams(Arc::new(streams::listen(door)?)))
    }

    fn adopted(door: Door, socket: OwnedFd) -> io::Result<Self> {
        Ok(if door.protocol == Protocol::Udp {
            Socket::Datagrams(Arc::new(UdpSocket::from_std(socket.into())?))
        } else {
            Socket::Streams(Arc::new(TcpListener::from_std(socket.into())?))
        })
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
