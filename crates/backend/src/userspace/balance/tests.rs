use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn pool(weights: &[u16]) -> Pool {
    let hosts = (1..=u8::MAX).map(|host| SocketAddr::from(([10, 244, 1, host], 80)));
    let endpoints = hosts.zip(weights).map(|(address, weight)| Endpoint::at(address, *weight));
    Pool { endpoints: endpoints.collect(), reach: Reach::Cluster, terminating: false }
}

/// Connections of one Service, and how many each endpoint has open.
struct Run {
    balancer: Balancer,
    pool: Pool,
    scheduler: Option<Scheduler>,
    affinity: Option<Duration>,
    slots: Slots,
    open: BTreeMap<SocketAddr, usize>,
}

impl Run {
    fn new(weights: &[u16], scheduler: Option<Scheduler>) -> Self {
        let pool = pool(weights);
        let slots = Slots::of(&pool, scheduler);
        let (balancer, open) = (Balancer::default(), BTreeMap::new());
        Run { balancer, pool, scheduler, affinity: None, slots, open }
    }

    fn choose(
        &mut self,
        now: Duration,
        client: u32,
        chance: u64,
        tried: &[SocketAddr],
    ) -> Option<usize> {
        let request = Request {
            now,
            client: IpAddr::from(client.to_be_bytes()),
            to: IpAddr::from([10, 96, 0, 1]),
            chance,
            pool: &self.pool,
            slots: &self.slots,
            scheduler: self.scheduler,
            affinity: self.affinity,
            tried,
        };
        let open = |address| self.open.get(&address).copied().unwrap_or_default();
        let chosen = self.balancer.choose(request, open)?;
        *self.open.entry(chosen).or_default() += 1;
        self.pool.endpoints.iter().position(|it| it.address() == chosen)
    }

    fn open(&self, index: usize) -> usize {
        self.open.get(&self.pool.endpoints[index].address()).copied().unwrap_or_default()
    }

    fn weight(&self, index: usize) -> usize {
        usize::from(self.pool.endpoints[index].weight)
    }
}

fn weights() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(1..9_u16, 1..8)
}

fn schedulers() -> impl Strategy<Value = Option<Scheduler>> {
    let all: Vec<_> = Scheduler::ALL.map(Some).into();
    prop_oneof![1 => Just(None), 11 => prop::sample::select(all)]
}

proptest! {
    #[test]
    fn turns_are_exact(weights in weights(), rounds in 1..4_usize) {
        for (scheduler, alike) in [(Scheduler::RoundRobin, true), (Scheduler::WeightedRoundRobin, false)] {
            let mut run = Run::new(&weights, Some(scheduler));
            let share = |index: usize| if alike { 1 } else { usize::from(weights[index]) };
            let total: usize = (0..weights.len()).map(share).sum();
            for _connection in 0..rounds * total {
                prop_assert!(run.choose(SECOND, 1, 0, &[]).is_some());
            }
            for index in 0..weights.len() {
                prop_assert_eq!(run.open(index), rounds * share(index));
            }
        }
    }

    #[test]
    fn the_least_busy_is_next(weights in weights(), chances in prop::collection::vec(any::<u64>(), 1..60)) {
        for (scheduler, more, weighted) in [
            (Scheduler::LeastConnection, 0, false),
            (Scheduler::WeightedLeastConnection, 0, true),
            (Scheduler::ShortestExpectedDelay, 1, true),
        ] {
            let mut run = Run::new(&weights, Some(scheduler));
            for chance in &chances {
                let before: Vec<_> = (0..weights.len()).map(|index| run.open(index) + more).collect();
                let chosen = run.choose(SECOND, 1, *chance, &[]).unwrap();
                let of = |index| if weighted { run.weight(index) } else { 1 };
                for index in 0..weights.len() {
                    prop_assert!(before[chosen] * of(index) <= before[index] * of(chosen));
                }
            }
        }
    }

    #[test]
    fn nobody_queues_while_one_is_idle(weights in weights(), chance in any::<u64>()) {
        let mut run = Run::new(&weights, Some(Scheduler::NeverQueue));
        let chosen: BTreeSet<_> = weights.iter().map(|_| run.choose(SECOND, 1, chance, &[])).collect();
        prop_assert_eq!(chosen.len(), weights.len());
    }

    #[test]
    fn hashes_keep_their_word(weights in weights(), client in any::<u32>(), others in any::<[u32; 4]>()) {
        for scheduler in [Scheduler::SourceHash, Scheduler::Maglev, Scheduler::DestinationHash] {
            let mut run = Run::new(&weights, Some(scheduler));
            let first = run.choose(SECOND, client, 0, &[]);
            for other in others {
                let of_other = run.choose(SECOND, other, 1, &[]);
                prop_assert!(scheduler != Scheduler::DestinationHash || of_other == first);
                prop_assert_eq!(run.choose(SECOND, client, 2, &[]), first);
            }
        }
    }

    #[test]
    fn all_are_tried_once(weights in weights(), scheduler in schedulers(), chance in any::<u64>()) {
        let mut run = Run::new(&weights, scheduler);
        let mut tried = Vec::new();
        while let Some(index) = run.choose(SECOND, 1, chance, &tried) {
            let address = run.pool.endpoints[index].address();
            prop_assert!(!tried.contains(&address), "{:?}", scheduler);
            tried.push(address);
        }
        prop_assert_eq!(tried.len(), weights.len());
    }

    /// All others are tried before those that were passed over, for as long as these rest.
    #[test]
    fn who_was_passed_over_is_tried_last(
        weights in weights(),
        scheduler in schedulers(),
        resting in prop::collection::btree_set(0..8_usize, 0..4),
        chance in any::<u64>(),
    ) {
        let mut run = Run::new(&weights, scheduler);
        let resting: BTreeSet<_> = resting.into_iter().filter(|it| *it < weights.len()).collect();
        for index in &resting {
            run.balancer.passed_over(SECOND, run.pool.endpoints[*index].address());
        }
        for (now, fresh) in [(SECOND, weights.len() - resting.len()), (SECOND + REST, 0)] {
            let mut tried = Vec::new();
            for count in 0..weights.len() {
                let index = run.choose(now, 1, chance, &tried).unwrap();
                if now == SECOND {
                    prop_assert_eq!(resting.contains(&index), count >= fresh, "{:?}", scheduler);
                }
                tried.push(run.pool.endpoints[index].address());
            }
            prop_assert_eq!(run.choose(now, 1, chance, &tried), None);
        }
        prop_assert!(run.balancer.resting.is_empty());
    }

    /// Against a memory that forgets nothing and looks at the time.
    #[test]
    fn a_client_keeps_its_endpoint_until_its_time_is_over(
        weights in weights(),
        scheduler in schedulers(),
        visits in prop::collection::vec((0..4_u32, 0..40_u64, any::<u64>()), 1..80),
    ) {
        let mut run = Run::new(&weights, scheduler);
        run.affinity = Some(30 * SECOND);
        let (mut now, mut memory) = (Duration::ZERO, BTreeMap::new());
        for (client, later, chance) in visits {
            now += Duration::from_secs(later);
            let chosen = run.choose(now, client, chance, &[]).unwrap();
            if let Some((endpoint, last)) = memory.insert(client, (chosen, now))
                && now - last < 30 * SECOND
            {
                prop_assert_eq!(chosen, endpoint);
            }
        }
        let fresh = memory.values().filter(|(_, last)| now - *last < 30 * SECOND).count();
        prop_assert!(run.balancer.clients.known.len() <= memory.len());
        prop_assert!(run.balancer.clients.known.len() >= fresh);
        prop_assert_eq!(run.balancer.clients.known.len(), run.balancer.clients.order.len());
    }
}

#[test]
fn chance_gives_shares_by_weight() {
    let mut run = Run::new(&[1, 2, 5], None);
    for chance in 0..800 {
        run.choose(SECOND, 1, chance, &[]).unwrap();
    }
    assert_eq!([0, 1, 2].map(|index| run.open(index)), [100, 200, 500]);
}

#[test]
fn turns_survive_endpoints_that_come_and_go() {
    let mut run = Run::new(&[1, 1, 1], Some(Scheduler::RoundRobin));
    assert_eq!(run.choose(SECOND, 1, 0, &[]), Some(0));
    // The one that goes would be the next.
    let kept = run.pool.endpoints.iter().enumerate().filter(|(index, _)| *index != 1);
    run.pool.endpoints = kept.map(|(_, endpoint)| endpoint.clone()).collect();
    let then: Vec<_> = (0..4).filter_map(|_| run.choose(SECOND, 1, 0, &[])).collect();
    assert_eq!(then, [1, 1, 0, 1]);
}

/// A client whose endpoint is passed over goes back to it, unless another one has taken him.
#[test]
fn a_client_moves_once_another_endpoint_has_taken_him() {
    let mut run = Run::new(&[1, 1, 1], Some(Scheduler::RoundRobin));
    run.affinity = Some(100 * SECOND);
    let client = IpAddr::from([0, 0, 0, 1]);
    let address = |run: &Run, index: usize| run.pool.endpoints[index].address();
    let first = run.choose(SECOND, 1, 0, &[]).unwrap();
    let home = address(&run, first);
    run.balancer.passed_over(SECOND, home);
    let second = run.choose(SECOND, 1, 0, &[home]).unwrap();
    assert_ne!(second, first);
    let later = SECOND + REST;
    assert_eq!(run.choose(later, 1, 0, &[]), Some(first), "nobody has taken him meanwhile");
    run.balancer.passed_over(later, home);
    // It answered after all.
    run.balancer.made(later, client, home, true);
    assert_eq!(run.choose(later + SECOND, 1, 0, &[]), Some(first));
    run.balancer.passed_over(later + SECOND, home);
    let third = run.choose(later + SECOND, 1, 0, &[]).unwrap();
    run.balancer.made(later + SECOND, client, address(&run, third), true);
    assert_eq!(run.choose(later + SECOND + REST, 1, 0, &[]), Some(third));
}

#[test]
fn memory_of_clients_is_bounded() {
    let mut run = Run::new(&[1, 1], None);
    run.affinity = Some(10_000 * SECOND);
    for client in 0..70_000 {
        run.choose(SECOND, client, u64::from(client), &[]).unwrap();
    }
    assert_eq!(run.balancer.clients.known.len(), MOST_CLIENTS);
}
