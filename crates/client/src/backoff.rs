//! How long to wait before asking again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A watch that lived this long starts over with a short wait.
const HEALTHY: Duration = Duration::from_secs(10);

/// Doubling waits with jitter, so that many agents do not come back in one moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a failure that came `lived` after the last one; `random` spreads it over its upper half.
    pub(crate) fn after(&mut self, lived: Duration, random: u64) -> Duration {
        if lived >= self.longest() + HEALTHY {
            self.failures = 0;
        }
        let longest = self.longest();
        self.failures = self.failures.saturating_add(1);
        let half = longest / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_millis(random % spread)
    }

    /// The wait before a list where watching alone did not do: spread, and never so short that it could become a loop.
    pub(crate) fn short(random: u64) -> Duration {
        HEALTHY / 20 + Duration::from_millis(random % 500)
    }

    fn longest(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_over() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(backoff.after(Duration::ZERO, 49).as_millis());
        }
        assert!(waits.is_sorted(), "{waits:?}");
        assert!(waits[0] == 99 && waits[11] == 15_049, "{waits:?}");
        assert!(backoff.after(Duration::from_secs(60), 0) < Duration::from_millis(100));
    }

    /// An API that is away for an hour is asked seldom, and when it is back its many clients do not come at once.
    #[test]
    fn after_an_hour_nobody_comes_in_a_crowd() {
        const CLIENTS: u64 = 1000;
        const HOUR: Duration = Duration::from_secs(3600);
        let mut numbers = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            numbers ^= numbers << 13;
            numbers ^= numbers >> 7;
            numbers ^= numbers << 17;
            numbers
        };
        let mut comes = Vec::new();
        for _ in 0..CLIENTS {
            let (mut backoff, mut now, mut tries) = (Backoff::default(), Duration::ZERO, 0);
            let mut lived = HEALTHY * 10;
            while now < HOUR {
                let wait = backoff.after(lived, random());
                (now, lived, tries) = (now + wait, wait, tries + 1);
            }
            assert!(tries < 200, "{tries} tries in an hour");
            comes.push((now - HOUR).as_millis() / 1000);
        }
        assert!(comes.iter().all(|second| *second < 30), "back within half a minute");
        let crowd = (0..30).map(|second| comes.iter().filter(|it| **it == second).count()).max();
        assert!(crowd.is_some_and(|crowd| crowd < 100), "{crowd:?} of {CLIENTS} in one second");
    }

    #[test]
    fn a_long_wait_is_not_health() {
        let mut backoff = Backoff::default();
        for _ in 0..12 {
            backoff.after(Duration::ZERO, 0);
        }
        assert!(backoff.after(Duration::from_secs(30), 0) >= Duration::from_secs(15));
    }
}
