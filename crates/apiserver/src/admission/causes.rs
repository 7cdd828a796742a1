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
        self.unsupported_shown(field, &format!("{value:?}"), supported);
    }

    pub(super) fn unsupported_shown(&mut self, field: &str, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message =
            format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        self.push(Reason::NotSupported, field, message);
    }

    /// As [`Self::invalid`], of a value that is shown as Go prints it.
    pub(super) fn invalid_shown(&mut self, field: &str, shown: &str, detail: &str) {
        self.push(Reason::Invalid, field, with_detail(&format!("Invalid value: {shown}"), detail));
    }

    pub(super) fn duplicate_shown(&mut self, field: &str, shown: &str) {
        self.push(Reason::Duplicate, field, format!("Duplicate value: {shown}"));
    }

    pub(super) fn duplicate(&mut self, field: &str, value: &Value) {
        self.push(Reason::Duplicate, field, format!("Duplicate value: {value}"));
    }

    pub(super) fn forbidden(&mut self, field: &str, detail: &str) {
        self.push(Reason::Forbidden, field, with_detail("Forbidden", detail));
    }

    pub(super) fn too_many(&mut self, field: &str, found: usize, limit: usize) {
        let message = format!("Too many: {found}: must have at most {limit} items");
        self.push(Reason::TooMany, field, message);
    }

    pub(super) fn not_found(&mut self, field: &str, value: &str) {
        self.push(Reason::NotFound, field, format!("Not found: {value:?}"));
    }

    /// What was found in a check before all others, if anything, is all that is told.
    pub(super) fn told_first(&mut self, first: Self) -> bool {
        let any = !first.list.is_empty();
        if any {
            *self = first;
        }
        any
    }

    /// How many there are so far.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// `limit` in octets.
    pub(super) fn too_long(&mut self, field: &str, limit: usize) {
        self.push(Reason::TooLong, field, format!("Too long: may not be more than {limit} bytes"));
    }

    /// Each of several faults of one value.
    pub(super) fn each<T: AsRef<str>>(&mut self, field: &str, value: &Value, details: Vec<T>) {
        for detail in details {
            self.invalid(field, value, detail.as_ref());
        }
    }

    pub(super) fn not_negative(&mut self, field: &str, value: &Value) {
        if value.as_i64().is_some_and(|number| number < 0) {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
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
