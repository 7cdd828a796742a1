//! What the API refuses a workload, as pods beyond a quota: it is said in the status, and tried again later.

use super::Cluster;
use crate::queue::backoff;
use crate::task::Task;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// The API's words.
    pub(crate) message: String,
    refusals: u32,
    /// Before that nothing is tried.
    until: Duration,
}

impl Trouble {
    /// How long until the next try.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

impl Cluster {
    pub(crate) fn trouble(&self, task: &Task) -> Option<&Trouble> {
        self.troubles.get(task)
    }

    /// Each further time the wait is longer. Has the status say so now.
    pub(crate) fn note_refusal(&mut self, task: Task, message: &str, now: Duration) {
        let refusals = self.troubles.get(&task).map_or(0, |trouble| trouble.refusals);
        let (message, until) = (message.to_owned(), now + backoff(refusals));
        let trouble = Trouble { message, refusals: refusals.saturating_add(1), until };
        self.troubles.insert(task.clone(), trouble);
        self.dirty.insert(task);
    }

    /// What was refused was granted.
    pub(crate) fn end_trouble(&mut self, task: &Task) {
        if self.troubles.remove(task).is_some() {
            self.dirty.insert(task.clone());
        }
    }
}
