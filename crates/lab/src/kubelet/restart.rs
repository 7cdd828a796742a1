//! Whether and when a container that ended runs again. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A container that ran this long did not fail at its start.
const HEALTHY: Duration = Duration::from_secs(10);

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub(super) fn parse(text: Option<&str>) -> Policy {
        match text {
            Some("OnFailure") => Policy::OnFailure,
            Some("Never") => Policy::Never,
            _ => Policy::Always,
        }
    }

    pub(super) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Policy::Always => true,
            Policy::OnFailure => exit_code != 0,
            Policy::Never => false,
        }
    }
}

/// How long the next restart waits: not at all after a good run, then 1 s, doubling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    crashes: u32,
}

impl Backoff {
    pub(super) fn after(&mut self, lifetime: Duration) -> Duration {
        if lifetime >= HEALTHY {
            self.crashes = 0;
            return Duration::ZERO;
        }
        self.crashes = self.crashes.saturating_add(1);
        FIRST.saturating_mul(1 << (self.crashes - 1).min(16)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let rows = [
            (None, [true, true]),
            (Some("Always"), [true, true]),
            (Some("OnFailure"), [false, true]),
            (Some("Never"), [false, false]),
        ];
        for (text, expected) in rows {
            let policy = Policy::parse(text);
            assert_eq!([0, 1].map(|code| policy.restarts(code)), expected, "{text:?}");
        }
    }

    #[test]
    fn only_crash_loops_wait() {
        let mut backoff = Backoff::default();
        let lifetimes = [60, 0, 0, 0, 0, 0, 0, 0, 0, 30, 1];
        let waits = lifetimes.map(|seconds| backoff.after(Duration::from_secs(seconds)).as_secs());
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60, 0, 1]);
    }
}
