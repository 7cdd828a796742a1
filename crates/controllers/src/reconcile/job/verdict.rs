//! Whether a Job is over, and how.

use super::count::{Count, has_failed};
use super::policy::{judge, suffices};
use super::{since, text};
use crate::record::{FailureAction, Job, Pod};
use jiff::Timestamp;
use std::time::Duration;

/// How a Job ends once its pods are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) end: End,
    pub(super) reason: String,
    pub(super) message: String,
    /// The status says so.
    pub(super) said: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    Failed,
}

impl End {
    /// The condition that says that it is over, and the one before that says that it will be.
    pub(super) fn conditions(self) -> (&'static str, &'static str) {
        match self {
            End::Complete => ("Complete", "SuccessCriteriaMet"),
            End::Failed => ("Failed", "FailureTarget"),
        }
    }
}

impl Verdict {
    /// What is said once stays so; several may be true at the same time, and the first one counts.
    pub(super) fn of(job: &Job, pods: &[&Pod], count: &Count<'_>, now: Timestamp) -> Option<Self> {
        Self::said(job)
            .or_else(|| Self::by_policy(job, pods))
            .or_else(|| Self::by_limits(job, count, now))
            .or_else(|| Self::by_numbers(job, count))
            .or_else(|| Self::by_completions(job, count))
    }

    fn new(end: End, reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Verdict { end, reason: reason.to_owned(), message: message.into(), said: false })
    }

    fn said(job: &Job) -> Option<Self> {
        [End::Complete, End::Failed].into_iter().find_map(|end| {
            let found = job.holding(end.conditions().1)?;
            let (reason, message) = (text(found, "reason"), text(found, "message"));
            Some(Verdict { end, reason, message, said: true })
        })
    }

    fn by_policy(job: &Job, pods: &[&Pod]) -> Option<Self> {
        let failed = pods.iter().filter(|pod| has_failed(job, pod));
        let mut judged = failed.filter_map(|pod| judge(job, pod));
        let found = judged.find(|it| it.action == FailureAction::FailJob)?;
        Self::new(End::Failed, "PodFailurePolicy", found.message)
    }

    fn by_limits(job: &Job, count: &Count<'_>, now: Timestamp) -> Option<Self> {
        let alive = count.active.iter().chain(&count.terminating);
        let restarts: u32 = alive.map(|pod| pod.restarts).sum();
        let too_often = job.restarts && restarts >= job.backoff_limit.max(1);
        if count.failed > job.backoff_limit || too_often {
            let message = "Job has reached the specified backoff limit";
            return Self::new(End::Failed, "BackoffLimitExceeded", message);
        }
        if time_left(job, now) == Some(Duration::ZERO) {
            let message = "Job was active longer than specified deadline";
            return Self::new(End::Failed, "DeadlineExceeded", message);
        }
        None
    }

    fn by_numbers(job: &Job, count: &Count<'_>) -> Option<Self> {
        let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let lost = length(count.lost.len());
        if job.max_failed_indices.is_some_and(|most| lost > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Self::new(End::Failed, "MaxFailedIndexesExceeded", message);
        }
        let all = |wanted| lost.saturating_add(length(count.done.len())) >= wanted;
        if lost > 0 && job.completions.is_some_and(all) {
            return Self::new(End::Failed, "FailedIndexes", "Job has failed indexes");
        }
        let rule = suffices(&job.success_rules, &count.done)?;
        Self::new(End::Complete, "SuccessPolicy", format!("Matched rules at index {rule}"))
    }

    /// A Job without a number of completions is done with the first one, when all its pods have ended.
    fn by_completions(job: &Job, count: &Count<'_>) -> Option<Self> {
        if count.succeeded < job.completions.unwrap_or(1) || !count.active.is_empty() {
            return None;
        }
        let message = "Reached expected number of succeeded pods";
        Self::new(End::Complete, "CompletionsReached", message)
    }
}

/// Until its `activeDeadlineSeconds` are over.
pub(super) fn time_left(job: &Job, now: Timestamp) -> Option<Duration> {
    let started = job.status["startTime"].as_str()?.parse().ok()?;
    let deadline = job.deadline.filter(|_| !job.suspended)?;
    Some(deadline.saturating_sub(since(started, now)))
}
