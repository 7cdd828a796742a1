//! The recent history of one kind.
//!
//! The store writes it and watchers read it under a lock of its own, which is held for no longer than that takes: no
//! watcher waits for a write to be decided, and none makes a write wait for what it sends.

use super::{Key, Object};
use crate::error::Error;
use crate::resources::Resource;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// So many events keep the trees of their objects, for watchers that keep up.
const WARM: usize = 64;
/// What one reader gets at once, in bytes: it holds that much until its client has taken it.
const READ: usize = 1 << 20;

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
    pub(crate) key: Key,
    /// The new state, or the last one of a deleted object.
    pub(crate) object: Arc<Object>,
    /// The state before, which decides what a selecting watcher sees of the change.
    pub(crate) previous: Option<Arc<Object>>,
    /// What watchers are sent of it; written by the first of those who are sent the same. The latest events alone
    /// keep it, as they do their trees.
    lines: Mutex<Vec<(Output, Bytes)>>,
}

/// What a watcher sees of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) form: &'static Resource,
    /// The object, not only its metadata.
    pub(crate) whole: bool,
    pub(crate) protobuf: bool,
    pub(crate) action: Action,
}

impl PartialEq for Output {
    fn eq(&self, other: &Self) -> bool {
        // A definition that changed has other forms of the same name.
        std::ptr::eq(self.form, other.form)
            && (self.whole, self.protobuf, self.action)
                == (other.whole, other.protobuf, other.action)
    }
}

impl Event {
    pub(super) fn new(
        revision: u64,
        action: Action,
        key: Key,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) -> Self {
        Self { revision, action, key, object, previous, lines: Mutex::default() }
    }

    /// The line for those who see this of it, made by the first of them.
    pub(crate) fn line(&self, output: Output, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, line)) = lines.iter().find(|(known, _)| *known == output) {
            return line.clone();
        }
        let line = make();
        lines.push((output, line.clone()));
        line
    }

    /// About what it takes in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.object.size() + self.previous.as_ref().map_or(0, |it| it.size()) + size_of::<Self>()
    }

    fn map(&self, change: impl Fn(&Arc<Object>) -> Arc<Object>) -> Arc<Self> {
        let (key, previous) = (self.key.clone(), self.previous.as_ref().map(&change));
        Arc::new(Self::new(self.revision, self.action, key, change(&self.object), previous))
    }
}

/// A kind's history, shared by the store, which alone adds to it, and all who follow it.
#[derive(Debug)]
pub(crate) struct Log(RwLock<Past>);

impl Log {
    /// A log that knows of nothing up to `forgotten`; the last write was `latest`.
    pub(super) fn new(forgotten: u64, latest: u64, capacity: usize) -> Self {
        let events = VecDeque::new();
        Self(RwLock::new(Past { events, capacity, forgotten, latest, size: 0 }))
    }

    /// Number of the kind's last write; 0 before the first.
    pub(crate) fn latest(&self) -> u64 {
        self.read().latest
    }

    /// What the events take together, in bytes.
    pub(super) fn size(&self) -> usize {
        self.read().size
    }

    /// Adds an event; how many bytes were forgotten for it.
    pub(super) fn push(&self, event: Event) -> usize {
        self.write().push(event)
    }

    /// Drops the oldest event; how many bytes that gives.
    pub(super) fn forget(&self) -> usize {
        self.write().forget()
    }

    /// The next events after write number `since` up to `until`, oldest first, at most `limit` and about as many as
    /// fit into 1 MiB.
    pub(crate) fn after(
        &self,
        since: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, Error> {
        self.read().after(since, until, limit)
    }

    fn read(&self) -> RwLockReadGuard<'_, Past> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Past> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events in the order of their numbers, the oldest dropped when there are too many.
#[derive(Debug)]
struct Past {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// All events after this number are still here.
    forgotten: u64,
    latest: u64,
    size: usize,
}

impl Past {
    fn push(&mut self, event: Event) -> usize {
        let freed = if self.events.len() >= self.capacity { self.forget() } else { 0 };
        self.latest = event.revision;
        self.size += event.size();
        self.events.push_back(Arc::new(event));
        if let Some(old) = self.events.len().checked_sub(WARM + 1) {
            self.events[old] = self.events[old].map(|object| Arc::new(object.cooled()));
        }
        freed
    }

    fn forget(&mut self) -> usize {
        let Some(dropped) = self.events.pop_front() else { return 0 };
        self.forgotten = dropped.revision;
        self.size -= dropped.size();
        dropped.size()
    }

    fn after(&self, since: u64, until: u64, limit: usize) -> Result<Vec<Arc<Event>>, Error> {
        if since < self.forgotten {
            let message = format!("too old resource version: {since} ({})", self.forgotten);
            return Err(Error::Expired { message });
        }
        let first = self.events.partition_point(|event| event.revision <= since);
        let warm = self.events.len().saturating_sub(WARM);
        let mut read = 0;
        let events = self.events.range(first..).take_while(|event| event.revision <= until);
        let events = events.take(limit).take_while(|event| {
            let room = read < READ;
            read += event.size();
            room
        });
        let hand = |(index, event): (usize, &Arc<Event>)| {
            if first + index < warm { event.map(Object::handed) } else { event.clone() }
        };
        Ok(events.enumerate().map(hand).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{FORMS, Kind};
    use serde_json::json;
    use std::cell::Cell;

    #[test]
    fn a_line_is_made_once_for_all_who_see_the_same() {
        let made = Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Bytes::from(format!("line {}", made.get()))
        };
        let object = Arc::new(Object::unsaved(json!({})));
        let event = Event::new(1, Action::Added, Key::new("", "a"), object, None);
        let output = Output {
            form: Kind::Event.resource(),
            whole: true,
            protobuf: false,
            action: Action::Added,
        };
        let first = event.line(output, make);
        assert_eq!(event.line(output, make).as_ptr(), first.as_ptr(), "the same bytes, no copy");
        for other in [
            Output { form: &FORMS[0], ..output },
            Output { whole: false, ..output },
            Output { protobuf: true, ..output },
            Output { action: Action::Deleted, ..output },
        ] {
            assert_ne!(event.line(other, make), first);
        }
        assert_eq!(made.get(), 5);
        let cold = event.map(|object| Arc::new(object.cooled()));
        assert_eq!(cold.line(output, make), "line 6", "old events keep no lines");
    }
}
