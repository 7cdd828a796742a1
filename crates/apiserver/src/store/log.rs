//! The recent history of one kind.

use super::Object;
use crate::error::Error;
use std::collections::VecDeque;
use std::sync::Arc;

/// So many events keep the trees of their objects, for watchers that keep up.
const WARM: usize = 64;

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

impl Event {
    /// About what it takes in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.object.size() + self.previous.as_ref().map_or(0, |it| it.size()) + size_of::<Self>()
    }

    fn map(&self, change: impl Fn(&Arc<Object>) -> Arc<Object>) -> Arc<Self> {
        let (revision, action) = (self.revision, self.action);
        let previous = self.previous.as_ref().map(&change);
        Arc::new(Self { revision, action, object: change(&self.object), previous })
    }
}

/// Events in the order of their numbers, the oldest dropped when there are too many.
#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// All events after this number are still here.
    forgotten: u64,
    /// Number of the kind's last write; 0 before the first.
    latest: u64,
    /// What the events take together.
    size: usize,
}

impl Log {
    /// A log that knows of nothing up to `forgotten`; the last write was `latest`.
    pub(super) fn new(forgotten: u64, latest: u64, capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity, forgotten, latest, size: 0 }
    }

    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() >= self.capacity {
            self.forget();
        }
        self.latest = event.revision;
        self.size += event.size();
        self.events.push_back(Arc::new(event));
        if let Some(old) = self.events.len().checked_sub(WARM + 1) {
            self.events[old] = self.events[old].map(|object| Arc::new(object.cooled()));
        }
    }

    /// Drops the oldest event.
    pub(super) fn forget(&mut self) {
        if let Some(dropped) = self.events.pop_front() {
            self.forgotten = dropped.revision;
            self.size -= dropped.size();
        }
    }

    /// The events after write number `since` up to `until`, oldest first: at most `limit`, and no more after the one
    /// that fills `bytes`.
    pub(super) fn after(
        &self,
        since: u64,
        until: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Event>>, Error> {
        if since < self.forgotten {
            let message = format!("too old resource version: {since} ({})", self.forgotten);
            return Err(Error::Expired { message });
        }
        let first = self.events.partition_point(|event| event.revision <= since);
        let warm = self.events.len().saturating_sub(WARM);
        let mut read = 0;
        let events = self.events.range(first..).take_while(|event| event.revision <= until);
        let events = events.take(limit).take_while(|event| {
            let room = read < bytes;
            read += event.size();
            room
        });
        let hand = |(index, event): (usize, &Arc<Event>)| {
            if first + index < warm { event.map(Object::handed) } else { event.clone() }
        };
        Ok(events.enumerate().map(hand).collect())
    }
}
