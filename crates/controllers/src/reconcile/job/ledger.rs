//! Counting each pod exactly once, whatever happens in between.
//!
//! ```text
//!   ended ──► its uid in a list of the status ──► finalizer away ──► uid off the list, the number one higher
//!             (or its index among those done)
//! ```
//!
//! Each step is one look at the Job, and only what the API has taken counts as done.

use super::count::{Count, has_failed};
use super::indices::index;
use super::policy::counts;
use super::untrack;
use super::verdict::{End, Verdict};
use crate::record::{Job, Pod};
use crate::write::Write;
use model::PodPhase;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// So many pods at most are between two numbers, so that a status stays small.
const MOST: usize = 500;

pub(super) struct Ledger<'a> {
    /// Uids that are to be listed.
    succeeded: Vec<String>,
    failed: Vec<String>,
    /// To be added to the numbers: they were listed, and have no finalizer any more.
    more_succeeded: usize,
    more_failed: usize,
    /// Pods that the status knows of, or that do not matter.
    release: Vec<&'a Pod>,
}

impl<'a> Ledger<'a> {
    pub(super) fn of(
        job: &Job,
        pods: &[&'a Pod],
        count: &Count<'_>,
        verdict: Option<&Verdict>,
    ) -> Self {
        let tracked = || pods.iter().copied().filter(|pod| pod.tracked.is_some());
        let open: BTreeSet<_> = tracked().map(|pod| &*pod.base.meta.uid).collect();
        let split = |list| job.uncounted(list).into_iter().partition(|uid| open.contains(uid));
        let (succeeded, gone_succeeded): (Vec<_>, Vec<_>) = split("succeeded");
        let (failed, gone_failed): (Vec<_>, Vec<_>) = split("failed");
        let own = |uids: Vec<&str>| uids.into_iter().map(str::to_owned).collect();
        let mut ledger = Ledger {
            succeeded: own(succeeded),
            failed: own(failed),
            more_succeeded: gone_succeeded.len(),
            more_failed: gone_failed.len(),
            release: Vec::new(),
        };
        for pod in tracked() {
            ledger.enter(job, pod, count, verdict);
        }
        ledger
    }

    fn enter(&mut self, job: &Job, pod: &'a Pod, count: &Count<'_>, verdict: Option<&Verdict>) {
        let uid = &pod.base.meta.uid;
        let said = verdict.filter(|it| it.said).map(|it| it.end);
        let number = index(pod, job.completions);
        let is_waiting = || {
            let waiting = number.and_then(|number| count.waiting.get(&number));
            waiting.is_some_and(|it| it.base.meta.uid == *uid)
        };
        let is_listed = self.succeeded.contains(uid) || self.failed.contains(uid);
        if is_listed || (job.indexed && number.is_none() && pod.base.phase.is_over()) {
            self.release.push(pod);
        } else if pod.base.phase == PodPhase::Succeeded {
            match number.filter(|_| job.indexed) {
                Some(number) if is_done(job, number) => self.release.push(pod),
                Some(_) => {}
                None => list(&mut self.succeeded, uid),
            }
        } else if pod.base.phase != PodPhase::Failed && said == Some(End::Complete) {
            self.release.push(pod);
        } else if has_failed(job, pod) || said == Some(End::Failed) {
            if is_waiting() && verdict.is_none() {
            } else if counts(job, pod) {
                list(&mut self.failed, uid);
            } else {
                self.release.push(pod);
            }
        }
    }

    /// Nothing is between two numbers.
    pub(super) fn is_closed(&self) -> bool {
        self.succeeded.is_empty() && self.failed.is_empty() && self.release.is_empty()
    }

    pub(super) fn releases(&self) -> impl Iterator<Item = Write> {
        self.release.iter().filter_map(|pod| untrack(pod))
    }

    /// The members of the status that change.
    pub(super) fn to_status(&self, job: &Job, count: &Count<'_>) -> Map<String, Value> {
        let said = |field: &str| job.status[field].as_u64().unwrap_or(0);
        let plus = |field: &str, more: usize| said(field) + u64::try_from(more).unwrap_or(0);
        let succeeded = match job.indexed {
            true => u64::from(count.succeeded),
            false => plus("succeeded", self.more_succeeded),
        };
        let failed = plus("failed", self.more_failed);
        let mut changed = Map::new();
        let numbers = [("succeeded", succeeded), ("failed", failed)];
        let numbers = numbers.into_iter().filter(|(field, number)| said(field) != *number);
        changed.extend(numbers.map(|(field, number)| (field.to_owned(), number.into())));
        if job.status["uncountedTerminatedPods"].is_null() {
            changed.insert("uncountedTerminatedPods".to_owned(), json!({}));
        }
        let lists = [("succeeded", &self.succeeded), ("failed", &self.failed)];
        let lists = lists.into_iter().filter(|(name, uids)| job.uncounted(name) != **uids);
        for (name, uids) in lists {
            let uids = if uids.is_empty() { Value::Null } else { json!(uids) };
            changed.entry("uncountedTerminatedPods").or_insert_with(|| json!({}))[name] = uids;
        }
        changed
    }
}

fn is_done(job: &Job, number: u32) -> bool {
    let done = super::indices::numbers(job.status["completedIndexes"].as_str().unwrap_or_default());
    done.contains(&number)
}

fn list(uids: &mut Vec<String>, uid: &str) {
    if uids.len() < MOST {
        uids.push(uid.to_owned());
    }
}
