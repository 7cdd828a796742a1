//! What happened to objects, told to people as Kubernetes Events.
//!
//! ```text
//!   Event ──Correlator──► Note ──queue──► API, one after the other
//!                │                └ full, or the API is away for long: lost
//!                └ too much about one object: left out, or counted in an earlier one
//! ```
//!
//! The limits are those of client-go (`tools/record`). What is said is the teller's.

mod correlate;
mod recent;
mod recorder;

pub use recorder::Recorder;

use crate::Kind;
use model::{Meta, ObjectKey};

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Who tells it, as the component in whose place it speaks is named in Events.
    pub component: &'static str,
    pub about: About,
    /// The part of the object that it is about, as `spec.containers{web}`.
    pub field: Option<String>,
    pub severity: Severity,
    /// One word in CamelCase.
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

/// The object that an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    pub kind: Kind,
    pub key: ObjectKey,
    pub uid: String,
}

impl About {
    #[must_use]
    pub fn new(kind: Kind, meta: &Meta) -> Self {
        About { kind, key: meta.key.clone(), uid: meta.uid.clone() }
    }

    #[must_use]
    pub fn normal(
        self,
        component: &'static str,
        reason: &str,
        message: impl Into<String>,
    ) -> Event {
        self.event(component, Severity::Normal, reason, message.into())
    }

    #[must_use]
    pub fn warning(
        self,
        component: &'static str,
        reason: &str,
        message: impl Into<String>,
    ) -> Event {
        self.event(component, Severity::Warning, reason, message.into())
    }

    fn event(
        self,
        component: &'static str,
        severity: Severity,
        reason: &str,
        message: String,
    ) -> Event {
        Event { component, about: self, field: None, severity, reason: reason.to_owned(), message }
    }
}
