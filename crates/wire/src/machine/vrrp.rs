//! The virtual router state machine (RFC 9568 §6.4, and RFC 3768 §6.4 for version 2).
//!
//! ```text
//!                    Startup, priority 255
//!   Initialize ─────────────────────────────────► Active
//!    ▲  │  ▲                                      │   ▲
//!    │  │  └───────────────── Shutdown ───────────┘   │
//!    │  │ Startup              higher advertisement   │ nothing heard for
//!    │  ▼                      ┌──────────────────────┤ Active_Down_Interval
//!    └─ Backup ◄───────────────┘                      │
//!          └──────────────────────────────────────────┘
//! ```
//!
//! A caller that was not scheduled for a while must hand in every advertisement that waits in its
//! socket before [`Event::Timer`]: what was heard decides, not what was slept through.

use crate::vrrp::{Addresses, Advertisement, Interval};
use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::time::Duration;

/// Caches that missed the first announcements get a second round after this time.
const SECOND_ROUND: Duration = Duration::from_secs(5);

/// The priority of the router that owns the addresses: it is Active whenever it lives.
const OWNER: u8 = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub vrid: NonZeroU8,
    /// 255: owner of the addresses.
    pub priority: NonZeroU8,
    pub interval: Interval,
    /// Whether to take over from an Active router of lower priority.
    pub preempt: bool,
    /// The primary address of the interface: source of advertisements, and what breaks a tie.
    pub source: Ipv4Addr,
    pub addresses: Addresses,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Startup {
        /// A predecessor that was killed left the addresses on the interface. They stay until the
        /// election is decided, and it is decided sooner: the others still wait for us.
        holding: bool,
    },
    Shutdown,
    Advertisement {
        from: Ipv4Addr,
        advertisement: Advertisement,
    },
    /// [`Router::next_timer`] has come.
    Timer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Send(Advertisement),
    AddAddresses(Vec<Ipv4Addr>),
    RemoveAddresses(Vec<Ipv4Addr>),
    /// Tell the segment where the addresses are: a burst of gratuitous ARP for each.
    Announce(Vec<Ipv4Addr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Initialize,
    Backup,
    Active,
}

/// One virtual router.
#[derive(Debug, Clone)]
pub struct Router {
    config: Config,
    phase: Phase,
    /// `Active_Adver_Interval`: what the Active router says it keeps (our own until we heard one).
    active_interval: Duration,
    /// The addresses may be on the interface.
    holding: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    Initialize,
    Backup {
        /// `Active_Down_Timer`.
        down_at: Duration,
    },
    Active {
        /// `Adver_Timer`.
        advertise_at: Duration,
        sent_at: Duration,
        /// Announcements still to come, soonest first.
        announce_at: Vec<Duration>,
    },
}

impl Router {
    #[must_use]
    pub fn new(config: Config) -> Self {
        let active_interval = config.interval.duration();
        Router { config, phase: Phase::Initialize, active_interval, holding: false }
    }

    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Initialize => State::Initialize,
            Phase::Backup { .. } => State::Backup,
            Phase::Active { .. } => State::Active,
        }
    }

    /// When to hand in [`Event::Timer`] next.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Initialize => None,
            Phase::Backup { down_at } => Some(*down_at),
            Phase::Active { advertise_at, announce_at, .. } => {
                announce_at.first().copied().into_iter().chain([*advertise_at]).min()
            }
        }
    }

    pub fn on_event(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Startup { holding } => self.start(now, holding),
            Event::Shutdown => self.shut_down(),
            Event::Advertisement { from, advertisement } => {
                if !self.concerns(from, &advertisement) {
                    return Vec::new();
                }
                match self.phase {
                    Phase::Initialize => Vec::new(),
                    Phase::Backup { .. } => self.hear_as_backup(now, &advertisement),
                    Phase::Active { .. } => self.hear_as_active(now, from, &advertisement),
                }
            }
            Event::Timer => self.expire(now),
        }
    }

    /// Changes priority, interval, preemption or addresses of a running router without an election.
    ///
    /// Another identifier, version or source address is another router: shut this one down and
    /// start a new one.
    pub fn configure(&mut self, now: Duration, config: Config) -> Vec<Action> {
        let old = std::mem::replace(&mut self.config, config);
        if old == self.config {
            return Vec::new();
        }
        if old.interval != self.config.interval {
            self.active_interval = self.config.interval.duration();
        }
        match self.phase {
            Phase::Initialize => Vec::new(),
            Phase::Backup { .. } => {
                self.phase = Phase::Backup { down_at: now + self.down_interval() };
                let removed = self.release();
                if removed.is_empty() { removed } else { vec![remove(&old.addresses)] }
            }
            Phase::Active { .. } => self.reconfigure_active(now, &old.addresses),
        }
    }

    fn reconfigure_active(&mut self, now: Duration, old: &Addresses) -> Vec<Action> {
        let (old, new) = (old.as_slice(), self.config.addresses.as_slice());
        let missing = |from: &[Ipv4Addr], those: &[Ipv4Addr]| -> Vec<Ipv4Addr> {
            those.iter().filter(|address| !from.contains(address)).copied().collect()
        };
        let (gone, added) = (missing(new, old), missing(old, new));
        let mut actions = vec![self.advertise(now)];
        if !gone.is_empty() {
            actions.push(Action::RemoveAddresses(gone));
        }
        if !added.is_empty() {
            actions.push(Action::AddAddresses(added));
            actions.push(self.announce(now));
        }
        actions
    }

    fn start(&mut self, now: Duration, holding: bool) -> Vec<Action> {
        self.holding = holding;
        self.active_interval = self.config.interval.duration();
        if self.config.priority.get() == OWNER {
            return self.take_over(now);
        }
        let wait = if holding { self.active_interval + self.skew() } else { self.down_interval() };
        self.phase = Phase::Backup { down_at: now + wait };
        Vec::new()
    }

    fn shut_down(&mut self) -> Vec<Action> {
        let was_active = self.state() == State::Active;
        self.phase = Phase::Initialize;
        let mut actions = self.release();
        if was_active {
            actions.insert(0, Action::Send(self.advertisement(0)));
        }
        actions
    }

    /// Whether a packet is of this virtual router, version and, in version 2, interval.
    fn concerns(&self, from: Ipv4Addr, heard: &Advertisement) -> bool {
        let comparable = match (self.config.interval, heard.interval) {
            (Interval::V3(_), Interval::V3(_)) => true,
            (Interval::V2(ours), Interval::V2(theirs)) => ours == theirs,
            _ => false,
        };
        comparable && heard.vrid == self.config.vrid && from != self.config.source
    }

    fn hear_as_backup(&mut self, now: Duration, heard: &Advertisement) -> Vec<Action> {
        if heard.priority == 0 {
            self.phase = Phase::Backup { down_at: now + self.skew() };
            return Vec::new();
        }
        if !self.config.preempt || heard.priority >= self.config.priority.get() {
            self.active_interval = heard.interval.duration();
            self.phase = Phase::Backup { down_at: now + self.down_interval() };
        }
        self.release()
    }

    fn hear_as_active(
        &mut self,
        now: Duration,
        from: Ipv4Addr,
        heard: &Advertisement,
    ) -> Vec<Action> {
        if heard.priority == 0 {
            return vec![self.advertise(now)];
        }
        let ours = (self.config.priority.get(), self.config.source);
        if (heard.priority, from) > ours || self.was_replaced(now) {
            self.active_interval = heard.interval.duration();
            self.phase = Phase::Backup { down_at: now + self.down_interval() };
            return self.release();
        }
        // The other router has just told the segment that the addresses are with it. What it tells
        // may arrive after our contradiction, so contradict once more when it must have yielded.
        let actions = vec![self.advertise(now), self.announce(now)];
        let again = now + self.config.interval.duration();
        if let Phase::Active { announce_at, .. } = &mut self.phase {
            announce_at.insert(0, again);
        }
        actions
    }

    /// We were silent for so long that another router rightly took over, and without preemption it
    /// keeps what it has: a stalled process must not fight for the addresses when it wakes.
    fn was_replaced(&self, now: Duration) -> bool {
        let Phase::Active { sent_at, .. } = self.phase else { return false };
        !self.config.preempt && now.saturating_sub(sent_at) > 3 * self.config.interval.duration()
    }

    fn expire(&mut self, now: Duration) -> Vec<Action> {
        match &mut self.phase {
            Phase::Backup { down_at } if *down_at <= now => self.take_over(now),
            Phase::Initialize | Phase::Backup { .. } => Vec::new(),
            Phase::Active { advertise_at, announce_at, .. } => {
                let advertise = *advertise_at <= now;
                let before = announce_at.len();
                announce_at.retain(|&due| due > now);
                let announce = announce_at.len() < before;
                let mut actions = Vec::new();
                if advertise {
                    actions.push(self.advertise(now));
                }
                if announce {
                    actions.push(Action::Announce(self.addresses()));
                }
                actions
            }
        }
    }

    fn take_over(&mut self, now: Duration) -> Vec<Action> {
        self.holding = true;
        self.phase = Phase::Active { advertise_at: now, sent_at: now, announce_at: Vec::new() };
        vec![self.advertise(now), Action::AddAddresses(self.addresses()), self.announce(now)]
    }

    fn advertise(&mut self, now: Duration) -> Action {
        let interval = self.config.interval.duration();
        if let Phase::Active { advertise_at, sent_at, .. } = &mut self.phase {
            *advertise_at = now + interval;
            *sent_at = now;
        }
        Action::Send(self.advertisement(self.config.priority.get()))
    }

    fn announce(&mut self, now: Duration) -> Action {
        if let Phase::Active { announce_at, .. } = &mut self.phase {
            *announce_at = vec![now + SECOND_ROUND];
        }
        Action::Announce(self.addresses())
    }

    fn advertisement(&self, priority: u8) -> Advertisement {
        let Config { vrid, interval, ref addresses, .. } = self.config;
        Advertisement { vrid, priority, interval, addresses: addresses.clone() }
    }

    fn release(&mut self) -> Vec<Action> {
        if std::mem::take(&mut self.holding) {
            vec![remove(&self.config.addresses)]
        } else {
            Vec::new()
        }
    }

    fn addresses(&self) -> Vec<Ipv4Addr> {
        self.config.addresses.as_slice().to_vec()
    }

    /// `Skew_Time` (RFC 9568 §6.1; RFC 3768 §6.1): the higher the priority, the shorter.
    fn skew(&self) -> Duration {
        let base = match self.config.interval {
            Interval::V3(_) => self.active_interval,
            Interval::V2(_) => Duration::from_secs(1),
        };
        base * (256 - u32::from(self.config.priority.get())) / 256
    }

    /// `Active_Down_Interval` (RFC 9568 §6.1).
    fn down_interval(&self) -> Duration {
        3 * self.active_interval + self.skew()
    }
}

fn remove(addresses: &Addresses) -> Action {
    Action::RemoveAddresses(addresses.as_slice().to_vec())
}
