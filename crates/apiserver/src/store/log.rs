//! The recent history of one kind.

use super::Object;
use crate::error::Error;
use std::collections::VecDeque;
use std::sync::Arc;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Added,
    Modified,
    Deleted,
}

/// A write, as watchers learn of it.
#[derive(Debug)]
pub(crate) struct Event {
    /// Number of the write.
    pub(crate) revision: u64,
    pub(crate) action: Action,
    /// The new state, or the last one of a deleted object.
    pub(crate) object: Arc<Object>,
    /// The state before, which decides what a selecting watcher sees of the change.
    pub(crate) previous: Option<Arc<Object>>,
}

/// Events in the order of their numbers, the oldest dropped when there are too many.
#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// All events after this number are still here.
    forgotten: u64,
}

impl Log {
    pub(super) fn new(revision: u64, capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity, forgotten: revision }
    }

    pub(super) fn latest(&self) -> u64 {
        self.events.back().map_or(0, |event| event.revision)
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() >= self.capacity
            && let Some(dropped) = self.events.pop_front()
        {
            self.forgotten = dropped.revision;
        }
        self.events.push_back(Arc::new(event));
    }

    pub(super) fn after(&self, since: u64, limit: usize) -> Result<Vec<Arc<Event>>, Error> {
        if since < self.forgotten {
            let message = format!("too old resource version: {since} ({})", self.forgotten);
            return Err(Error::Expired { message });
        }
        let first = self.events.partition_point(|event| event.revision <= since);
        Ok(self.events.range(first..).take(limit).cloned().collect())
    }
}
