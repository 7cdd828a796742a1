//! What all front ends of a Service port share: whose turn it is, who has which endpoint, what is open.

use super::balance::{Balancer, Request};
use super::lower::{Front, Target};
use program::Standing;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long connections to an endpoint that is gone are left alone: it may be back, or say goodbye itself.
pub(super) const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Service {
    began: Instant,
    chance: RandomState,
    /// Written by the tasks of all doors of the Service port, and by the back end.
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
    cut: watch::Sender<bool>,
}

/// A connection to an endpoint, or an attempt at one; counted as open while it lives.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) endpoint: SocketAddr,
    line: Arc<Line>,
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
        Some(Lease { endpoint, line })
    }

    /// Whether there are connections whose endpoints are gone: [`Service::cut`] is due after [`GRACE`].
    pub(super) fn stand(&self, standing: &[Standing]) -> bool {
        let now = self.now();
        let mut state = self.state();
        let State { lines, gone, standing: known, .. } = &mut *state;
        *known = standing.iter().map(|it| (it.address, *it)).collect();
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

    /// Ends the connections whose endpoints have been gone for long enough.
    pub(super) fn cut(&self) {
        let now = self.now();
        let mut state = self.state();
        let State { lines, gone, .. } = &mut *state;
        gone.retain(|endpoint, since| {
            let over = now.saturating_sub(*since) >= GRACE;
            if over && let Some(line) = lines.remove(endpoint) {
                line.cut.send_replace(true);
            }
            !over
        });
    }

    /// Whether an endpoint goes on answering those that it has already.
    pub(super) fn is_serving(&self, endpoint: SocketAddr) -> bool {
        self.state().standing.get(&endpoint).is_some_and(|it| it.serving)
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
        Arc::new(Line { open: AtomicUsize::new(0), cut: watch::Sender::new(false) })
    }
}

impl Lease {
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
