//! Whether the agent keeps up, told on the health port as kube-proxy tells it, and how far it has come.

use crate::http::Answer;
use crate::metrics::Metrics;
use client::{Event, Kind};
use jiff::Timestamp;
use model::Family;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// An update that waits longer than this is not being kept up with.
const KEPT_UP: Duration = Duration::from_secs(60);
/// How long a question waits for its answer to become yes.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the loop lets others know of itself.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// Since when there is something that the kernel has not been told.
    pub(crate) queued: Option<Instant>,
    /// When the kernel was last as the cluster wants it.
    pub(crate) updated: Option<Timestamp>,
    /// Load balancers are to send this node nothing new.
    pub(crate) leaving: bool,
    pub(crate) applied: Versions,
}

/// The newest `metadata.resourceVersion` by kind.
pub(crate) type Versions = BTreeMap<&'static str, u64>;

impl Status {
    /// Before anything is known everything is queued.
    pub(crate) fn new() -> Self {
        let applied = Versions::new();
        Status { queued: Some(Instant::now()), updated: None, leaving: false, applied }
    }

    pub(crate) fn keeps_up(&self) -> bool {
        self.queued.is_none_or(|since| since.elapsed() <= KEPT_UP)
    }
}

/// Takes note of the versions in an event.
pub(crate) fn note_versions(versions: &mut Versions, event: &Event) {
    let mut note = |kind: Kind, object: &Value| {
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        // A server whose versions are no numbers cannot be waited for.
        let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        let newest = versions.entry(kind.kind).or_default();
        *newest = version.max(*newest);
    };
    match event {
        Event::Applied { kind, object }
        | Event::Deleted { kind, object }
        | Event::Listed { kind, object } => note(*kind, object),
        Event::Restarted { kind, objects } => {
            note(*kind, &Value::Null);
            objects.iter().for_each(|object| note(*kind, object));
        }
        Event::Listing { .. } | Event::Synced => {}
    }
}

/// Answers on the health port.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Health {
    pub(crate) async fn answer(self, path: String) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/healthz" => {
                let answer = judge(&self.status.borrow(), true);
                self.metrics.healthz.count(answer.status);
                answer
            }
            "/livez" => {
                let answer = judge(&self.status.borrow(), false);
                self.metrics.livez.count(answer.status);
                answer
            }
            "/programmed" => self.programmed(query).await,
            _ => Answer::not_found(),
        }
    }

    /// With a query (`Service=12&Node=7`): waits until these versions are in the kernel.
    async fn programmed(mut self, query: &str) -> Answer {
        let Some(wanted) = versions(query) else {
            let wrong = json!({"error": "a query like Service=12&EndpointSlice=7 is expected"});
            return Answer::json(400, &wrong);
        };
        let has_come = |status: &Status| {
            let applied = |kind: &str| status.applied.get(kind).copied();
            wanted.iter().all(|(kind, version)| applied(kind) >= Some(*version))
        };
        let waited = tokio::time::timeout(LONGEST_WAIT, self.status.wait_for(has_come));
        let has_come = waited.await.is_ok_and(|status| status.is_ok());
        Answer::json(
            if has_come { 200 } else { 503 },
            &json!({"applied": self.status.borrow().applied}),
        )
    }
}

fn versions(query: &str) -> Option<Vec<(&str, u64)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').and_then(|(k, v)| Some((k, v.parse().ok()?)))).collect()
}

fn judge(status: &Status, needs_eligible: bool) -> Answer {
    let (keeps_up, eligible) = (status.keeps_up(), !status.leaving);
    let healthy = keeps_up && (eligible || !needs_eligible);
    let updated = status.updated.map(|moment| moment.to_string());
    let family =
        |family: Family| (family.to_string(), json!({"lastUpdated": updated, "healthy": keeps_up}));
    let families: Map<String, Value> = Family::ALL.into_iter().map(family).collect();
    let mut body = json!({
        "lastUpdated": updated,
        "currentTime": Timestamp::now().to_string(),
        "healthy": healthy,
        "status": families,
    });
    if needs_eligible {
        body["nodeEligible"] = eligible.into();
    }
    let mut answer = Answer::json(if healthy { 200 } else { 503 }, &body);
    answer.headers.push(("x-content-type-options", "nosniff".to_owned()));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(queued: Option<u64>, leaving: bool) -> Status {
        let queued = queued.and_then(|age| Instant::now().checked_sub(Duration::from_secs(age)));
        Status { queued, updated: Some(Timestamp::UNIX_EPOCH), leaving, ..Status::new() }
    }

    #[test]
    fn healthy_is_who_keeps_up_and_eligible_who_stays() {
        // Age of the oldest queued update, leaving; healthz, livez.
        let rows = [
            (None, false, 200, 200),
            (Some(5), false, 200, 200),
            (Some(61), false, 503, 503),
            (None, true, 503, 200),
            (Some(61), true, 503, 503),
        ];
        for (queued, leaving, healthz, livez) in rows {
            let status = status(queued, leaving);
            let answer = judge(&status, true);
            assert_eq!(answer.status, healthz, "healthz of {status:?}");
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["nodeEligible"], !leaving);
            assert_eq!(body["healthy"], healthz == 200);
            assert_eq!(body["lastUpdated"], "1970-01-01T00:00:00Z");
            assert_eq!(body["status"]["IPv4"]["healthy"], queued != Some(61));
            let answer = judge(&status, false);
            assert_eq!(answer.status, livez, "livez of {status:?}");
            assert!(!answer.body.contains("nodeEligible"));
        }
    }

    #[test]
    fn versions_are_the_newest_seen_of_each_kind() {
        let object = |version: &str| json!({"metadata": {"resourceVersion": version}});
        let mut newest = Versions::new();
        let kind = Kind::SERVICE;
        note_versions(&mut newest, &Event::Restarted { kind, objects: Vec::new() });
        assert_eq!(newest, [("Service", 0)].into());
        let objects = vec![object("7"), object("12"), object("9")];
        note_versions(&mut newest, &Event::Restarted { kind, objects });
        note_versions(&mut newest, &Event::Applied { kind, object: object("x") });
        note_versions(&mut newest, &Event::Deleted { kind: Kind::NODE, object: object("13") });
        assert_eq!(newest, [("Service", 12), ("Node", 13)].into());
    }

    #[test]
    fn queries_are_kinds_and_numbers() {
        assert_eq!(versions("Service=1&Node=2"), Some(vec![("Service", 1), ("Node", 2)]));
        assert_eq!(versions(""), Some(vec![]));
        assert_eq!(versions("Service"), None);
        assert_eq!(versions("Service=x"), None);
    }
}
