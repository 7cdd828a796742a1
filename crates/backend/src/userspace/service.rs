//! What all front ends of a Service port share: whose turn it is, who has which endpoint, what is open.

use super::balance::{Balancer, Request};
use super::lower::{Front, ServiceKey, Target};
use super::message::{EndpointCount, Octets};
use program::Standing;
use relay::Way;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Service {
    began: Instant,
    chance: RandomState,
    /// Written by the tasks of all doors of the Service port, and by the one who opens and closes them.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    balancer: Balancer,
    /// How many connections were made.
    made: u64,
    lines: BTreeMap<SocketAddr, Arc<Line>>,
    standing: BTreeMap<SocketAddr, Standing>,
    gone: BTreeMap<SocketAddr, Duration>,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Line {
    open: AtomicUsize,
    connections: AtomicU64,
    failures: AtomicU64,
    octets: Traffic,
    cut: watch::Sender<bool>,
}

/// Octets as they are counted.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

/// A connection to an endpoint, or an attempt at one; counted as open while it lives.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) endpoint: SocketAddr,
    line: Arc<Line>,
    passed_over: AtomicBool,
}

impl Service {
    pub(super) fn new() -> Self {
        let (began, chance) = (Instant::now(), RandomState::new());
        Service { began, chance, state: Mutex::default() }
    }

    /// `to`: what was connected to. `tried`: endpoints that did not answer. `None`: there are no others.
    pub(super) fn choose(
        &self,
        front: &Front,
        target: &Target,
        (client, to): (IpAddr, IpAddr),
        tried: &[SocketAddr],
    ) -> Option<Lease> {
        let mut state = self.state();
        let State { balancer, made, lines, .. } = &mut *state;
        *made += 1;
        let request = Request {
            now: self.now(),
            client,
            to,
            chance: self.chance.hash_one(*made),
            pool: &target.pool,
            slots: &target.slots,
            scheduler: front.scheduler,
            affinity: front.affinity,
            tried,
        };
        let open = |endpoint| lines.get(&endpoint).map_or(0, |line| line.open.load(Relaxed));
        let endpoint = balancer.choose(request, open)?;
        let line = lines.entry(endpoint).or_insert_with(Line::new).clone();
        line.open.fetch_add(1, Relaxed);
        Some(Lease { endpoint, line, passed_over: AtomicBool::new(false) })
    }

    /// An endpoint has taken the client, or may be taken to have.
    pub(super) fn made(&self, front: &Front, client: IpAddr, lease: &Lease) {
        lease.line.connections.fetch_add(1, Relaxed);
        let remember = front.affinity.is_some();
        self.state().balancer.made(self.now(), client, lease.endpoint, remember);
    }

    /// An endpoint has failed, or others are tried beside it: they are tried first for a while.
    pub(super) fn passed_over(&self, lease: &Lease) {
        if !lease.passed_over.swap(true, Relaxed) {
            lease.line.failures.fetch_add(1, Relaxed);
        }
        self.state().balancer.passed_over(self.now(), lease.endpoint);
    }

    /// Whether connections have just lost their endpoints: [`Service::cut`] is due after the time of grace.
    pub(super) fn stand(&self, standing: &[Standing]) -> bool {
        let now = self.now();
        let mut state = self.state();
        let State { lines, gone, standing: known, .. } = &mut *state;
        *known = standing.iter().map(|it| (it.address(), *it)).collect();
        lines.retain(|endpoint, line| known.contains_key(endpoint) || line.open.load(Relaxed) > 0);
        gone.retain(|endpoint, _| lines.contains_key(endpoint) && !known.contains_key(endpoint));
        let mut fresh = false;
        for endpoint in lines.keys().filter(|endpoint| !known.contains_key(endpoint)) {
            gone.entry(*endpoint).or_insert_with(|| {
                fresh = true;
                now
            });
        }
        fresh
    }

    /// Ends the connections whose endpoints have been gone for so long, unless somebody is `alive` there; returns how
    /// many.
    pub(super) fn cut(&self, grace: Duration, alive: &BTreeSet<IpAddr>) -> u64 {
        let now = self.now();
        let mut state = self.state();
        let State { lines, gone, .. } = &mut *state;
        let mut ended = 0;
        gone.retain(|endpoint, since| {
            let late = now.saturating_sub(*since) >= grace;
            let over = late && !alive.contains(&endpoint.ip());
            if over && let Some(line) = lines.remove(endpoint) {
                ended += number(line.open.load(Relaxed));
                line.cut.send_replace(true);
            }
            !over
        });
        ended
    }

    /// Whether there are connections.
    pub(super) fn is_busy(&self) -> bool {
        self.state().lines.values().any(|line| line.open.load(Relaxed) > 0)
    }

    /// All its endpoints.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.state().standing.keys().map(SocketAddr::ip).collect()
    }

    /// Whether an endpoint goes on answering those that it has already.
    pub(super) fn is_serving(&self, endpoint: SocketAddr) -> bool {
        self.state().standing.get(&endpoint).is_some_and(|it| it.serving)
    }

    pub(super) fn counts(&self, service: &ServiceKey) -> Vec<EndpointCount> {
        let count = |(endpoint, line): (&SocketAddr, &Arc<Line>)| EndpointCount {
            service: service.clone(),
            endpoint: *endpoint,
            open: number(line.open.load(Relaxed)),
            connections: line.connections.load(Relaxed),
            failures: line.failures.load(Relaxed),
            octets: line.octets.read(),
        };
        self.state().lines.iter().map(count).collect()
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new() -> Arc<Self> {
        Arc::new(Line {
            open: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            octets: Traffic::default(),
            cut: watch::Sender::new(false),
        })
    }
}

impl Traffic {
    pub(super) fn add(&self, way: Way, octets: u64) {
        let counter = if way == Way::There { &self.received } else { &self.sent };
        counter.fetch_add(octets, Relaxed);
    }

    pub(super) fn read(&self) -> Octets {
        Octets { received: self.received.load(Relaxed), sent: self.sent.load(Relaxed) }
    }
}

impl Lease {
    pub(super) fn octets(&self) -> &Traffic {
        &self.line.octets
    }

    /// When its endpoint is given up.
    pub(super) async fn is_cut(&self) {
        if self.line.cut.subscribe().wait_for(|cut| *cut).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.line.open.fetch_sub(1, Relaxed);
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
