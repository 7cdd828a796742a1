//! Counting pods, and saying so.

use crate::record::Pod;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

/// The pods of a ReplicaSet, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Neither ended nor on their way out.
    pub(crate) active: u32,
    pub(crate) ready: u32,
    /// Ready for long enough.
    pub(crate) available: u32,
    /// Not gone yet: active ones and those on their way out.
    pub(crate) present: u32,
    /// When the next one becomes available by mere waiting.
    pub(crate) next: Option<Duration>,
}

impl Tally {
    pub(crate) fn of<'a>(
        pods: impl Iterator<Item = &'a Pod>,
        min_ready: Duration,
        now: Timestamp,
    ) -> Self {
        let mut tally = Tally::default();
        for pod in pods.filter(|pod| !pod.base.phase.is_over()) {
            tally.present += 1;
            if !pod.is_active() {
                continue;
            }
            tally.active += 1;
            if !pod.base.ready {
                continue;
            }
            tally.ready += 1;
            match wait(pod, min_ready, now) {
                Duration::ZERO => tally.available += 1,
                wait => tally.next = earliest(tally.next, Some(wait)),
            }
        }
        tally
    }
}

impl Tally {
    /// On their way out.
    pub(crate) fn terminating(&self) -> u32 {
        self.present - self.active
    }
}

/// Ready for long enough, on its way out or not.
pub(crate) fn is_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> bool {
    pod.base.ready && wait(pod, min_ready, now).is_zero()
}

/// How long until a ready pod is available.
fn wait(pod: &Pod, min_ready: Duration, now: Timestamp) -> Duration {
    let Some(since) = pod.ready_since else { return Duration::ZERO };
    let lived = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    min_ready.saturating_sub(lived)
}

pub(crate) fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The one number that a server does not leave out when it is zero.
const ALWAYS: &str = "terminatingReplicas";

/// The members of `new` that `old` does not say; a server may leave out zeros.
pub(crate) fn differences(old: &Value, new: Map<String, Value>) -> Map<String, Value> {
    let says = |name: &str, value: &Value| match old.get(name) {
        Some(found) => found == value,
        None => *value == 0 && name != ALWAYS,
    };
    new.into_iter().filter(|(name, value)| !says(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::pod;
    use serde_json::json;

    #[test]
    fn a_pod_is_available_when_ready_for_long_enough() {
        let turned = |second: u32| {
            let mut value = pod("p", Some("a"), Some("10.244.0.2"), true);
            let time = format!("2026-01-01T00:00:{second:02}Z");
            value["status"]["conditions"][0]["lastTransitionTime"] = time.into();
            Pod::parse(&value).unwrap()
        };
        let pods = [turned(10), turned(14), turned(18)];
        let tally =
            Tally::of(pods.iter(), Duration::from_secs(5), "2026-01-01T00:00:16Z".parse().unwrap());
        assert_eq!((tally.active, tally.ready, tally.available), (3, 3, 1));
        assert_eq!(tally.next, Some(Duration::from_secs(3)));
    }

    #[test]
    fn absent_is_zero() {
        let new = json!({"replicas": 0, "ready": 2, "same": 3});
        let Value::Object(new) = new else { unreachable!() };
        let differing = differences(&json!({"same": 3, "ready": 1}), new);
        assert_eq!(Value::Object(differing), json!({"ready": 2}));
    }
}
