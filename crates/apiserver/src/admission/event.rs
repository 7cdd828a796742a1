//! Events (`k8s.io/kubernetes/pkg/apis/core/validation/events.go`): the newer form asks for more than the core group's.

use super::causes::Causes;
use super::names;
use crate::resources::Resource;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const WORDS: usize = 128;
const NOTE: usize = 1024;
/// What happened does not change, only how often.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

/// An event in one of its forms, with its fields by the names of the stored one, which messages have too.
struct Event<'a> {
    form: &'a Resource,
    fields: &'a Fields,
}

pub(super) fn admit(form: &Resource, fields: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let event = Event { form, fields };
    if event.is_set("eventTime") {
        event.check(causes)
    } else {
        event.check_place(true, causes)
    }
    if form.is_stored() {
        return;
    }
    let series = &fields.get("series").unwrap_or(&Value::Null);
    if series.is_object() {
        if series["count"].as_i64().unwrap_or(0) < 2 {
            causes.invalid("series.count", &"".into(), "should be at least 2");
        }
        if series["lastObservedTime"].is_null() {
            causes.required("series.lastObservedTime", "");
        }
    }
    match old {
        Some(old) => event.check_same(old, causes),
        None => event.check_new(causes),
    }
}

impl Event<'_> {
    fn get(&self, stored: &'static str) -> &Value {
        self.fields.get(self.form.field_of(stored)).unwrap_or(&Value::Null)
    }

    fn text(&self, stored: &'static str) -> &str {
        self.get(stored).as_str().unwrap_or_default()
    }

    fn is_set(&self, stored: &'static str) -> bool {
        let nothing = [Value::Null, "".into(), 0.into(), Value::Object(Map::new())];
        !nothing.contains(self.get(stored))
    }

    /// Whether it stands in the namespace of what it is about; what has none has its events in the default one.
    fn check_place(&self, legacy: bool, causes: &mut Causes) {
        let own = self.fields["metadata"]["namespace"].as_str().unwrap_or_default();
        let about = self.get("involvedObject")["namespace"].as_str().unwrap_or_default();
        let fits = match about {
            "" => own == "default" || !legacy && own == "kube-system",
            about => about == own || !legacy,
        };
        if !fits {
            let detail = "does not match event.namespace";
            causes.invalid("involvedObject.namespace", &about.into(), detail);
        }
    }

    fn check(&self, causes: &mut Causes) {
        self.check_place(false, causes);
        let controller = self.text("reportingComponent");
        let name = if self.form.is_stored() { "reportingComponent" } else { "reportingController" };
        if controller.is_empty() {
            causes.required(name, "");
        }
        causes.each(name, &controller.into(), names::qualified(controller));
        for field in ["reportingInstance", "action", "reason"] {
            if self.text(field).is_empty() {
                causes.required(field, "");
            }
            self.check_length(field, WORDS, causes);
        }
        self.check_length("message", NOTE, causes);
    }

    fn check_length(&self, field: &'static str, limit: usize, causes: &mut Causes) {
        if self.text(field).len() > limit {
            let detail = format!("can have at most {limit} characters");
            causes.invalid(field, &"".into(), &detail);
        }
    }

    fn check_new(&self, causes: &mut Causes) {
        if !self.is_set("eventTime") {
            causes.required("eventTime", "");
        }
        let kind = self.text("type");
        if !matches!(kind, "Normal" | "Warning") {
            causes.invalid("type", &"".into(), &format!("has invalid value: {kind}"));
        }
        for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            if self.is_set(field) {
                causes.invalid(field, &"".into(), "needs to be unset");
            }
        }
    }

    fn check_same(&self, old: &Value, causes: &mut Causes) {
        for field in FIXED {
            let value = self.get(field);
            if *value != old[self.form.field_of(field)] {
                causes.invalid(field, value, "field is immutable");
            }
        }
    }
}
