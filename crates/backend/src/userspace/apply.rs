//! An agent's side: addresses taken, doors ordered. The process that carries the connections keeps both when the
//! agent ends.

use super::addresses::{Addresses, Wanted, release_all};
use super::connection::{Carrier, Connection};
use super::lower::{Door, Locality, bound, doors};
use super::message::{self, Counts, Done, LEAVING, Obstacle, State};
use super::switch::{self, Kept};
use kernel::Errno;
use model::{Family, Origin, Protocol};
use program::{Binding, Change, Frontend, FrontendKind, Program, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Front ends that are ordered at once: connections do not wait long for a great change to be taken in.
const BATCH: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("addresses of Services")]
    Addresses(#[from] kernel::Error),
    #[error("the process that carries the connections")]
    Carrier(#[from] io::Error),
    /// Everything else is in place.
    #[error("another program has {protocol} {address}, and {others} more")]
    Taken { protocol: Protocol, address: SocketAddr, others: usize },
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Addresses made local.
    pub claimed: usize,
    pub opened: usize,
    pub changed: usize,
    pub closed: usize,
}

/// How Services are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub carrier: Carrier,
    /// How long connections to endpoints that are gone are let be before they are reset; `None`: for ever.
    pub reset_gone_after: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        let reset_gone_after = Some(Duration::from_secs(5));
        Settings { carrier: Carrier::default(), reset_gone_after }
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

/// A node's front ends, and the door to the process that serves them.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    /// `None`: the process is to be looked for, or started.
    connection: Option<Connection>,
    addresses: Addresses,
    /// What the process has.
    grace: Option<Duration>,
    locality: Locality,
    pods: BTreeSet<IpAddr>,
    fronts: BTreeMap<Frontend, Binding>,
    doors: BTreeMap<Door, Frontend>,
    unserved: BTreeMap<Door, (Obstacle, Origin)>,
    told: Vec<Unserved>,
    /// What rules of another mode have left.
    kept: Option<Kept>,
}

impl Backend {
    /// Services of the network namespace of the calling thread. Who carries their connections is looked for when there
    /// is something to order.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(Backend {
            settings,
            connection: None,
            addresses: Addresses::open()?,
            grace: None,
            locality: Locality::default(),
            pods: BTreeSet::new(),
            fronts: BTreeMap::new(),
            doors: BTreeMap::new(),
            unserved: BTreeMap::new(),
            told: Vec::new(),
            kept: None,
        })
    }

    /// Makes everything as the program has it, whatever was there.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        self.connect()?;
        self.addresses.read()?;
        let wanted = program.services.iter().filter_map(|(frontend, _)| address_of(*frontend));
        let wanted: BTreeSet<_> = wanted.collect();
        let claimed = self.claim(program, &wanted)?;
        let all = program.services.iter().map(|(frontend, _)| *frontend);
        let known = self.doors.keys().chain(self.unserved.keys()).copied().collect();
        let frontends = all.chain(self.fronts.keys().copied()).collect();
        let applied = Applied { claimed, ..self.order(program, &frontends, known)? };
        let lost = self.addresses.claimed().filter(|address| !wanted.contains(address)).collect();
        self.addresses.release(&lost)?;
        if self.kept.is_none() {
            self.kept = Kept::find(Instant::now());
        }
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
        if self.connection.is_none() || changes.iter().any(of_all) {
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
        let claimed = self.claim(program, &wanted)?;
        let applied = Applied { claimed, ..self.order(program, &frontends, BTreeSet::new())? };
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

    /// When [`Backend::sweep`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.kept.as_ref().map(Kept::due)
    }

    /// Ends what connections needed that rules of another mode had made.
    pub fn sweep(&mut self, now: Instant) -> Result<(), Error> {
        if let Some(kept) = &mut self.kept
            && kept.sweep(now)?
        {
            self.kept = None;
        }
        Ok(())
    }

    /// What has been counted.
    pub fn counts(&mut self) -> Result<Counts, Error> {
        self.connect()?;
        Ok(self.talk(Connection::counts)?)
    }

    /// The one that addresses are made local through.
    pub fn socket(&self) -> &kernel::netlink::Socket {
        self.addresses.socket()
    }

    /// Something that becomes readable when the process has ended that carries the connections, which
    /// [`Backend::reconcile`] then starts anew; only the first caller gets it.
    pub fn lifeline(&mut self) -> Option<UnixStream> {
        self.connection.as_mut()?.lifeline()
    }

    /// The process that carries the connections has ended.
    pub fn is_lost(&mut self) {
        self.connection = None;
    }

    fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut connection = Connection::open(self.settings.carrier)?;
        let State { grace, locality, pods, fronts, doors } = connection.state()?;
        (self.grace, self.locality, self.pods) = (grace, locality, pods);
        self.fronts = fronts.into_iter().collect();
        self.doors = doors.into_iter().collect();
        self.connection = Some(connection);
        Ok(())
    }

    fn talk<T>(&mut self, say: impl FnOnce(&mut Connection) -> io::Result<T>) -> io::Result<T> {
        let Some(connection) = &mut self.connection else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let outcome = say(connection);
        if outcome.is_err() {
            self.connection = None;
        }
        outcome
    }

    /// Says once what is not served.
    fn tell(&mut self) {
        let unserved = self.unserved();
        if unserved != self.told {
            unserved.iter().for_each(|unserved| tracing::warn!("{unserved}"));
            self.told = unserved;
        }
    }

    fn claim(&mut self, program: &Program, addresses: &BTreeSet<IpAddr>) -> Result<usize, Error> {
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

    /// Orders what differs of these front ends, and of these doors beside theirs.
    fn order(
        &mut self,
        program: &Program,
        frontends: &BTreeSet<Frontend>,
        mut others: BTreeSet<Door>,
    ) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        let locality = Locality::of(program);
        let pods: BTreeSet<_> = program.pods.iter().map(|(address, _)| *address).collect();
        let mut news = message::Change {
            grace: self.settings.reset_gone_after,
            locality: (locality != self.locality).then_some(locality),
            pods: (pods != self.pods).then_some(pods),
            ..message::Change::default()
        };
        let frontends: Vec<_> = frontends.iter().copied().collect();
        for some in frontends.chunks(BATCH) {
            let doors: BTreeSet<_> = some.iter().flat_map(|it| doors(program, *it)).collect();
            others.retain(|door| !doors.contains(door));
            let change = self.difference(program, news, some, doors);
            news = message::Change { grace: change.grace, ..message::Change::default() };
            applied.add(self.send(program, change)?);
        }
        let change = self.difference(program, news, &[], others);
        applied.add(self.send(program, change)?);
        Ok(applied)
    }

    fn difference(
        &mut self,
        program: &Program,
        news: message::Change,
        frontends: &[Frontend],
        doors: BTreeSet<Door>,
    ) -> message::Change {
        let front = |frontend: &Frontend| {
            let wanted = program.services.get(frontend).map(message::told);
            (wanted.as_ref() != self.fronts.get(frontend)).then_some((*frontend, wanted))
        };
        let fronts = frontends.iter().filter_map(front).collect();
        let mut ordered = Vec::new();
        for door in doors {
            self.unserved.remove(&door);
            let wanted = bound(program, door);
            let frontend = wanted.map(|(frontend, _)| frontend);
            if frontend.as_ref() == self.doors.get(&door) {
                continue;
            }
            match wanted.map(|(_, binding)| (binding, self.reachable(door))) {
                Some((binding, Err(obstacle))) if !self.doors.contains_key(&door) => {
                    self.unserved.insert(door, (obstacle, binding.origin.clone()));
                }
                _ => ordered.push((door, frontend)),
            }
        }
        message::Change { fronts, doors: ordered, ..news }
    }

    /// Whether the machine has the address.
    fn reachable(&mut self, door: Door) -> Result<(), Obstacle> {
        match self.addresses.is_local(door.address.ip()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Obstacle::NotLocal),
            Err(error) => {
                let errno = error.errno();
                Err(errno.map_or(Obstacle::NotLocal, |errno: Errno| Obstacle::Other(errno as i32)))
            }
        }
    }

    fn send(&mut self, program: &Program, change: message::Change) -> Result<Done, Error> {
        let nothing = message::Change { grace: self.grace, ..message::Change::default() };
        if change == nothing {
            return Ok(Done::default());
        }
        let message::Change { grace, locality, pods, fronts, doors } = change.clone();
        let done = self.talk(|connection| connection.change(change))?;
        self.grace = grace;
        if let Some(locality) = locality {
            self.locality = locality;
        }
        if let Some(pods) = pods {
            self.pods = pods;
        }
        for (frontend, binding) in fronts {
            match binding {
                Some(binding) => drop(self.fronts.insert(frontend, binding)),
                None => drop(self.fronts.remove(&frontend)),
            }
        }
        for (door, frontend) in doors {
            match frontend {
                Some(frontend) => drop(self.doors.insert(door, frontend)),
                None => drop(self.doors.remove(&door)),
            }
        }
        for (door, obstacle) in &done.unopened {
            self.doors.remove(door);
            if let Some((_, binding)) = bound(program, *door) {
                self.unserved.insert(*door, (*obstacle, binding.origin.clone()));
            }
        }
        Ok(done)
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

impl Applied {
    fn add(&mut self, done: Done) {
        self.opened += done.opened;
        self.changed += done.changed;
        self.closed += done.closed;
    }
}

/// Tells the process that carries the connections in the network namespace of the calling thread to listen no more.
/// The addresses that this back end made local go with its last connection; at once, where there is no such process.
pub fn clean() -> Result<(), Error> {
    match Connection::find()? {
        Some((mut connection, _)) => connection.finish(true)?,
        None if kernel::local::names(LEAVING)?.is_empty() => release_all()?,
        None => {}
    }
    Ok(switch::release()?)
}

fn address_of(frontend: Frontend) -> Option<IpAddr> {
    match frontend.scope {
        Scope::Address(address) => Some(address),
        Scope::NodePort(_) => None,
    }
}
