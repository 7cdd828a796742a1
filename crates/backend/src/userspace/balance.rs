//! Which endpoint a connection gets. Pure: time, chance and the numbers of open connections are arguments.

use model::Scheduler;
use program::{Draw, Endpoint, Pool, Reach, Slots};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Clients that a Service port remembers at most; the one that came longest ago is forgotten first.
const MOST_CLIENTS: usize = 65_536;

/// How long an endpoint that was passed over is the last to be tried.
const REST: Duration = Duration::from_secs(10);

pub const SCHEDULERS: &[Scheduler] = model::ProxyMode::Userspace.schedulers();

/// A new connection that looks for an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub now: Duration,
    pub client: IpAddr,
    /// What it connected to.
    pub to: IpAddr,
    /// Evenly distributed.
    pub chance: u64,
    pub pool: &'a Pool,
    pub slots: &'a Slots,
    /// `None`: at random.
    pub scheduler: Option<Scheduler>,
    pub affinity: Option<Duration>,
    /// Those that did not answer.
    pub tried: &'a [SocketAddr],
}

/// What the choice for one Service port depends on beside the request.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: BTreeMap<Reach, Turns>,
    clients: Clients,
    /// Endpoints that were passed over, and until when others are tried first.
    resting: BTreeMap<SocketAddr, Duration>,
}

impl Balancer {
    /// `open`: how many connections an endpoint has. `None`: all were tried.
    pub fn choose(
        &mut self,
        request: Request<'_>,
        open: impl Fn(SocketAddr) -> usize,
    ) -> Option<SocketAddr> {
        self.resting.retain(|_, until| *until > request.now);
        if self.resting.is_empty() {
            return self.choose_among(request, open);
        }
        let tried: Vec<_> = request.tried.iter().chain(self.resting.keys()).copied().collect();
        let rested = Request { tried: &tried, ..request };
        self.choose_among(rested, &open).or_else(|| self.choose_among(request, open))
    }

    /// An endpoint has failed, or is so slow that others are tried beside it.
    pub fn passed_over(&mut self, now: Duration, endpoint: SocketAddr) {
        self.resting.insert(endpoint, now + REST);
    }

    /// An endpoint has taken the client, who stays with it where clients are remembered.
    pub fn made(&mut self, now: Duration, client: IpAddr, endpoint: SocketAddr, remember: bool) {
        self.resting.remove(&endpoint);
        if remember {
            self.clients.remember(now, client, endpoint);
        }
    }

    /// A client who is known moves only once another endpoint has taken him.
    fn choose_among(
        &mut self,
        request: Request<'_>,
        open: impl Fn(SocketAddr) -> usize,
    ) -> Option<SocketAddr> {
        let Request { now, client, pool, tried, affinity, .. } = request;
        let candidates = || pool.endpoints.iter().filter(|it| !tried.contains(&it.address()));
        let Some(timeout) = affinity else { return self.schedule(request, candidates(), open) };
        let known = self.clients.endpoint(now, client, timeout);
        let there = known.filter(|known| candidates().any(|it| it.address() == *known));
        let chosen = there.or_else(|| self.schedule(request, candidates(), open))?;
        if known.is_none() || there.is_some() {
            self.clients.remember(now, client, chosen);
        }
        Some(chosen)
    }

    fn schedule<'a>(
        &mut self,
        request: Request<'a>,
        mut candidates: impl Iterator<Item = &'a Endpoint> + Clone,
        open: impl Fn(SocketAddr) -> usize,
    ) -> Option<SocketAddr> {
        let Request { pool, chance, .. } = request;
        let turns = self.turns.entry(pool.reach).or_default();
        // Loads are compared as fractions: connections over weight.
        let least = |more: usize, weighted: bool| {
            let all: Vec<_> = candidates.clone().collect();
            let load =
                |it: &Endpoint| (open(it.address()) + more, if weighted { weight(it) } else { 1 });
            lightest(&all, load, chance)
        };
        match request.scheduler {
            Some(Scheduler::RoundRobin) => turns.next(candidates, |_alike| 1),
            Some(Scheduler::WeightedRoundRobin) => turns.next(candidates, weight),
            Some(Scheduler::LeastConnection) => least(0, false),
            Some(Scheduler::WeightedLeastConnection | Scheduler::LocalityLeastConnection) => {
                least(0, true)
            }
            Some(Scheduler::ShortestExpectedDelay) => least(1, true),
            Some(Scheduler::NeverQueue) => {
                let idle =
                    candidates.clone().filter(|it| open(it.address()) == 0).collect::<Vec<_>>();
                let quickest = lightest(&idle, |it| (1, weight(it)), chance);
                quickest.or_else(|| least(1, true))
            }
            Some(Scheduler::SourceHash | Scheduler::DestinationHash | Scheduler::Maglev) => {
                hashed(request).or_else(|| candidates.next().map(|it| it.address()))
            }
            Some(Scheduler::Random) | None => random(candidates, chance),
        }
    }
}

fn weight(endpoint: &Endpoint) -> usize {
    usize::from(endpoint.weight.max(1))
}

/// Chance decides between those that are equal: an idle Service would have only its first endpoint at work.
fn lightest(
    all: &[&Endpoint],
    load: impl Fn(&Endpoint) -> (usize, usize),
    chance: u64,
) -> Option<SocketAddr> {
    let loads: Vec<_> = all.iter().map(|it| load(it)).collect();
    let less = |(a, of_a): &(usize, usize), (b, of_b): &(usize, usize)| (a * of_b).cmp(&(b * of_a));
    let least = loads.iter().min_by(|a, b| less(a, b))?;
    let mut equal: Vec<_> = all.iter().zip(&loads).collect();
    equal.retain(|(_, load)| less(load, least).is_eq());
    Some(equal[below(chance, equal.len())].0.address())
}

fn random<'a>(
    candidates: impl Iterator<Item = &'a Endpoint> + Clone,
    chance: u64,
) -> Option<SocketAddr> {
    let total: usize = candidates.clone().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut left = below(chance, total);
    let chosen = candidates.into_iter().find(|it| {
        let (mine, rest) = (left < weight(it), left.saturating_sub(weight(it)));
        left = rest;
        mine
    });
    chosen.map(|it| it.address())
}

/// The endpoint of the slot, or that of the next slot whose endpoint was not tried.
fn hashed(request: Request<'_>) -> Option<SocketAddr> {
    let Request { slots, pool, client, to, tried, .. } = request;
    let key = if slots.draw == Draw::Destination { to } else { client };
    let hash = match key {
        IpAddr::V4(key) => program::slots::fnv1a(key.octets()),
        IpAddr::V6(key) => program::slots::fnv1a(key.octets()),
    };
    let number = slots.endpoints.len();
    let first = if number == 0 { 0 } else { below(hash, number) };
    let (before, after) = slots.endpoints.split_at(first);
    let addresses = after.iter().chain(before).map(|index| pool.endpoints[*index].address());
    addresses.into_iter().find(|address| !tried.contains(address))
}

/// An even number to one below `bound`, which is not zero.
fn below(chance: u64, bound: usize) -> usize {
    usize::try_from(chance % bound as u64).unwrap_or_default()
}

/// Whose turn it is: each gets its share in every run of so many connections as all weights make, and as far
/// apart as that allows.
#[derive(Debug, Default)]
struct Turns {
    credit: BTreeMap<SocketAddr, i64>,
}

impl Turns {
    fn next<'a>(
        &mut self,
        candidates: impl Iterator<Item = &'a Endpoint> + Clone,
        weight: impl Fn(&Endpoint) -> usize,
    ) -> Option<SocketAddr> {
        let weight = |it: &Endpoint| i64::try_from(weight(it)).unwrap_or(1);
        let there: BTreeSet<_> = candidates.clone().map(|it| it.address()).collect();
        self.credit.retain(|address, _| there.contains(address));
        for endpoint in candidates.clone() {
            *self.credit.entry(endpoint.address()).or_default() += weight(endpoint);
        }
        let total: i64 = candidates.map(weight).sum();
        let (address, credit) =
            self.credit.iter_mut().max_by(|(a, x), (b, y)| x.cmp(y).then(b.cmp(a)))?;
        *credit -= total;
        Some(*address)
    }
}

/// Which endpoint a client had, and when it last came.
#[derive(Debug, Default)]
struct Clients {
    known: BTreeMap<IpAddr, (SocketAddr, Duration)>,
    /// The same in order of time.
    order: BTreeSet<(Duration, IpAddr)>,
}

impl Clients {
    fn endpoint(&mut self, now: Duration, client: IpAddr, timeout: Duration) -> Option<SocketAddr> {
        while let Some((last, oldest)) = self.order.first().copied() {
            if now.saturating_sub(last) < timeout && self.known.len() < MOST_CLIENTS {
                break;
            }
            self.forget(last, oldest);
        }
        self.known.get(&client).map(|(endpoint, _)| *endpoint)
    }

    fn remember(&mut self, now: Duration, client: IpAddr, endpoint: SocketAddr) {
        if let Some((_, last)) = self.known.insert(client, (endpoint, now)) {
            self.order.remove(&(last, client));
        }
        self.order.insert((now, client));
    }

    fn forget(&mut self, last: Duration, client: IpAddr) {
        self.order.remove(&(last, client));
        self.known.remove(&client);
    }
}

#[cfg(test)]
mod tests;
