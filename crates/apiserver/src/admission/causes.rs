//! Wrong fields, collected (`k8s.io/apimachinery/pkg/util/validation/field`).

use crate::error::{Cause, Error, Reason};
use crate::resources::Resource;
use serde_json::Value;

#[derive(Debug, Default)]
pub(super) struct Causes {
    list: Vec<Cause>,
}

impl Causes {
    pub(super) fn required(&mut self, field: &str, detail: &str) {
        self.push(Reason::Required, field, with_detail("Required value", detail));
    }

    pub(super) fn invalid(&mut self, field: &str, value: &Value, detail: &str) {
        self.push(Reason::Invalid, field, with_detail(&format!("Invalid value: {value}"), detail));
    }

    pub(super) fn unsupported(&mut self, field: &str, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", supported.join(", "));
        self.push(Reason::NotSupported, field, message);
    }

    pub(super) fn duplicate(&mut self, field: &str, value: &Value) {
        self.push(Reason::Duplicate, field, format!("Duplicate value: {value}"));
    }

    pub(super) fn forbidden(&mut self, field: &str, detail: &str) {
        self.push(Reason::Forbidden, field, with_detail("Forbidden", detail));
    }

    /// Numbers of ports: 1–65535.
    pub(super) fn port(&mut self, field: &str, value: &Value) {
        if !value.as_u64().is_some_and(|port| (1..=65_535).contains(&port)) {
            self.invalid(field, value, "must be between 1 and 65535, inclusive");
        }
    }

    /// One of a closed set of words.
    pub(super) fn one_of(&mut self, field: &str, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.unsupported(field, value, supported);
        }
    }

    pub(super) fn into_result(self, resource: &'static Resource, name: &str) -> Result<(), Error> {
        if self.list.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid { resource, name: name.to_owned(), causes: self.list })
    }

    fn push(&mut self, reason: Reason, field: &str, message: String) {
        self.list.push(Cause { reason, field: field.to_owned(), message });
    }
}

fn with_detail(message: &str, detail: &str) -> String {
    if detail.is_empty() { message.to_owned() } else { format!("{message}: {detail}") }
}
