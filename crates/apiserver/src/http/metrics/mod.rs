//! `/metrics`: how many requests there were and how long they took, objects and requests there are, under the names and
//! labels of the real server.

mod labels;
mod text;

pub(super) use labels::Labels;

use super::discovery;
use super::reply::Reply;
use crate::resources::{self, Custom};
use crate::server::ApiServer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use text::Text;

/// Upper bounds of durations, in seconds, as the real server has them.
const BOUNDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// What was counted. The tasks of all connections write it.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    ended: BTreeMap<Labels, Ended>,
    /// Requests that last.
    lasting: BTreeMap<Labels, u64>,
    /// Other requests under way: those that read, and those that write.
    reading: u64,
    writing: u64,
}

/// Requests that were answered.
#[derive(Debug, Default)]
struct Ended {
    by_code: BTreeMap<u16, u64>,
    /// So many took as long as the bound at this place, and no less than the one before it; the last have no bound.
    by_duration: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Ended {
    fn add(&mut self, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        *self.by_code.entry(code).or_default() += 1;
        self.by_duration[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.seconds += seconds;
    }
}

impl Numbers {
    /// Where requests like this one are counted while they are under way.
    fn under_way(&mut self, labels: &Labels) -> &mut u64 {
        match (labels.is_lasting(), labels.is_reading()) {
            (true, _) => self.lasting.entry(*labels).or_default(),
            (false, true) => &mut self.reading,
            (false, false) => &mut self.writing,
        }
    }
}

impl Metrics {
    pub(super) fn begin(self: &Arc<Self>, labels: Labels) -> UnderWay {
        *self.lock().under_way(&labels) += 1;
        UnderWay { metrics: self.clone(), labels, begun: Instant::now(), code: None }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request until all of its answer is sent, or nobody waits for it any more.
#[derive(Debug)]
pub(super) struct UnderWay {
    metrics: Arc<Metrics>,
    labels: Labels,
    begun: Instant,
    code: Option<u16>,
}

impl UnderWay {
    pub(super) fn answered(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut numbers = self.metrics.lock();
        *numbers.under_way(&self.labels) -= 1;
        if let Some(code) = self.code {
            numbers.ended.entry(self.labels).or_default().add(code, self.begun.elapsed());
        }
    }
}

pub(super) fn answer(server: &ApiServer, customs: &[Custom]) -> Reply {
    let mut text = Text::default();
    server.metrics.lock().write(&mut text);
    write_objects(&mut text, &objects(server, customs));
    let version = discovery::version();
    let names = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ];
    let of = |field: &str| version[field].as_str().unwrap_or_default();
    let labels = names.map(|(label, field)| (label, of(field)));
    text.family("kubernetes_build_info", "gauge", "What this server says it is.");
    text.sample("kubernetes_build_info", &labels, 1);
    Reply::bytes(text.finish().into()).media("text/plain; version=0.0.4; charset=utf-8")
}

/// Group and plural of each kind that is stored, with the number of its objects.
fn objects(server: &ApiServer, customs: &[Custom]) -> Vec<(&'static str, &'static str, usize)> {
    let stored = resources::served(customs).filter(|it| it.is_stored() && !it.transient);
    server.read(|registry| {
        stored.map(|it| (it.group, it.plural, registry.store.count(it.kind))).collect()
    })
}

fn write_objects(text: &mut Text, objects: &[(&str, &str, usize)]) {
    const NAME: &str = "apiserver_resource_objects";
    text.family(NAME, "gauge", "Objects of each kind.");
    for (group, plural, count) in objects {
        text.sample(NAME, &[("group", group), ("resource", plural)], count);
    }
    const OLD_NAME: &str = "apiserver_storage_objects";
    text.family(OLD_NAME, "gauge", "Objects of each kind, by a name that is going out of use.");
    for (group, plural, count) in objects {
        let dot = if group.is_empty() { "" } else { "." };
        text.sample(OLD_NAME, &[("resource", &format!("{plural}{dot}{group}"))], count);
    }
}

impl Numbers {
    fn write(&self, text: &mut Text) {
        const TOTAL: &str = "apiserver_request_total";
        text.family(TOTAL, "counter", "Requests that were answered.");
        for (labels, ended) in &self.ended {
            for (code, count) in &ended.by_code {
                let code = code.to_string();
                let mut all = vec![("code", &*code)];
                all.extend(labels.with_dry_run());
                text.sample(TOTAL, &all, count);
            }
        }
        const DURATION: &str = "apiserver_request_duration_seconds";
        text.family(DURATION, "histogram", "How long it took to answer.");
        for (labels, ended) in &self.ended {
            text.histogram(
                DURATION,
                &labels.with_dry_run(),
                &BOUNDS,
                &ended.by_duration,
                ended.seconds,
            );
        }
        const LASTING: &str = "apiserver_longrunning_requests";
        text.family(LASTING, "gauge", "Watches and other requests that last.");
        for (labels, count) in &self.lasting {
            text.sample(LASTING, &labels.without_dry_run(), count);
        }
        const INFLIGHT: &str = "apiserver_current_inflight_requests";
        text.family(INFLIGHT, "gauge", "Requests under way that do not last.");
        for (kind, count) in [("mutating", self.writing), ("readOnly", self.reading)] {
            text.sample(INFLIGHT, &[("request_kind", kind)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Method;

    fn labels(method: &Method, target: &str) -> Labels {
        labels::of_target(method, target, "").expect("requests like this are counted")
    }

    #[test]
    fn what_is_under_way_and_what_has_ended() {
        let metrics = Arc::new(Metrics::default());
        let watch = metrics.begin(labels(&Method::GET, "/api/v1/pods?watch=1"));
        let given_up = metrics.begin(labels(&Method::POST, "/api/v1/namespaces"));
        let shown = |metrics: &Metrics| {
            let mut text = Text::default();
            metrics.lock().write(&mut text);
            text.finish()
        };
        let text = shown(&metrics);
        let lasting = r#"apiserver_longrunning_requests{component="apiserver",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1"}"#;
        assert!(text.contains(&format!("{lasting} 1\n")), "{text}");
        assert!(text.contains("{request_kind=\"mutating\"} 1\n"), "{text}");
        assert!(!text.contains("apiserver_request_total{"), "{text}");
        drop(watch.answered(200));
        drop(given_up);
        let text = shown(&metrics);
        assert!(text.contains(&format!("{lasting} 0\n")), "{text}");
        assert!(text.contains("{request_kind=\"mutating\"} 0\n"), "{text}");
        let ended = r#"component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1""#;
        for line in [
            format!("apiserver_request_total{{code=\"200\",{ended}}} 1\n"),
            format!("apiserver_request_duration_seconds_bucket{{{ended},le=\"60\"}} 1\n"),
            format!("apiserver_request_duration_seconds_bucket{{{ended},le=\"+Inf\"}} 1\n"),
            format!("apiserver_request_duration_seconds_count{{{ended}}} 1\n"),
        ] {
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(!text.contains("POST"), "{text}");
    }

    #[test]
    fn durations_are_counted_up_to_their_bound() {
        let mut ended = Ended::default();
        for millis in [5, 6, 60_000, 60_001] {
            ended.add(200, Duration::from_millis(millis));
        }
        let places = [0, 1, BOUNDS.len() - 1, BOUNDS.len()];
        assert_eq!(places.map(|place| ended.by_duration[place]), [1; 4]);
    }
}
