//! The recent history of one kind.

use super::{Key, Object};
use crate::error::Error;
use crate::resources::Resource;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

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
    pub(crate) action: Action,
}

impl PartialEq for Output {
    fn eq(&self, other: &Self) -> bool {
        // A definition that changed has other forms of the same name.
        std::ptr::eq(self.form, other.form)
            && (self.whole, self.action) == (other.whole, other.action)
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
        let output = Output { form: Kind::Event.resource(), whole: true, action: Action::Added };
        let first = event.line(output, make);
        assert_eq!(event.line(output, make).as_ptr(), first.as_ptr(), "the same bytes, no copy");
        for other in [
            Output { form: &FORMS[0], ..output },
            Output { whole: false, ..output },
            Output { action: Action::Deleted, ..output },
        ] {
            assert_ne!(event.line(other, make), first);
        }
        assert_eq!(made.get(), 4);
        let cold = event.map(|object| Arc::new(object.cooled()));
        assert_eq!(cold.line(output, make), "line 5", "old events keep no lines");
    }
}
