//! What happened to objects, told to people as Kubernetes Events.
//!
//! ```text
//!   a write and what came of it ──told──► Event ──Correlator──► Note ──queue──► API, one after the other
//!                                                   │               └ full, or the API is away for long: lost
//!                                                   └ too much about one object: left out, or counted in an earlier one
//! ```
//!
//! Reasons and messages are kube-controller-manager's, word for word; so are the limits (`client-go/tools/record`).

mod correlate;
mod recent;
mod recorder;
mod told;

pub(crate) use recorder::Recorder;
pub(crate) use told::told;

use client::Kind;
use model::{Meta, ObjectKey};

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    /// The controller that tells it, as kube-controller-manager names it in Events.
    pub(crate) component: &'static str,
    pub(crate) about: About,
    pub(crate) severity: Severity,
    /// One word in CamelCase.
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
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
pub(crate) struct About {
    pub(crate) kind: Kind,
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
}

impl About {
    pub(crate) fn new(kind: Kind, meta: &Meta) -> Self {
        About { kind, key: meta.key.clone(), uid: meta.uid.clone() }
    }

    pub(crate) fn normal(
        self,
        component: &'static str,
        reason: &str,
        message: impl Into<String>,
    ) -> Event {
        self.event(component, Severity::Normal, reason, message.into())
    }

    pub(crate) fn warning(
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
        Event { component, about: self, severity, reason: reason.to_owned(), message }
    }
}
