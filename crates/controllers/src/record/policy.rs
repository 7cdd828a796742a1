//! What a Job says about pods that fail and about succeeding early.

use super::{count, items, owned_text, text};
use serde_json::Value;

/// `spec.podFailurePolicy.rules[]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureRule {
    pub(crate) action: FailureAction,
    pub(crate) test: FailureTest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureAction {
    /// The whole Job has failed.
    FailJob,
    /// This number of it has failed for good.
    FailIndex,
    /// As if the pod had never been.
    Ignore,
    /// Towards the limit, as without any rule.
    Count,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FailureTest {
    /// A container, this one if it is named, ended with one of these codes, or with none of them.
    Exit { container: Option<String>, codes: Vec<i64>, among: bool },
    /// The pod has one of these conditions: type and status.
    Conditions(Vec<(String, String)>),
}

/// `spec.successPolicy.rules[]`: so many of these numbers, all of them, or so many of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuccessRule {
    pub(crate) indices: Option<String>,
    pub(crate) count: Option<u32>,
}

impl FailureAction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            FailureAction::FailJob => "FailJob",
            FailureAction::FailIndex => "FailIndex",
            FailureAction::Ignore => "Ignore",
            FailureAction::Count => "Count",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::FailJob, Self::FailIndex, Self::Ignore, Self::Count];
        all.into_iter().find(|action| action.name() == text)
    }
}

impl FailureRule {
    /// A rule with an action that nobody knows is none.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let action = FailureAction::parse(text(value, "/action")?)?;
        let exit = &value["onExitCodes"];
        let test = if exit.is_object() {
            FailureTest::Exit {
                container: owned_text(exit, "/containerName"),
                codes: items(exit, "/values").iter().filter_map(Value::as_i64).collect(),
                among: text(exit, "/operator") == Some("In"),
            }
        } else {
            let patterns = items(value, "/onPodConditions").iter();
            FailureTest::Conditions(patterns.filter_map(kind_and_status).collect())
        };
        Some(FailureRule { action, test })
    }
}

/// Of a condition, or of what one is compared with.
pub(super) fn kind_and_status(condition: &Value) -> Option<(String, String)> {
    let status = text(condition, "/status").unwrap_or("True");
    Some((text(condition, "/type")?.to_owned(), status.to_owned()))
}

impl SuccessRule {
    pub(super) fn parse(value: &Value) -> Self {
        SuccessRule {
            indices: owned_text(value, "/succeededIndexes"),
            count: count(value, "/succeededCount"),
        }
    }
}
