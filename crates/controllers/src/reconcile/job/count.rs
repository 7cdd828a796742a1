//! A Job's pods, counted.

use super::indices::{index, numbers};
use super::policy;
use crate::record::{FailureAction, Job, Pod};
use jiff::Timestamp;
use model::PodPhase;
use std::collections::{BTreeMap, BTreeSet};

/// Annotations with how many pods of its number failed before a pod, and how many of them were ignored.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

#[derive(Default)]
pub(super) struct Count<'a> {
    /// Neither ended nor on their way out.
    pub(super) active: Vec<&'a Pod>,
    /// The same, but given up: they are not counted any more and shall go.
    pub(super) given_up: Vec<&'a Pod>,
    pub(super) ready: usize,
    /// On their way out.
    pub(super) terminating: Vec<&'a Pod>,
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    /// Failures since the last success, and the last of them.
    pub(super) failures: u32,
    pub(super) last_failure: Option<Timestamp>,
    /// Numbers that are done, and those that have failed for good.
    pub(super) done: BTreeSet<u32>,
    pub(super) lost: BTreeSet<u32>,
    /// Failed pods that wait for their successor, which is to know of their failures, by number.
    pub(super) waiting: BTreeMap<u32, &'a Pod>,
}

impl<'a> Count<'a> {
    pub(super) fn of(job: &Job, pods: &[&'a Pod]) -> Self {
        let mut count = Count::default();
        for pod in pods {
            count.place(pod);
        }
        count.add_up(job, pods);
        count.look_back(job, pods);
        if job.indexed {
            count.number(job, pods);
        }
        count
    }

    fn place(&mut self, pod: &'a Pod) {
        if pod.base.phase.is_over() {
            return;
        }
        if pod.base.meta.terminating {
            self.terminating.push(pod);
        } else if pod.tracked.is_none() {
            self.given_up.push(pod);
        } else {
            self.ready += usize::from(pod.base.ready);
            self.active.push(pod);
        }
    }

    /// What the status says, and what it does not say yet.
    fn add_up(&mut self, job: &Job, pods: &[&Pod]) {
        let said = |field: &str| {
            job.status[field].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0)
        };
        let listed = |list: &str| u32::try_from(job.uncounted(list).len()).unwrap_or(u32::MAX);
        self.succeeded = said("succeeded") + listed("succeeded");
        self.failed = said("failed") + listed("failed");
        for pod in pods.iter().filter(|pod| is_new(job, pod)) {
            self.succeeded += u32::from(pod.base.phase == PodPhase::Succeeded);
            self.failed += u32::from(has_failed(job, pod) && policy::counts(job, pod));
        }
    }

    fn look_back(&mut self, job: &Job, pods: &[&Pod]) {
        let succeeded = pods.iter().filter(|pod| pod.base.phase == PodPhase::Succeeded);
        let success = succeeded.filter_map(|pod| pod.ended).max();
        // One that was given up has not failed, however it ends.
        let has_failed = |pod: &&&Pod| match pod.tracked {
            Some(_) => has_failed(job, pod),
            None => pod.base.phase == PodPhase::Failed && !pod.base.meta.terminating,
        };
        let failed = pods.iter().filter(has_failed).filter_map(|pod| pod.ended);
        let since = failed.filter(|time| success.is_none_or(|success| *time > success));
        self.failures = u32::try_from(since.clone().count()).unwrap_or(u32::MAX);
        self.last_failure = since.max();
    }

    fn number(&mut self, job: &Job, pods: &[&'a Pod]) {
        let said = |field: &str| numbers(job.status[field].as_str().unwrap_or_default());
        self.done = said("completedIndexes");
        self.lost = said("failedIndexes");
        let numbered = || pods.iter().filter_map(|pod| Some((index(pod, job.completions)?, *pod)));
        let tracked = || numbered().filter(|(_, pod)| pod.tracked.is_some());
        let succeeded = tracked().filter(|(_, pod)| pod.base.phase == PodPhase::Succeeded);
        self.done.extend(succeeded.map(|(index, _)| index));
        self.succeeded = u32::try_from(self.done.len()).unwrap_or(u32::MAX);
        let Some(limit) = job.limit_per_index else { return };
        let failed = || tracked().filter(|(_, pod)| has_failed(job, pod));
        let is_lost = |pod: &Pod| match policy::judge(job, pod).map(|it| it.action) {
            Some(FailureAction::FailIndex) => true,
            Some(FailureAction::Ignore) => false,
            _ => annotated(pod, FAILURES) >= limit,
        };
        self.lost.extend(failed().filter(|(_, pod)| is_lost(pod)).map(|(index, _)| index));
        let active: BTreeSet<_> =
            self.active.iter().filter_map(|pod| index(pod, job.completions)).collect();
        for (index, pod) in failed() {
            if [&self.done, &self.lost, &active].iter().any(|numbers| numbers.contains(&index)) {
                continue;
            }
            let later = |other: &&Pod| (failures(other), other.ended) <= (failures(pod), pod.ended);
            if self.waiting.get(&index).is_none_or(later) {
                self.waiting.insert(index, pod);
            }
        }
    }
}

/// In no number of the status and in no list of it.
fn is_new(job: &Job, pod: &Pod) -> bool {
    let is_listed = |list| job.uncounted(list).contains(&&*pod.base.meta.uid);
    pod.tracked.is_some()
        && !is_listed("succeeded")
        && !is_listed("failed")
        && (!job.indexed || index(pod, job.completions).is_some())
}

/// A pod on its way out counts as failed, unless its end is waited for.
pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pod.base.phase {
        PodPhase::Failed => true,
        PodPhase::Succeeded => false,
        _ => pod.base.meta.terminating && !job.replaces_ended_only,
    }
}

pub(super) fn annotated(pod: &Pod, name: &str) -> u32 {
    pod.base.meta.annotations.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Of its number before it, whether they counted or not.
pub(super) fn failures(pod: &Pod) -> u32 {
    annotated(pod, FAILURES) + annotated(pod, IGNORED)
}
