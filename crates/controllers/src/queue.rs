//! The work that is due and the work that waits for its time.

use crate::task::Task;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait after a failure, the first being number 0.
pub(crate) fn backoff(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST)
}

/// Each task is in it at most once as due and once as waiting. Times are durations since the start.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    due: BTreeSet<Task>,
    waiting: BTreeSet<(Duration, Task)>,
    times: BTreeMap<Task, Duration>,
    failures: BTreeMap<Task, u32>,
}

impl Queue {
    /// The task is due, unless it failed and its wait is not over: a change is no reason to spin.
    pub(crate) fn push(&mut self, task: Task) {
        if !self.failures.contains_key(&task) {
            self.due.insert(task);
        }
    }

    /// The task is due at `time` at the latest.
    pub(crate) fn push_at(&mut self, task: Task, time: Duration) {
        match self.times.get(&task) {
            Some(earlier) if *earlier <= time => return,
            Some(later) => self.waiting.remove(&(*later, task.clone())),
            None => false,
        };
        self.times.insert(task.clone(), time);
        self.waiting.insert((time, task));
    }

    /// Takes up to `most` tasks that are due, the urgent ones first.
    pub(crate) fn take(&mut self, now: Duration, most: usize) -> Vec<Task> {
        while let Some((time, task)) = self.waiting.first().cloned() {
            if time > now {
                break;
            }
            self.waiting.remove(&(time, task.clone()));
            self.times.remove(&task);
            self.due.insert(task);
        }
        let rest = self.due.iter().nth(most).cloned();
        let rest = rest.map_or_else(BTreeSet::new, |first| self.due.split_off(&first));
        std::mem::replace(&mut self.due, rest).into_iter().collect()
    }

    pub(crate) fn succeeded(&mut self, task: &Task) {
        self.failures.remove(task);
    }

    /// Tries the task again: 10 ms later, then twice that, up to half a minute.
    pub(crate) fn failed(&mut self, task: Task, now: Duration) -> Duration {
        let failures = self.failures.entry(task.clone()).or_default();
        let wait = backoff(*failures);
        *failures += 1;
        self.push_at(task, now + wait);
        wait
    }

    /// Whatever failed may work now: the API is back.
    pub(crate) fn hurry(&mut self) {
        for task in std::mem::take(&mut self.failures).into_keys() {
            if let Some(time) = self.times.remove(&task) {
                self.waiting.remove(&(time, task.clone()));
            }
            self.due.insert(task);
        }
    }

    /// When there is something to do next; `None`: never.
    pub(crate) fn next(&self) -> Option<Duration> {
        if !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        self.waiting.first().map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> Task {
        Task::NodeLife(name.into())
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn due_once_however_often_pushed() {
        let mut queue = Queue::default();
        for name in ["c", "a", "b", "a"] {
            queue.push(task(name));
        }
        assert_eq!(queue.take(at(0), 2), [task("a"), task("b")]);
        assert_eq!(queue.take(at(0), 2), [task("c")]);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn the_earliest_time_counts() {
        let mut queue = Queue::default();
        for time in [50, 20, 90] {
            queue.push_at(task("a"), at(time));
        }
        assert_eq!(queue.next(), Some(at(20)));
        assert_eq!(queue.take(at(19), 9), []);
        assert_eq!(queue.take(at(20), 9), [task("a")]);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_failed_task_waits_longer_each_time_whatever_is_pushed() {
        let mut queue = Queue::default();
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..13 {
            let wait = queue.failed(task("a"), now);
            queue.push(task("a"));
            assert_eq!(queue.next(), Some(now + wait));
            waits.push(wait.as_millis());
            now += wait;
            assert_eq!(queue.take(now, 9), [task("a")]);
        }
        assert_eq!(waits[..4], [10, 20, 40, 80]);
        assert_eq!(waits[12], 30_000);
        queue.succeeded(&task("a"));
        queue.push(task("a"));
        assert_eq!(queue.next(), Some(Duration::ZERO));
    }

    #[test]
    fn when_the_api_is_back_nothing_waits() {
        let mut queue = Queue::default();
        queue.failed(task("a"), at(0));
        queue.push_at(task("b"), at(50));
        queue.hurry();
        assert_eq!(queue.take(at(0), 9), [task("a")]);
        assert_eq!(queue.next(), Some(at(50)));
    }
}
