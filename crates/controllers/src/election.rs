//! One of several acts: leader election by a Lease, as `client-go` does it.
//!
//! ```text
//!   candidate ──lease free, or unchanged for its whole duration──► leader ──renews──┐
//!       ▲                                                            │ ▲───────────┘
//!       └────────── not renewed for `renew_deadline`, or lost ───────┘
//! ```
//!
//! Only *changes* of the Lease count, by one's own clock: the clocks of others may be wrong.

use crate::error::Error;
use crate::run::run;
use crate::settings::Settings;
use client::{Client, Kind};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// Who takes part in which election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    pub namespace: String,
    /// The Lease.
    pub name: String,
    /// Nobody else's.
    pub identity: String,
    /// A leader that has not renewed for so long has none.
    pub lease: Duration,
    /// A leader that could not renew for so long steps down; shorter than `lease`.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Election {
    /// With the times of Kubernetes.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Election {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Runs the controllers whenever this one leads, until `shutdown`; then the Lease is given back, so that another one
/// need not wait.
pub async fn run_elected(
    client: Client,
    settings: Settings,
    election: Election,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut candidate = Candidate { client: client.clone(), election, seen: None };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = candidate.acquire() => info!(lease = candidate.election.name, "leading"),
            () = &mut shutdown => return Ok(()),
        }
        tokio::select! {
            outcome = run(client.clone(), settings.clone()) => return outcome,
            () = candidate.keep() => warn!("no longer leading"),
            () = &mut shutdown => {
                candidate.release().await;
                return Ok(());
            }
        }
    }
}

struct Candidate {
    client: Client,
    election: Election,
    /// The Lease's `spec` as it was, and since when it has been so.
    seen: Option<(Value, Instant)>,
}

impl Candidate {
    async fn acquire(&mut self) {
        while !self.bid().await {
            sleep(self.election.retry).await;
        }
    }

    /// Returns when the lead is lost.
    async fn keep(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < self.election.renew_deadline {
            sleep(self.election.retry).await;
            if self.bid().await {
                renewed = Instant::now();
            } else if self.is_held_by_another() {
                return;
            }
        }
    }

    fn is_held_by_another(&self) -> bool {
        let holder = self.seen.as_ref().and_then(|(spec, _)| spec["holderIdentity"].as_str());
        holder.is_some_and(|holder| !holder.is_empty() && holder != self.election.identity)
    }

    /// One try to have the Lease; whether this one has it now.
    async fn bid(&mut self) -> bool {
        match timeout(self.election.retry, self.try_bid()).await {
            Ok(Ok(has)) => has,
            Ok(Err(error)) => {
                debug!(%error, "no lease");
                false
            }
            Err(_late) => false,
        }
    }

    async fn try_bid(&mut self) -> client::Result<bool> {
        let Election { namespace, name, .. } = self.election.clone();
        let found = client::get(&self.client, Kind::LEASE, Some(&namespace), &name).await?;
        let now = Instant::now();
        let old = found.as_ref().map(|lease| lease["spec"].clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(spec, _)| *spec != old) {
            self.seen = Some((old.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let Some(spec) = claim(&self.election, &old, now - since, Timestamp::now()) else {
            return Ok(false);
        };
        let written = match found {
            None => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": namespace}, "spec": spec,
                });
                client::create(&self.client, &lease).await?
            }
            Some(lease) => {
                let version = &lease["metadata"]["resourceVersion"];
                let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
                client::patch_merge(&self.client, Kind::LEASE, Some(&namespace), &name, &patch)
                    .await?
            }
        };
        self.seen = Some((written["spec"].clone(), now));
        Ok(true)
    }

    /// Nobody holds the Lease from now on; without an answer it ends by itself.
    async fn release(&self) {
        let Election { namespace, name, retry, .. } = &self.election;
        let patch = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        let given = client::patch_merge(&self.client, Kind::LEASE, Some(namespace), name, &patch);
        timeout(*retry, given).await.ok();
    }
}

/// The Lease's `spec` as it must be written to have it, or `None`: it is another one's. `unchanged`: for how long the
/// old one has been as it is.
fn claim(election: &Election, old: &Value, unchanged: Duration, now: Timestamp) -> Option<Value> {
    let holder = old["holderIdentity"].as_str().unwrap_or_default();
    let own = holder == election.identity;
    if !holder.is_empty() && !own && unchanged < election.lease {
        return None;
    }
    let now = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let transitions = old["leaseTransitions"].as_u64().unwrap_or(0);
    let changes = u64::from(!own && !old.is_null());
    Some(json!({
        "holderIdentity": election.identity,
        "leaseDurationSeconds": election.lease.as_secs().max(1),
        "acquireTime": if own { old["acquireTime"].clone() } else { now.clone().into() },
        "renewTime": now,
        "leaseTransitions": transitions + changes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_claimed_when_it_is_free_or_stale() {
        let election = Election::new("kube-system", "podway", "me");
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let held = |holder: &str| json!({"holderIdentity": holder, "acquireTime": "t0", "leaseTransitions": 3});
        let rows = [
            (Value::Null, 0, Some(("2026-01-01T00:00:00.500000Z", 0))),
            (held(""), 0, Some(("2026-01-01T00:00:00.500000Z", 4))),
            (held("me"), 0, Some(("t0", 3))),
            (held("other"), 14, None),
            (held("other"), 15, Some(("2026-01-01T00:00:00.500000Z", 4))),
        ];
        for (old, unchanged, expected) in rows {
            let claimed = claim(&election, &old, Duration::from_secs(unchanged), now);
            let seen = claimed.as_ref().map(|spec| {
                assert_eq!(spec["renewTime"], "2026-01-01T00:00:00.500000Z");
                let transitions = spec["leaseTransitions"].as_u64().unwrap();
                (spec["acquireTime"].as_str().unwrap(), transitions)
            });
            assert_eq!(seen, expected, "{old} {unchanged}");
        }
    }
}
