//! The time of day as objects have it.

use jiff::Timestamp;

/// `2026-01-31T12:00:00Z`, as in `lastTransitionTime`.
pub(super) fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

/// `2026-01-31T12:00:00.000000Z`: MicroTime, as in `renewTime`.
pub(super) fn now_in_microseconds() -> String {
    format!("{:.6}", Timestamp::now())
}
