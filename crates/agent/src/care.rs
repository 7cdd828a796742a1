//! Care for connections under way when Services change: a thread beside the loop, so that looking through many
//! connections never holds up the programming of the kernel.
//!
//! ```text
//!  changes that the kernel has taken ──► stale UDP entries: forgotten, at once
//!                                   └──► TCP to endpoints that are gone: reset, after a while
//!  every second ──► is the connection table nearly full?
//! ```

mod alarm;
mod crowd;
mod reset;
mod stale;

use crate::events::{SPACING, Teller};
use crate::metrics::Metrics;
use alarm::Alarm;
use crowd::Crowd;
use kernel::conntrack::{self, Connection, Statistics, Which};
use kernel::netlink::Socket;
use kernel::{route, sysctl};
use model::{Family, Protocol};
use program::{Change, Program};
use reset::Resetter;
use stale::{Frontends, Gone};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Between looks at how full the connection table is: the kernel tells nobody.
const LOOK: Duration = Duration::from_secs(1);
/// What an operator can do about a full connection table.
const REMEDY: &str = "raise net.netfilter.nf_conntrack_max (--conntrack-max-per-core, --conntrack-min), let idle connections be forgotten sooner (--conntrack-tcp-timeout-established, --conntrack-udp-timeout-stream), or stop who opens so many";

/// What care is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Care {
    /// Stale SCTP associations are forgotten like UDP flows.
    pub sctp: bool,
    /// How long a TCP connection to an endpoint that is gone is let be; `None`: for ever.
    pub reset_gone_after: Option<Duration>,
}

impl Default for Care {
    fn default() -> Self {
        Care { sctp: false, reset_gone_after: Some(Duration::from_secs(5)) }
    }
}

/// The door to the thread, which ends with it.
pub(crate) struct Caretaker(Sender<Message>);

enum Message {
    Everything(Box<Program>),
    Changes(Vec<Change>),
}

impl Caretaker {
    pub(crate) fn start(care: Care, metrics: Arc<Metrics>, teller: Teller) -> Self {
        let (sender, receiver) = channel();
        let started = std::thread::Builder::new().name("care".to_owned()).spawn(move || {
            match Worker::open(care, metrics, teller) {
                Ok(worker) => worker.run(&receiver),
                Err(error) => warn!(%error, "connections under way are not cared for"),
            }
        });
        if let Err(error) = started {
            warn!(%error, "connections under way are not cared for");
        }
        Caretaker(sender)
    }

    /// The kernel has the whole program. Of it only what is needed goes over.
    pub(crate) fn compared(&self, program: &Program) {
        self.tell(Message::Everything(Box::new(about_connections(program))));
    }

    /// The kernel has these changes.
    pub(crate) fn changed(&self, changes: &[Change]) {
        let changes = changes_about_connections(changes);
        if !changes.is_empty() {
            self.tell(Message::Changes(changes));
        }
    }

    fn tell(&self, message: Message) {
        // A thread that could not start has said so.
        self.0.send(message).ok();
    }
}

/// What of a program decides about connections under way.
pub(crate) fn about_connections(program: &Program) -> Program {
    Program {
        addresses: program.addresses.clone(),
        node_ports: program.node_ports.clone(),
        networks: program.networks.clone(),
        services: program.services.clone(),
        pods: program.pods.clone(),
        ..Program::default()
    }
}

pub(crate) fn changes_about_connections(changes: &[Change]) -> Vec<Change> {
    let matters = |change: &&Change| {
        matches!(change, Change::Frontend { .. } | Change::Addresses { .. } | Change::Pod { .. })
    };
    changes.iter().filter(matters).cloned().collect()
}

struct Worker {
    care: Care,
    metrics: Arc<Metrics>,
    teller: Teller,
    socket: Socket,
    frontends: Frontends,
    /// When to look whether connections to these endpoints are left.
    gone: BTreeMap<Instant, Gone>,
    resetter: Resetter,
    alarm: Alarm,
    /// Packets that the connection table had no room for, as far as they have been told.
    dropped: Option<u64>,
    /// Who had most connections, and when that was looked at.
    greatest: Option<(Instant, String)>,
}

impl Worker {
    fn open(care: Care, metrics: Arc<Metrics>, teller: Teller) -> kernel::Result<Self> {
        Ok(Worker {
            care,
            metrics,
            teller,
            socket: Socket::netfilter()?,
            frontends: Frontends::default(),
            gone: BTreeMap::new(),
            resetter: Resetter::new()?,
            alarm: Alarm::default(),
            dropped: None,
            greatest: None,
        })
    }

    fn run(mut self, messages: &Receiver<Message>) {
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            let due = self.gone.keys().next().copied().into_iter().chain(self.resetter.next());
            let next = due.fold(look, Instant::min);
            match messages.recv_timeout(next.saturating_duration_since(now)) {
                Ok(first) => {
                    let outcome = self.follow(first, messages);
                    self.warn("stale connections stay", outcome);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if look <= Instant::now() {
                look = Instant::now() + LOOK;
                self.look();
            }
            let outcome = self.reset_gone();
            self.warn("connections to endpoints that are gone stay", outcome);
        }
    }

    fn warn(&self, what: &str, outcome: kernel::Result<()>) {
        if let Err(error) = outcome {
            warn!(error = %crate::watch::chain(&error), "{what}");
        }
    }

    /// Takes in all that is there, then looks through the connections once.
    fn follow(&mut self, first: Message, messages: &Receiver<Message>) -> kernel::Result<()> {
        let (mut touched, mut gone) = (BTreeSet::new(), Gone::default());
        for message in std::iter::once(first).chain(messages.try_iter()) {
            match message {
                Message::Everything(program) => {
                    self.frontends = Frontends::of(*program);
                    // What was compared with and what came over are gone by now.
                    kernel::process::release_memory();
                    touched = self.frontends.all();
                    gone = Gone::Any;
                }
                Message::Changes(changes) => {
                    for change in changes {
                        gone.note(&change);
                        touched.extend(self.frontends.change(change));
                    }
                }
            }
        }
        if let Some(grace) = self.care.reset_gone_after.filter(|_| !gone.is_nothing()) {
            self.gone.insert(Instant::now() + grace, gone);
        }
        touched.retain(|frontend| match frontend.protocol {
            Protocol::Udp => true,
            Protocol::Sctp => self.care.sctp,
            Protocol::Tcp => false,
        });
        if touched.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        self.learn_addresses()?;
        let frontends = &self.frontends;
        let stale = conntrack::connections(&mut self.socket, Which::Both, |connection| {
            frontends.is_stale(connection, &touched)
        })?;
        let forgotten = self.forget(&stale)?;
        self.frontends.settle();
        let families: BTreeSet<_> = touched.iter().map(|it| it.scope.family()).collect();
        for family in families {
            self.metrics.of(family).reconciler.observe(began.elapsed());
        }
        debug!(front_ends = touched.len(), forgotten, "stale connections forgotten");
        Ok(())
    }

    /// Where node ports answer by prefixes, all of the node's addresses count.
    fn learn_addresses(&mut self) -> kernel::Result<()> {
        if self.frontends.needs_addresses() {
            let addresses = route::addresses(&mut Socket::route()?)?;
            self.frontends.learn(addresses.iter().map(|address| address.net.addr()));
        }
        Ok(())
    }

    fn forget(&mut self, connections: &[Connection]) -> kernel::Result<u64> {
        let mut forgotten = 0;
        for connection in connections {
            let Connection { original, zone, id, .. } = connection;
            let gone = conntrack::delete(&mut self.socket, original, *zone, Some(*id))?;
            let of_family = self.metrics.of(Family::of(original.source));
            of_family.deleted_entries.add(gone.into());
            forgotten += u64::from(gone);
        }
        Ok(forgotten)
    }

    /// Ends TCP connections to endpoints that went away a while ago.
    fn reset_gone(&mut self) -> kernel::Result<()> {
        let now = Instant::now();
        self.resetter.tend(now)?;
        while let Some(due) = self.gone.first_entry().filter(|due| *due.key() <= now) {
            let gone = due.remove();
            self.learn_addresses()?;
            let frontends = &self.frontends;
            let mut left = conntrack::connections(&mut self.socket, Which::Both, |connection| {
                frontends.is_to_gone(connection, &gone)
            })?;
            let alive = if left.is_empty() { BTreeSet::new() } else { self.frontends.alive() };
            left.retain(|connection| !alive.contains(&connection.reply.source));
            if left.is_empty() {
                continue;
            }
            let reset = self.resetter.reset(&mut self.socket, &left, now)?;
            self.metrics.resets.add(reset);
            debug!(reset, "connections to endpoints that are gone reset");
        }
        Ok(())
    }

    fn look(&mut self) {
        let number = |path| sysctl::read(path).ok()?.parse::<u32>().ok();
        let entries = number("net/netfilter/nf_conntrack_count");
        let limit = number("net/netfilter/nf_conntrack_max");
        let Some((entries, limit)) = entries.zip(limit) else { return };
        self.metrics.conntrack_entries.set(entries.into());
        self.metrics.conntrack_limit.set(limit.into());
        if self.alarm.is_raised_by(entries, limit) {
            let who = self.whose();
            let message = format!(
                "the connection table is nearly full: {entries} of {limit}, and new connections will be lost{who}; {REMEDY}"
            );
            warn!("{message}");
            self.teller.warn("ConntrackNearlyFull", message);
        }
        let outcome = self.look_for_losses(entries, limit);
        self.warn("what the connection table had no room for is not known", outcome);
    }

    fn look_for_losses(&mut self, entries: u32, limit: u32) -> kernel::Result<()> {
        let Statistics { dropped, forgotten } = conntrack::statistics(&mut self.socket)?;
        self.metrics.conntrack_dropped.set(dropped);
        self.metrics.conntrack_forgotten.set(forgotten);
        let before = self.dropped.replace(dropped).unwrap_or(dropped);
        // A few are lost to races between packets of one connection, at any time.
        let is_full = u64::from(entries) * 100 >= u64::from(limit) * 99 && limit > 0;
        if dropped > before && is_full {
            let (lost, who) = (dropped - before, self.whose());
            let message = format!(
                "the connection table is full ({limit}): {lost} packets of new connections were lost{who}; {REMEDY}"
            );
            warn!("{message}");
            self.teller.warn("ConntrackFull", message);
        }
        Ok(())
    }

    /// Who has more connections than all others, as a clause. Looking through a full table is work: once a minute
    /// must do, and nobody is told more often.
    fn whose(&mut self) -> String {
        match &self.greatest {
            Some((when, who)) if when.elapsed() < SPACING => who.clone(),
            _ => {
                let who = self.look_who();
                self.greatest = Some((Instant::now(), who.clone()));
                who
            }
        }
    }

    fn look_who(&mut self) -> String {
        let (mut crowd, mut all) = (Crowd::default(), 0_u64);
        let counted = conntrack::connections(&mut self.socket, Which::Both, |connection| {
            crowd.count(connection.original.source);
            all += 1;
            false
        });
        match crowd.greatest().filter(|(_, count)| counted.is_ok() && count * 4 >= all) {
            Some((who, count)) => format!("; {who} has opened at least {count} of them"),
            None => String::new(),
        }
    }
}
