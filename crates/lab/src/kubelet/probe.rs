//! When to probe a container and what the answers mean. Pure: `now` is an argument, probing is somebody else's.
//!
//! ```text
//!  started ──initial delay──► eager: ask again and again, failures do not count ──one period──► every period
//!                                 └──────────────── first success ────────────────────────────────►┘
//! ```
//!
//! The eager part is what makes a lab quick: a server that needs 20 ms is ready after 30, not after a whole period.
//! Nothing that Kubernetes promises is lost: within its first period a container would not have been asked twice.

use model::{Container, Probe};
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// The container became ready, unready or started.
    Changed,
    /// It failed its startup or liveness probe too often: it must be killed.
    Dead,
}

/// The probes of one container that runs.
#[derive(Debug, Clone)]
pub(super) struct Probes {
    startup: Option<Check>,
    readiness: Option<Check>,
    liveness: Option<Check>,
}

impl Probes {
    pub(super) fn new(container: &Container, now: Instant) -> Probes {
        let check = |purpose, probe: &Option<Probe>| {
            probe.as_ref().map(|probe| Check::new(purpose, probe, now))
        };
        Probes {
            startup: check(Purpose::Startup, &container.startup),
            readiness: check(Purpose::Readiness, &container.readiness),
            liveness: check(Purpose::Liveness, &container.liveness),
        }
    }

    /// The probes of a container that runs since before the kubelet: what was known of it holds until it fails.
    pub(super) fn resumed(
        container: &Container,
        started: bool,
        ready: bool,
        now: Instant,
    ) -> Probes {
        let mut probes = Probes::new(container, now);
        for (check, passed) in [(&mut probes.startup, started), (&mut probes.readiness, ready)] {
            if let Some(check) = check.as_mut().filter(|_| passed) {
                check.passed = true;
                check.eager_until = now;
            }
        }
        probes
    }

    /// The container shall end: from here on only its readiness is of interest.
    pub(super) fn end(&mut self) {
        self.liveness = None;
        if let Some(startup) = &mut self.startup {
            startup.due = None;
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.startup.as_ref().is_none_or(|check| check.passed)
    }

    /// Without a readiness probe, a container that runs is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.is_started() && self.readiness.as_ref().is_none_or(|check| check.passed)
    }

    /// When [`Probes::begin`] has something to do; none while all answers are pending.
    pub(super) fn due(&self) -> Option<Instant> {
        self.active().filter_map(|check| check.due).min()
    }

    /// The probes to make now. Each is answered by one [`Probes::conclude`].
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Purpose> {
        let due = self.active_mut().filter(|check| check.due.is_some_and(|due| due <= now));
        due.map(|check| {
            check.due = None;
            check.purpose
        })
        .collect()
    }

    /// A failure would not count: the container has just begun.
    pub(super) fn is_eager(&self, purpose: Purpose, now: Instant) -> bool {
        let mut active = self.active();
        active.any(|check| check.purpose == purpose && now < check.eager_until)
    }

    pub(super) fn conclude(&mut self, purpose: Purpose, success: bool, now: Instant) -> Verdict {
        let before = (self.is_started(), self.is_ready());
        let Some(check) = self.active_mut().find(|check| check.purpose == purpose) else {
            return Verdict::Nothing;
        };
        let survives = check.conclude(success, now);
        match survives {
            false => Verdict::Dead,
            true if before == (self.is_started(), self.is_ready()) => Verdict::Nothing,
            true => Verdict::Changed,
        }
    }

    /// While the startup probe has not passed, the others rest; afterwards it is done.
    fn active(&self) -> impl Iterator<Item = &Check> {
        let started = self.is_started();
        let (startup, others) = (&self.startup, [&self.readiness, &self.liveness]);
        let startup = startup.iter().filter(move |_| !started);
        startup.chain(others.into_iter().flatten().filter(move |_| started))
    }

    fn active_mut(&mut self) -> impl Iterator<Item = &mut Check> {
        let started = self.is_started();
        let Probes { startup, readiness, liveness } = self;
        let startup = startup.iter_mut().filter(move |_| !started);
        startup.chain([readiness, liveness].into_iter().flatten().filter(move |_| started))
    }
}

#[derive(Debug, Clone)]
struct Check {
    purpose: Purpose,
    period: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    /// None while an answer is pending.
    due: Option<Instant>,
    eager_until: Instant,
    eager_wait: Duration,
    successes: u32,
    failures: u32,
    passed: bool,
}

impl Check {
    fn new(purpose: Purpose, probe: &Probe, now: Instant) -> Check {
        let first = now + probe.initial_delay;
        let is_eager = purpose != Purpose::Liveness;
        Check {
            purpose,
            period: probe.period,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            due: Some(first),
            eager_until: if is_eager { first + probe.period } else { first },
            eager_wait: FIRST_WAIT,
            successes: 0,
            failures: 0,
            passed: !is_eager,
        }
    }

    /// False: the container must be killed.
    fn conclude(&mut self, success: bool, now: Instant) -> bool {
        if success {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
            self.passed |= self.successes >= self.success_threshold;
            self.eager_until = now;
            self.due = Some(now + self.period);
            return true;
        }
        if now < self.eager_until {
            self.due = Some((now + self.eager_wait).min(self.eager_until));
            self.eager_wait = (self.eager_wait * 2).min(LONGEST_WAIT);
            return true;
        }
        (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        self.due = Some(now + self.period);
        let failed = self.failures >= self.failure_threshold;
        if failed && self.purpose == Purpose::Readiness {
            self.passed = false;
        }
        !failed || self.purpose == Purpose::Readiness
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Purpose::{Liveness, Readiness, Startup};
    use model::ProbeAction;
    use model::object::lifecycle::Lifecycle;

    fn probe(initial: u64, period: u64, success_threshold: u32, failure_threshold: u32) -> Probe {
        Probe {
            action: ProbeAction::Exec { command: vec!["true".into()] },
            initial_delay: Duration::from_secs(initial),
            period: Duration::from_secs(period),
            timeout: Duration::from_secs(1),
            success_threshold,
            failure_threshold,
        }
    }

    fn container(probes: [Option<Probe>; 3]) -> Container {
        let [startup, readiness, liveness] = probes;
        Container {
            name: "c".into(),
            image: String::new(),
            command: vec![],
            args: vec![],
            env: vec![],
            ports: vec![],
            readiness,
            liveness,
            startup,
            lifecycle: Lifecycle::default(),
        }
    }

    /// At each time in ms: the probe that must be due then, its answer, and what follows from it: verdict and ready.
    type Row = (u64, Purpose, bool, Verdict, bool);

    fn check(probes: [Option<Probe>; 3], rows: &[Row]) {
        let start = Instant::now();
        let mut machine = Probes::new(&container(probes), start);
        for (number, (at, purpose, success, verdict, ready)) in rows.iter().enumerate() {
            let now = start + Duration::from_millis(*at);
            let row = format!("row {number}: {purpose:?} at {at} ms");
            assert_eq!(
                machine.due().map(|due| (due - start).as_millis()),
                Some((*at).into()),
                "{row}"
            );
            assert_eq!(machine.begin(now), [*purpose], "{row}");
            assert_eq!(machine.conclude(*purpose, *success, now), *verdict, "{row}");
            assert_eq!(machine.is_ready(), *ready, "{row}");
        }
    }

    #[test]
    fn no_probes_no_doubts() {
        let machine = Probes::new(&container([None, None, None]), Instant::now());
        assert!(machine.is_ready() && machine.is_started() && machine.due().is_none());
    }

    #[test]
    fn readiness() {
        use Verdict::{Changed, Nothing};
        check(
            [None, Some(probe(0, 10, 1, 3)), None],
            &[
                (0, Readiness, false, Nothing, false),
                (5, Readiness, false, Nothing, false),
                (15, Readiness, true, Changed, true),
                (10_015, Readiness, false, Nothing, true),
                (20_015, Readiness, false, Nothing, true),
                (30_015, Readiness, false, Changed, false),
                (40_015, Readiness, false, Nothing, false),
                (50_015, Readiness, true, Changed, true),
            ],
        );
        check(
            [None, Some(probe(2, 1, 2, 1)), None],
            &[
                (2_000, Readiness, true, Nothing, false),
                (3_000, Readiness, false, Nothing, false),
                (4_000, Readiness, true, Nothing, false),
                (5_000, Readiness, true, Changed, true),
                (6_000, Readiness, false, Changed, false),
            ],
        );
    }

    #[test]
    fn a_resumed_container_stays_ready_until_it_fails() {
        let start = Instant::now();
        let container = container([Some(probe(0, 1, 1, 1)), Some(probe(0, 1, 1, 1)), None]);
        let mut machine = Probes::resumed(&container, true, true, start);
        assert!(machine.is_ready());
        assert_eq!(machine.begin(start), [Readiness]);
        assert_eq!(machine.conclude(Readiness, false, start), Verdict::Changed);
        assert!(!machine.is_ready());
        assert!(!Probes::resumed(&container, false, true, start).is_ready());
    }

    #[test]
    fn liveness_kills_after_its_threshold() {
        use Verdict::{Dead, Nothing};
        check(
            [None, None, Some(probe(1, 2, 1, 2))],
            &[
                (1_000, Liveness, false, Nothing, true),
                (3_000, Liveness, true, Nothing, true),
                (5_000, Liveness, false, Nothing, true),
                (7_000, Liveness, false, Dead, true),
            ],
        );
    }

    #[test]
    fn startup_comes_first_and_may_take_its_time() {
        use Verdict::{Changed, Dead, Nothing};
        check(
            [Some(probe(0, 1, 1, 2)), None, Some(probe(1, 5, 1, 1))],
            &[
                (0, Startup, false, Nothing, false),
                (5, Startup, true, Changed, true),
                (1_000, Liveness, true, Nothing, true),
                (6_000, Liveness, false, Dead, true),
            ],
        );
        check(
            [Some(probe(0, 1, 1, 2)), None, None],
            &[
                (0, Startup, false, Nothing, false),
                (5, Startup, false, Nothing, false),
                (15, Startup, false, Nothing, false),
                (35, Startup, false, Nothing, false),
                (75, Startup, false, Nothing, false),
                (155, Startup, false, Nothing, false),
                (315, Startup, false, Nothing, false),
                (515, Startup, false, Nothing, false),
                (715, Startup, false, Nothing, false),
                (915, Startup, false, Nothing, false),
                (1_000, Startup, false, Nothing, false),
                (2_000, Startup, false, Dead, false),
            ],
        );
    }
}
