//! Fewer Events: what says the same is counted, what says nearly the same is combined, what is too much is left out.

use super::recent::Recent;
use super::{About, Event, Severity};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// How many different things are remembered.
const REMEMBERED: usize = 4096;
/// Events of one severity about one object: so many at once, and then one in so long.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// From so many messages on, none of them further apart than this, one Event stands for all of a reason.
const SIMILAR: usize = 10;
const SPAN: Duration = Duration::from_secs(600);

/// An Event as it is to be written: for the first time, or with a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) event: Event,
    pub(super) name: String,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) count: u32,
}

type Subject = (&'static str, About, Severity);

#[derive(Debug)]
pub(super) struct Correlator {
    buckets: Recent<Subject, Bucket>,
    groups: Recent<(Subject, String), Group>,
    /// What an Event is known by; one that stands for others has no message.
    written: Recent<(Subject, Option<String>, String, Option<String>), Written>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

#[derive(Debug)]
struct Group {
    messages: BTreeSet<String>,
    last: Duration,
}

#[derive(Debug)]
struct Written {
    name: String,
    first: Timestamp,
    count: u32,
}

impl Default for Correlator {
    fn default() -> Self {
        Correlator {
            buckets: Recent::new(REMEMBERED),
            groups: Recent::new(REMEMBERED),
            written: Recent::new(REMEMBERED),
        }
    }
}

impl Correlator {
    /// `None`: too much about this object. `now` is the time since the start, `wall` what people read.
    pub(super) fn admit(
        &mut self,
        mut event: Event,
        now: Duration,
        wall: Timestamp,
    ) -> Option<Note> {
        let subject = (event.component, event.about.clone(), event.severity);
        let full = || Bucket { tokens: BURST, filled: now };
        if !self.buckets.entry(subject.clone(), full).take(now) {
            return None;
        }
        let reason = (subject, event.reason.clone());
        let none = || Group { messages: BTreeSet::new(), last: now };
        let combined = self.groups.entry(reason.clone(), none).is_crowded_by(&event.message, now);
        let (subject, reason) = reason;
        let message = (!combined).then(|| event.message.clone());
        if combined {
            event.message = format!("(combined from similar events): {}", event.message);
        }
        let name = || format!("{}.{:x}", event.about.key.name, wall.as_nanosecond());
        let fresh = || Written { name: name(), first: wall, count: 0 };
        let written = self.written.entry((subject, event.field.clone(), reason, message), fresh);
        written.count = written.count.saturating_add(1);
        let (name, first, count) = (written.name.clone(), written.first, written.count);
        Some(Note { event, name, first, last: wall, count })
    }
}

impl Bucket {
    fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since / REFILL.as_secs_f64()).min(BURST);
        self.filled = now;
        let has = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(has));
        has
    }
}

impl Group {
    /// There are too many messages with this one to tell each by itself.
    fn is_crowded_by(&mut self, message: &str, now: Duration) -> bool {
        if now.saturating_sub(self.last) > SPAN {
            self.messages.clear();
        }
        self.last = now;
        self.messages.insert(message.to_owned());
        let crowded = self.messages.len() >= SIMILAR;
        if crowded {
            self.messages.pop_first();
        }
        crowded
    }
}

impl Note {
    pub(super) fn namespace(&self) -> &str {
        match &*self.event.about.key.namespace {
            "" => "default",
            namespace => namespace,
        }
    }

    /// `host`: where the teller is, for tellers that are on a node.
    pub(super) fn to_object(&self, host: Option<&str>) -> Value {
        let Event { component, about, field, severity, reason, message } = &self.event;
        let mut involved = json!({
            "apiVersion": about.kind.api_version(), "kind": about.kind.kind,
            "name": &*about.key.name, "uid": about.uid,
        });
        if about.kind.namespaced {
            involved["namespace"] = (&*about.key.namespace).into();
        }
        if let Some(field) = field {
            involved["fieldPath"] = field.as_str().into();
        }
        let mut source = json!({"component": component});
        if let Some(host) = host {
            source["host"] = host.into();
        }
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": self.name, "namespace": self.namespace()},
            "involvedObject": involved,
            "type": severity.name(),
            "reason": reason,
            "message": message,
            "count": self.count,
            "firstTimestamp": stamp(self.first),
            "lastTimestamp": stamp(self.last),
            "source": source,
            "reportingComponent": component,
            "reportingInstance": host.unwrap_or_default(),
        })
    }

    /// What changes in the Event that is there.
    pub(super) fn to_patch(&self) -> Value {
        json!({
            "count": self.count,
            "lastTimestamp": stamp(self.last),
            "message": self.event.message,
        })
    }
}

/// RFC 3339 with whole seconds, as `metav1.Time` is written.
fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use model::ObjectKey;

    fn about(name: &str) -> About {
        About { kind: Kind::POD, key: ObjectKey::new("default", name), uid: name.to_owned() }
    }

    /// Counts and messages of what is told, `None` for what is left out.
    fn tell(
        correlator: &mut Correlator,
        event: Event,
        second: u64,
    ) -> Option<(u32, String, String)> {
        let wall = Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        let note = correlator.admit(event, Duration::from_secs(second), wall)?;
        Some((note.count, note.event.message, note.name))
    }

    #[test]
    fn what_says_the_same_is_counted() {
        let mut correlator = Correlator::default();
        let event = |name, message: &str| about(name).warning("tester", "Because", message);
        let first = tell(&mut correlator, event("a", "x"), 1).unwrap();
        assert_eq!((first.0, &*first.1), (1, "x"));
        let again = tell(&mut correlator, event("a", "x"), 2).unwrap();
        assert_eq!((again.0, &again.2), (2, &first.2), "the same Event");
        for other in [event("a", "y"), event("b", "x"), about("a").normal("tester", "Because", "x")]
        {
            assert_eq!(tell(&mut correlator, other, 3).unwrap().0, 1);
        }
    }

    #[test]
    fn parts_of_an_object_are_counted_apart() {
        let mut correlator = Correlator::default();
        let mut say = |field: &str| {
            let event = about("a").normal("tester", "Because", "x");
            let event = Event { field: Some(field.to_owned()), ..event };
            tell(&mut correlator, event, 1).unwrap().0
        };
        let counts =
            ["spec.containers{a}", "spec.containers{b}", "spec.containers{a}"].map(&mut say);
        assert_eq!(counts, [1, 1, 2]);
    }

    #[test]
    fn a_note_says_who_tells_it_of_what() {
        let event = about("a").normal("tester", "Because", "x");
        let event = Event { field: Some("spec.containers{c}".to_owned()), ..event };
        let note = Correlator::default().admit(event, Duration::ZERO, Timestamp::UNIX_EPOCH);
        let note = note.unwrap();
        for (host, source, instance) in [
            (None, json!({"component": "tester"}), ""),
            (Some("n"), json!({"component": "tester", "host": "n"}), "n"),
        ] {
            let object = note.to_object(host);
            assert_eq!(object["source"], source);
            assert_eq!(object["reportingInstance"], instance);
            assert_eq!(object["involvedObject"]["fieldPath"], "spec.containers{c}");
        }
    }

    #[test]
    fn many_of_a_reason_are_combined() {
        let mut correlator = Correlator::default();
        let mut say = |number: u32, second| {
            let event = about("a").normal("tester", "Because", format!("number {number}"));
            let (count, message, _) = tell(&mut correlator, event, second).unwrap();
            (count, message.starts_with("(combined from similar events): number "))
        };
        for number in 0..9 {
            assert_eq!(say(number, 1), (1, false));
        }
        assert_eq!(say(9, 1), (1, true));
        assert_eq!(say(10, 1), (2, true));
        assert_eq!(say(11, 602), (1, false), "long after");
    }

    #[test]
    fn what_is_too_much_about_an_object_is_left_out() {
        let mut correlator = Correlator::default();
        let mut admitted = |name, second| {
            let event = || about(name).normal("tester", "Because", "x");
            (0..100).filter(|_| tell(&mut correlator, event(), second).is_some()).count()
        };
        assert_eq!(admitted("a", 0), 25);
        assert_eq!(admitted("a", 299), 0);
        assert_eq!(admitted("a", 301), 1);
        assert_eq!(admitted("b", 301), 25);
        assert_eq!(admitted("a", 100_000), 25, "long after no more than at first");
    }
}
