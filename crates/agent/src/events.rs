//! What an operator should hear of, as Kubernetes Events on the Node object.

use client::Client;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::debug;

/// Of one reason there is at most one Event in this time; those that are held back are counted in the next.
pub(crate) const SPACING: Duration = Duration::from_secs(60);
/// Events that wait for the API; more are lost.
const QUEUE: usize = 16;
/// How long the API may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often and how soon it is asked again.
const ATTEMPTS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(5);

/// Tells Events, beside everything else that the agent does: an API that does not answer holds nothing up.
#[derive(Debug, Clone)]
pub(crate) struct Teller(mpsc::Sender<Told>);

#[derive(Debug)]
struct Told {
    reason: &'static str,
    message: String,
}

impl Teller {
    pub(crate) fn new(client: Client, node: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(client, node.to_owned(), receiver));
        Teller(sender)
    }

    /// `reason` is one word in CamelCase.
    pub(crate) fn warn(&self, reason: &'static str, message: String) {
        if self.0.try_send(Told { reason, message }).is_err() {
            debug!(reason, "too many Events at once: this one is lost");
        }
    }
}

/// Ends with the last [`Teller`].
async fn write_all(client: Client, node: String, mut told: mpsc::Receiver<Told>) {
    let mut spacing = Spacing::default();
    while let Some(Told { reason, message }) = told.recv().await {
        let Some(count) = spacing.admit(reason, Instant::now()) else { continue };
        let event = event(&node, reason, &message, count, Timestamp::now());
        write(&client, &event, reason).await;
    }
}

/// What an Event is about may be just what keeps the API out of reach, as a full connection table: so it is tried
/// again for a while.
async fn write(client: &Client, event: &Value, reason: &str) {
    for _attempt in 0..ATTEMPTS {
        match tokio::time::timeout(PATIENCE, client::create(client, event)).await {
            Ok(Ok(_) | Err(client::Error::AlreadyExists { .. })) => return,
            Ok(Err(client::Error::Rejected { status, .. })) if status.code < 500 => {
                return debug!(reason, ?status, "the API does not want an Event");
            }
            outcome => debug!(reason, ?outcome, "the API did not take an Event"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How often each reason came since it was last told.
#[derive(Debug, Default)]
struct Spacing(BTreeMap<&'static str, (Instant, u32)>);

impl Spacing {
    /// How many this one stands for; `None`: too soon after the last one.
    fn admit(&mut self, reason: &'static str, now: Instant) -> Option<u32> {
        match self.0.get_mut(reason) {
            Some((last, held_back)) if now.duration_since(*last) < SPACING => {
                *held_back += 1;
                None
            }
            known => {
                let held_back = known.map_or(0, |(_, held_back)| *held_back);
                self.0.insert(reason, (now, 0));
                Some(held_back + 1)
            }
        }
    }
}

/// The Node's name stands in for its uid, as kubelet and kube-proxy do it: so `kubectl describe node` finds it.
fn event(node: &str, reason: &str, message: &str, count: u32, now: Timestamp) -> Value {
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let name = format!("{node}.{:x}", now.as_nanosecond());
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": count,
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "source": {"component": "podway-agent", "host": node},
        "reportingComponent": "podway.io/agent",
        "reportingInstance": node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_becomes_an_event_a_minute() {
        let start = Instant::now();
        let mut spacing = Spacing::default();
        // Seconds, reason, what it stands for.
        let rows = [
            (0, "A", Some(1)),
            (1, "A", None),
            (1, "B", Some(1)),
            (59, "A", None),
            (60, "A", Some(3)),
            (61, "A", None),
            (200, "B", Some(1)),
        ];
        for (seconds, reason, expected) in rows {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(spacing.admit(reason, now), expected, "{reason} after {seconds} s");
        }
    }
}
