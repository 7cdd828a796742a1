//! What a write asks outside, and what it was answered.

use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Url(String),
    Service { namespace: String, name: String, port: u16, path: String },
}

impl Target {
    /// `WebhookClientConfig`
    pub(super) fn new(client: &Value) -> Self {
        if let Some(url) = client["url"].as_str() {
            return Self::Url(url.to_owned());
        }
        let service = &client["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        Self::Service {
            namespace: text("namespace"),
            name: text("name"),
            port: port.unwrap_or(443),
            path: text("path"),
        }
    }
}

/// A question to a webhook.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) authority: Vec<u8>,
    pub(crate) timeout_seconds: u64,
    /// `AdmissionReview`, but for the request's uid.
    pub(crate) review: Value,
}

impl Call {
    /// The same question has the same answer.
    fn key(&self) -> String {
        let Self { target, authority, timeout_seconds, review } = self;
        format!("{target:?} {} {timeout_seconds} {review}", authority.escape_ascii())
    }
}

/// A review that came back, with the uid of the question, or why none did.
pub(crate) type Outcome = Result<Value, String>;

/// The conversation with webhooks of the write under way.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    answers: BTreeMap<String, Outcome>,
    /// What names and uids are made of, the same whenever the write is tried.
    pub(crate) seed: Option<u64>,
    /// Noted by checks, which change nothing else.
    open: RefCell<Vec<Call>>,
}

impl Outside {
    /// The answer, or none yet: then it is asked.
    pub(super) fn ask(&self, call: Call) -> Option<Outcome> {
        let answer = self.answers.get(&call.key());
        if answer.is_none() {
            self.open.borrow_mut().push(call);
        }
        answer.cloned()
    }

    /// What is to be asked before the write is tried again.
    pub(crate) fn take_open(&self) -> Vec<Call> {
        self.open.take()
    }

    pub(crate) fn answer(&mut self, call: &Call, outcome: Outcome) {
        self.answers.insert(call.key(), outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_webhook_answered_is_no_other_ones_answer() {
        let call = |path: &str, authority: &str, timeout_seconds| Call {
            target: Target::Url(format!("https://h/{path}")),
            authority: authority.into(),
            timeout_seconds,
            review: Value::Null,
        };
        let mut outside = Outside::default();
        outside.answer(&call("a", "trusted", 1), Ok(Value::Null));
        for (asked, known) in [
            (call("a", "trusted", 1), true),
            (call("a", "other", 1), false),
            (call("b", "trusted", 1), false),
            (call("a", "trusted", 2), false),
        ] {
            assert_eq!(outside.ask(asked.clone()).is_some(), known, "{asked:?}");
        }
        assert_eq!(outside.take_open().len(), 3);
    }
}
