//! Whole segments of virtual routers in simulated time: loss, delay, crashes and restarts.

use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::time::Duration;
use wire::machine::vrrp::{Action, Config, Event, Router, State};
use wire::vrrp::{Addresses, Advertisement, Centiseconds, Interval};

const INTERVAL: Duration = Duration::from_millis(100);
const LARGEST_DELAY: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash(prop::sample::Index),
    Restart(prop::sample::Index),
    Resign(prop::sample::Index),
    Lose { percent: u8, millis: u16 },
    Wait { millis: u16 },
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        any::<prop::sample::Index>().prop_map(Fault::Crash),
        any::<prop::sample::Index>().prop_map(Fault::Restart),
        any::<prop::sample::Index>().prop_map(Fault::Resign),
        (0..=100u8, 0..1000u16).prop_map(|(percent, millis)| Fault::Lose { percent, millis }),
        (0..1000u16).prop_map(|millis| Fault::Wait { millis }),
    ];
    vec(fault, 0..24)
}

struct Node {
    router: Router,
    source: Ipv4Addr,
    priority: u8,
    /// The address is on its interface; a crash leaves it there.
    holds: bool,
    alive: bool,
}

struct Segment {
    now: Duration,
    nodes: Vec<Node>,
    /// Advertisements on their way, by arrival and a serial number.
    flying: BTreeMap<(Duration, u64), (usize, Ipv4Addr, Advertisement)>,
    serial: u64,
    preempt: bool,
    loss_percent: u8,
    random: u64,
}

impl Segment {
    fn new(priorities: &[u8], preempt: bool, seed: u64) -> Self {
        let nodes = priorities.iter().zip(1..).map(|(&priority, octet)| {
            let source = Ipv4Addr::new(10, 1, 1, octet);
            let router = Router::new(config(priority, preempt, source));
            Node { router, source, priority, holds: false, alive: false }
        });
        let mut segment = Segment {
            now: Duration::ZERO,
            nodes: nodes.collect(),
            flying: BTreeMap::new(),
            serial: 0,
            preempt,
            loss_percent: 0,
            random: seed | 1,
        };
        (0..priorities.len()).for_each(|index| segment.start(index));
        segment
    }

    /// A xorshift generator: the same seed gives the same story.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if !std::mem::replace(&mut node.alive, true) {
            let holding = node.holds;
            self.event(index, Event::Startup { holding });
        }
    }

    fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.alive = false;
        node.router = Router::new(config(node.priority, self.preempt, node.source));
    }

    fn event(&mut self, index: usize, event: Event) {
        let actions = self.nodes[index].router.on_event(self.now, event);
        for action in actions {
            match action {
                Action::Send(advertisement) => self.send(index, &advertisement),
                Action::AddAddresses(_) => self.nodes[index].holds = true,
                Action::RemoveAddresses(_) => self.nodes[index].holds = false,
                Action::Announce(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, advertisement: &Advertisement) {
        for to in (0..self.nodes.len()).filter(|&to| to != from) {
            if self.draw(100) < u64::from(self.loss_percent) {
                continue;
            }
            let largest = u64::try_from(LARGEST_DELAY.as_micros()).unwrap();
            let arrival = self.now + Duration::from_micros(self.draw(largest));
            self.serial += 1;
            let source = self.nodes[from].source;
            self.flying.insert((arrival, self.serial), (to, source, advertisement.clone()));
        }
    }

    /// The moment of the next thing that happens.
    fn next(&self) -> Option<Duration> {
        let timers = self.nodes.iter().filter(|node| node.alive);
        let timers = timers.filter_map(|node| node.router.next_timer());
        timers.chain(self.flying.keys().next().map(|key| key.0)).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, from, advertisement) = entry.remove();
            if self.nodes[to].alive {
                self.event(to, Event::Advertisement { from, advertisement });
            }
        }
        for index in 0..self.nodes.len() {
            let due = self.nodes[index].router.next_timer().is_some_and(|due| due <= self.now);
            if self.nodes[index].alive && due {
                self.event(index, Event::Timer);
            }
        }
    }

    /// Runs for `time`; returns for how long in all more than one and less than one was Active.
    fn run(&mut self, time: Duration) -> (Duration, Duration) {
        let (mut several, mut none) = (Duration::ZERO, Duration::ZERO);
        let end = self.now + time;
        while self.now < end {
            let next = self.next().unwrap_or(end).clamp(self.now, end);
            match self.actives().len() {
                0 => none += next - self.now,
                1 => {}
                _ => several += next - self.now,
            }
            self.now = next;
            self.step();
        }
        (several, none)
    }

    fn actives(&self) -> Vec<usize> {
        let active = |node: &Node| node.alive && node.router.state() == State::Active;
        (0..self.nodes.len()).filter(|&index| active(&self.nodes[index])).collect()
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].alive).collect()
    }

    fn suffer(&mut self, fault: Fault) {
        let count = self.nodes.len();
        match fault {
            Fault::Crash(index) => self.crash(index.index(count)),
            Fault::Restart(index) => self.start(index.index(count)),
            Fault::Resign(index) => {
                let index = index.index(count);
                self.event(index, Event::Shutdown);
                self.crash(index);
            }
            Fault::Lose { percent, millis } => {
                self.loss_percent = percent;
                self.run(Duration::from_millis(millis.into()));
                self.loss_percent = 0;
            }
            Fault::Wait { millis } => {
                self.run(Duration::from_millis(millis.into()));
            }
        }
    }
}

fn config(priority: u8, preempt: bool, source: Ipv4Addr) -> Config {
    Config {
        vrid: NonZeroU8::new(51).unwrap(),
        priority: NonZeroU8::new(priority).unwrap(),
        interval: Interval::V3(Centiseconds::new(10).unwrap()),
        preempt,
        source,
        addresses: Addresses::new(vec![Ipv4Addr::new(10, 1, 1, 200)]).unwrap(),
    }
}

fn down_interval(priority: u8) -> Duration {
    3 * INTERVAL + INTERVAL * (256 - u32::from(priority)) / 256
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn good_links_lead_to_one_active(
        priorities in vec(1..=254u8, 2..6), preempt: bool, seed: u64, story in faults(),
    ) {
        let mut segment = Segment::new(&priorities, preempt, seed);
        for fault in story {
            segment.suffer(fault);
        }
        let index = usize::try_from(segment.draw(100)).unwrap() % priorities.len();
        segment.start(index);
        let (several, _) = segment.run(Duration::from_secs(2));
        // One advertisement of the better one, which goes out within an interval, ends a quarrel.
        prop_assert!(several <= 2 * (INTERVAL + LARGEST_DELAY), "{several:?} with several");
        let actives = segment.actives();
        prop_assert_eq!(actives.len(), 1, "after convergence");
        let holders: Vec<usize> =
            segment.alive().into_iter().filter(|&index| segment.nodes[index].holds).collect();
        prop_assert_eq!(&holders, &actives, "the addresses are with the Active alone");
        if preempt {
            let best = segment.alive().into_iter().map(|index| priorities[index]).max();
            prop_assert_eq!(Some(priorities[actives[0]]), best);
        }
        prop_assert_eq!(segment.run(Duration::from_secs(1)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_crash_costs_at_most_the_down_interval(
        priorities in vec(1..=254u8, 2..6), preempt: bool, seed: u64, moment in 0..1000u16,
    ) {
        let mut segment = Segment::new(&priorities, preempt, seed);
        segment.run(Duration::from_secs(2) + Duration::from_millis(moment.into()));
        let victim = segment.actives()[0];
        segment.crash(victim);
        let next = segment.alive().into_iter().map(|index| priorities[index]).max().unwrap();
        let (_, none) = segment.run(Duration::from_secs(1));
        prop_assert!(none <= down_interval(next) + LARGEST_DELAY, "{none:?}");
        prop_assert_eq!(segment.actives().len(), 1);
    }

    #[test]
    fn a_resignation_costs_at_most_the_skew(priorities in vec(1..=254u8, 2..6), preempt: bool, seed: u64) {
        let mut segment = Segment::new(&priorities, preempt, seed);
        segment.run(Duration::from_secs(2));
        let victim = segment.actives()[0];
        segment.event(victim, Event::Shutdown);
        segment.crash(victim);
        let next = segment.alive().into_iter().map(|index| priorities[index]).max().unwrap();
        let (_, none) = segment.run(Duration::from_secs(1));
        prop_assert!(none <= down_interval(next) - 3 * INTERVAL + LARGEST_DELAY, "{none:?}");
    }
}
