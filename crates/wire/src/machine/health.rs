//! Is a back end well? Probes at an interval, and what traffic says in between.
//!
//! A back end that was never probed counts as up, but one failed probe is enough to end that.
//! Then it may just be starting, so for a few seconds it is probed often, and its first success makes it up.

use std::num::NonZeroU32;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From the start of a probe to the start of the next.
    pub interval: Duration,
    /// A probe without a result after this time has failed.
    pub timeout: Duration,
    /// Failures in a row until it is down.
    pub fall: NonZeroU32,
    /// Successes in a row until it is up.
    pub rise: NonZeroU32,
}

/// Which probe a result belongs to; results of given-up probes are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Start,
    Passed(Probe),
    Failed(Probe),
    /// A connection for a client failed: counts like a failed probe, and asks for one at once.
    TrafficFailed,
    /// A connection for a client takes long: asks for a probe at once.
    TrafficSlow,
    /// [`Check::next_timer`] has come.
    Timer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start this probe; one still under way is given up.
    Probe(Probe),
    Up,
    Down,
}

/// How soon a back end that has never passed a probe is probed again.
const EAGER: Duration = Duration::from_millis(50);
/// How many probes of such a back end may fail before it is treated like any other.
const TRIALS: u32 = 100;

/// The health of one back end.
#[derive(Debug, Clone)]
pub struct Check {
    config: Config,
    up: bool,
    /// Results in a row that contradict `up`.
    contrary: u32,
    probe: Probe,
    /// Probes it may still fail before it counts as one that is not just starting; 0 once one has passed.
    trials: u32,
    /// When the probe under way has failed.
    deadline: Option<Duration>,
    /// When the next probe starts.
    probe_at: Option<Duration>,
}

impl Check {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Check {
            config,
            up: true,
            contrary: config.fall.get() - 1,
            probe: Probe(0),
            trials: TRIALS,
            deadline: None,
            probe_at: None,
        }
    }

    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// When to hand in [`Event::Timer`] next.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        self.deadline.into_iter().chain(self.probe_at).min()
    }

    pub fn on_event(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Start => vec![self.start_probe(now)],
            Event::Passed(probe) => self.finish(now, probe, true).into_iter().collect(),
            Event::Failed(probe) => self.finish(now, probe, false).into_iter().collect(),
            Event::TrafficFailed => self.count(false).into_iter().chain(self.hurry(now)).collect(),
            Event::TrafficSlow => self.hurry(now).into_iter().collect(),
            Event::Timer => self.expire(now),
        }
    }

    fn expire(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            actions.extend(self.finish(now, self.probe, false));
        }
        if self.probe_at.is_some_and(|due| due <= now) {
            actions.push(self.start_probe(now));
        }
        actions
    }

    fn start_probe(&mut self, now: Duration) -> Action {
        self.probe = Probe(self.probe.0 + 1);
        self.deadline = Some(now + self.config.timeout);
        self.probe_at = Some(now + self.config.interval.max(self.config.timeout));
        Action::Probe(self.probe)
    }

    /// A probe now, unless one is under way or it is known to be down.
    fn hurry(&mut self, now: Duration) -> Option<Action> {
        (self.up && self.deadline.is_none()).then(|| self.start_probe(now))
    }

    fn finish(&mut self, now: Duration, probe: Probe, passed: bool) -> Option<Action> {
        if probe != self.probe || self.deadline.is_none() {
            return None;
        }
        self.deadline = None;
        if self.trials > 0 {
            return self.finish_trial(now, passed);
        }
        self.count(passed)
    }

    /// The result of a probe of a back end that has passed none before.
    fn finish_trial(&mut self, now: Duration, passed: bool) -> Option<Action> {
        if passed {
            (self.trials, self.contrary) = (0, 0);
            return (!std::mem::replace(&mut self.up, true)).then_some(Action::Up);
        }
        self.trials -= 1;
        self.probe_at = self.probe_at.map(|due| due.min(now + EAGER));
        self.count(false)
    }

    fn count(&mut self, passed: bool) -> Option<Action> {
        if passed == self.up {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let enough = if self.up { self.config.fall } else { self.config.rise };
        if self.contrary < enough.get() {
            return None;
        }
        self.up = passed;
        self.contrary = 0;
        Some(if passed { Action::Up } else { Action::Down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Check {
        Check::new(Config {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            fall: NonZeroU32::new(2).unwrap(),
            rise: NonZeroU32::new(2).unwrap(),
        })
    }

    /// What happens, at which millisecond, and what must come of it.
    fn run(rows: &[(u64, Event, &[Action])]) {
        let mut check = check();
        for (index, (millis, event, actions)) in rows.iter().enumerate() {
            let got = check.on_event(Duration::from_millis(*millis), *event);
            assert_eq!(got, *actions, "row {index}");
        }
    }

    #[test]
    fn one_failed_probe_ends_the_benefit_of_the_doubt() {
        run(&[
            (0, Event::Start, &[Action::Probe(Probe(1))]),
            (1, Event::Failed(Probe(1)), &[Action::Down]),
            (51, Event::Timer, &[Action::Probe(Probe(2))]),
            (52, Event::Passed(Probe(2)), &[Action::Up]),
            (1051, Event::Timer, &[Action::Probe(Probe(3))]),
            (1052, Event::Failed(Probe(3)), &[]),
            (2051, Event::Timer, &[Action::Probe(Probe(4))]),
            (2052, Event::Failed(Probe(4)), &[Action::Down]),
            (3051, Event::Timer, &[Action::Probe(Probe(5))]),
            (3052, Event::Passed(Probe(5)), &[]),
            (4051, Event::Timer, &[Action::Probe(Probe(6))]),
            (4052, Event::Passed(Probe(6)), &[Action::Up]),
        ]);
    }

    #[test]
    fn a_back_end_that_never_starts_is_not_asked_often_for_ever() {
        let mut check = check();
        let mut now = Duration::ZERO;
        let mut actions = check.on_event(now, Event::Start);
        let mut starts = Vec::new();
        while starts.len() < 110 {
            if let Some(Action::Probe(probe)) = actions.last() {
                starts.push(now);
                check.on_event(now, Event::Failed(*probe));
            }
            now = check.next_timer().unwrap();
            actions = check.on_event(now, Event::Timer);
        }
        let pauses: Vec<_> =
            starts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(pauses[..100], [50; 100]);
        assert_eq!(pauses[100..], [1000; 9]);
    }

    #[test]
    fn a_known_back_end_falls_after_two_failures_and_silence_is_one() {
        run(&[
            (0, Event::Start, &[Action::Probe(Probe(1))]),
            (1, Event::Passed(Probe(1)), &[]),
            (1000, Event::Timer, &[Action::Probe(Probe(2))]),
            (1500, Event::Timer, &[]),
            (1600, Event::Passed(Probe(2)), &[]),
            (2000, Event::Timer, &[Action::Probe(Probe(3))]),
            (2500, Event::Timer, &[Action::Down]),
        ]);
    }

    #[test]
    fn traffic_counts_and_hurries() {
        run(&[
            (0, Event::Start, &[Action::Probe(Probe(1))]),
            (1, Event::Passed(Probe(1)), &[]),
            (10, Event::TrafficSlow, &[Action::Probe(Probe(2))]),
            (11, Event::TrafficSlow, &[]),
            (12, Event::Passed(Probe(2)), &[]),
            (20, Event::TrafficFailed, &[Action::Probe(Probe(3))]),
            (21, Event::TrafficFailed, &[Action::Down]),
            (22, Event::TrafficFailed, &[]),
        ]);
    }

    #[test]
    fn timers_are_deadline_then_next_probe() {
        let mut check = check();
        assert_eq!(check.next_timer(), None);
        check.on_event(Duration::ZERO, Event::Start);
        assert_eq!(check.next_timer(), Some(Duration::from_millis(500)));
        check.on_event(Duration::from_millis(3), Event::Passed(Probe(1)));
        assert_eq!(check.next_timer(), Some(Duration::from_secs(1)));
        assert!(check.is_up());
    }
}
