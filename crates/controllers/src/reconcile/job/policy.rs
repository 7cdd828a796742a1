//! What a failed pod means to its Job, and when enough has succeeded.

use super::indices::numbers;
use crate::record::{FailureAction, FailureRule, FailureTest, Job, Pod, SuccessRule};
use std::collections::BTreeSet;

/// The first rule that a failed pod meets.
pub(super) struct Match {
    pub(super) action: FailureAction,
    /// Why, for people.
    pub(super) message: String,
}

/// `None`: no rule says anything, and the pod counts.
pub(super) fn judge(job: &Job, pod: &Pod) -> Option<Match> {
    let rules = job.failure_rules.iter().enumerate();
    rules.into_iter().find_map(|(index, rule)| {
        let message = meets(rule, pod)?;
        let action = rule.action;
        let message = format!("{message} matching {} rule at index {index}", action.name());
        Some(Match { action, message })
    })
}

/// A pod that is ignored was never there.
pub(super) fn counts(job: &Job, pod: &Pod) -> bool {
    judge(job, pod).is_none_or(|it| it.action != FailureAction::Ignore)
}

fn meets(rule: &FailureRule, pod: &Pod) -> Option<String> {
    let (tracked, key) = (pod.tracked.as_ref()?, &pod.base.meta.key);
    match &rule.test {
        FailureTest::Exit { container, codes, among } => {
            let is_meant = |name: &String| container.as_ref().is_none_or(|it| it == name);
            let mut exits =
                tracked.exits.iter().filter(|(name, code)| *code != 0 && is_meant(name));
            let (name, code) = exits.find(|(_, code)| codes.contains(code) == *among)?;
            Some(format!("Container {name} for pod {key} failed with exit code {code}"))
        }
        FailureTest::Conditions(patterns) => {
            let found = tracked.conditions.iter().find(|it| patterns.contains(it))?;
            Some(format!("Pod {key} has condition {}", found.0))
        }
    }
}

/// The number of the rule by which enough of the numbers are done.
pub(super) fn suffices(rules: &[SuccessRule], done: &BTreeSet<u32>) -> Option<usize> {
    let holds = |rule: &SuccessRule| {
        let asked = rule.indices.as_deref().map(numbers);
        let succeeded = match &asked {
            Some(asked) => asked.intersection(done).count(),
            None => done.len(),
        };
        let all = asked.filter(|asked| !asked.is_empty()).map(|asked| asked.len());
        let enough = rule.count.and_then(|count| count.try_into().ok());
        [all, enough].into_iter().flatten().any(|least| succeeded >= least)
    };
    rules.iter().position(holds).filter(|_| !done.is_empty())
}
