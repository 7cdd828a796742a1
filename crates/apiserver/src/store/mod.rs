//! Objects and their history, in memory, and their way to a disk.
//!
//! [`Store`] numbers writes, remembers the latest of each kind for watchers, and keeps the indexes that deletion
//! needs: no clock, no lock, no I/O. What it wrote it hands over in batches, which `journal` saves with `disk`.
//! What a write *means* (defaults, conflicts, finalizers) is decided in `registry`.

mod disk;
mod journal;
mod log;
mod object;

pub(crate) use disk::Kept;
pub use disk::{Disk, DiskError};
pub(crate) use journal::{Batch, Journal, Mark, Row, Saved};
pub(crate) use log::{Action, Event, Log, Output};
pub(crate) use object::Object;

use crate::error::Error;
use crate::resources::{Kind, RESOURCES, Resource};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Weak};

/// What recent objects' texts may come to while their trees are kept too, in bytes.
const WARM: usize = 512 << 10;

/// How much of the past is kept for watchers that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Events of each kind.
    pub events: usize,
    /// What the events of all kinds take together, in bytes; the kind that has the most forgets first.
    pub bytes: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { events: 8192, bytes: 64 << 20 }
    }
}

/// Where an object stands within its kind. The namespace of a cluster-wide object is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    #[must_use]
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// A write that happened: what was there, what is there now.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Object>>,
    pub(crate) new: Option<Arc<Object>>,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<Key, Arc<Object>>,
    log: Arc<Log>,
}

impl Table {
    fn new(forgotten: u64, latest: u64, history: History) -> Self {
        let log = Arc::new(Log::new(forgotten, latest, history.events));
        Self { objects: BTreeMap::new(), log }
    }
}

/// All objects of all kinds.
#[derive(Debug)]
pub(crate) struct Store {
    revision: u64,
    tables: BTreeMap<Kind, Table>,
    history: History,
    /// What the events of all kinds take together, in bytes.
    remembered: usize,
    /// The number before the first write.
    first: u64,
    /// uid of an owner → who names it in `ownerReferences`.
    dependents: BTreeMap<String, BTreeSet<(Kind, Key)>>,
    /// Where the objects that exist are, by uid.
    living: BTreeMap<String, (Kind, Key)>,
    changes: VecDeque<Change>,
    /// What was written since the last [`Self::take_batch`].
    rows: Vec<Row>,
    /// Objects whose trees are kept, in the order of their writes, and the size of their texts.
    warm: VecDeque<(Kind, Key, Weak<Object>, usize)>,
    warm_size: usize,
}

impl Store {
    /// An empty store whose first write gets the number after `revision`.
    #[must_use]
    pub(crate) fn new(revision: u64, history: History) -> Self {
        let table = |resource: &Resource| (resource.kind, Table::new(revision, 0, history));
        Self {
            revision,
            tables: RESOURCES.iter().map(table).collect(),
            history,
            remembered: 0,
            first: revision,
            dependents: BTreeMap::new(),
            living: BTreeMap::new(),
            changes: VecDeque::new(),
            rows: Vec::new(),
            warm: VecDeque::new(),
            warm_size: 0,
        }
    }

    /// Goes on where the store of a file ended, for now without its objects.
    #[must_use]
    pub(crate) fn resumed(kept: &Kept, history: History) -> Self {
        Self { revision: kept.revision, ..Self::new(kept.first, history) }
    }

    /// Brings a kind's objects from a file. Watchers may resume after the kind's last write, number `latest`; none:
    /// there was no write yet.
    pub(crate) fn restore(
        &mut self,
        kind: Kind,
        latest: Option<u64>,
        objects: impl IntoIterator<Item = (Key, Bytes)>,
    ) {
        let table = Table::new(latest.unwrap_or(self.first), latest.unwrap_or(0), self.history);
        self.tables.insert(kind, table);
        for (key, json) in objects {
            let object = Arc::new(Object::cold(json));
            self.index(kind, &key, &object);
            self.table_mut(kind).objects.insert(key, object);
        }
    }

    /// What was written since the last time; none: nothing was.
    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(Batch { revision: self.revision, rows })
    }

    /// Number of the last write.
    #[must_use]
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Number of the kind's last write; 0 before the first.
    #[must_use]
    pub(crate) fn revision_of(&self, kind: Kind) -> u64 {
        self.tables.get(&kind).map_or(0, |table| table.log.latest())
    }

    #[must_use]
    pub(crate) fn get(&self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        self.tables.get(&kind)?.objects.get(key).map(Object::handed)
    }

    /// The kind's objects in the order of their keys: of one namespace or all, after a key or from the start.
    pub(crate) fn list<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, Arc<Object>)> {
        let start = match (after, namespace) {
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(namespace)) => Bound::Included(Key::new(namespace, "")),
            (None, None) => Bound::Unbounded,
        };
        let table = self.tables.get(&kind).into_iter();
        let objects =
            table.flat_map(move |table| table.objects.range((start.clone(), Bound::Unbounded)));
        let objects = objects.take_while(move |(key, _)| {
            namespace.is_none_or(|namespace| key.namespace == namespace)
        });
        objects.map(|(key, object)| (key, object.handed()))
    }

    /// How many objects of the kind there are.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.tables.get(&kind).map_or(0, |table| table.objects.len())
    }

    /// The kind's history, which is to be followed without the store.
    pub(crate) fn log(&mut self, kind: Kind) -> Arc<Log> {
        self.table_mut(kind).log.clone()
    }

    /// Whether all of the kind's writes after this number are still known.
    pub(crate) fn check_known(&self, kind: Kind, since: u64) -> Result<(), Error> {
        let table = self.tables.get(&kind);
        table.map_or(Ok(()), |table| table.log.after(since, since, 0).map(drop))
    }

    /// Where the object with this uid is.
    #[must_use]
    pub(crate) fn find(&self, uid: &str) -> Option<&(Kind, Key)> {
        self.living.get(uid)
    }

    /// Who names this uid as an owner.
    #[must_use]
    pub(crate) fn dependents(&self, uid: &str) -> Vec<(Kind, Key)> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Whether a namespace holds nothing.
    #[must_use]
    pub(crate) fn is_empty(&self, namespace: &str) -> bool {
        self.tables.keys().all(|kind| self.list(*kind, Some(namespace), None).next().is_none())
    }

    /// Writes an object and numbers the write in its `metadata.resourceVersion`.
    pub(crate) fn put(&mut self, kind: Kind, key: Key, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        stamp(&mut value, self.revision);
        let new = Arc::new(Object::new(value));
        let old = self.table_mut(kind).objects.insert(key.clone(), new.clone());
        let action = if old.is_some() { Action::Modified } else { Action::Added };
        self.record(kind, &key, action, new.clone(), old.clone());
        if let Some(old) = &old {
            self.unindex(kind, &key, old);
        }
        self.index(kind, &key, &new);
        self.warm_up(kind, &key, &new);
        self.changes.push_back(Change { kind, key, old, new: Some(new.clone()) });
        new
    }

    /// Removes an object; its last state carries the number of this write.
    pub(crate) fn remove(&mut self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        let mut value = self.get(kind, key)?.value.clone();
        let old = self.table_mut(kind).objects.remove(key)?;
        self.revision += 1;
        stamp(&mut value, self.revision);
        let last = Arc::new(Object::new(value));
        self.record(kind, key, Action::Deleted, last.clone(), Some(old.clone()));
        self.unindex(kind, key, &old);
        self.changes.push_back(Change { kind, key: key.clone(), old: Some(old), new: None });
        Some(last)
    }

    /// The oldest write that nobody has followed up on yet.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    fn record(
        &mut self,
        kind: Kind,
        key: &Key,
        action: Action,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) {
        let json = (action != Action::Deleted).then(|| object.json());
        self.rows.push(Row { kind, key: key.clone(), json, revision: self.revision });
        let event = Event::new(self.revision, action, key.clone(), object, previous);
        self.remembered += event.size();
        self.remembered -= self.table_mut(kind).log.push(event);
        while self.remembered > self.history.bytes
            && let Some(largest) = self.tables.values().max_by_key(|table| table.log.size())
        {
            self.remembered -= largest.log.forget();
        }
    }

    /// Keeps the tree of an object that was written just now, and lets the oldest ones go.
    fn warm_up(&mut self, kind: Kind, key: &Key, object: &Arc<Object>) {
        self.warm_size += object.size();
        self.warm.push_back((kind, key.clone(), Arc::downgrade(object), object.size()));
        while self.warm_size > WARM
            && let Some((kind, key, object, size)) = self.warm.pop_front()
        {
            self.warm_size -= size;
            let place = self.tables.get_mut(&kind).and_then(|it| it.objects.get_mut(&key));
            if let Some(place) = place.filter(|it| Weak::as_ptr(&object) == Arc::as_ptr(it)) {
                *place = Arc::new(place.cooled());
            }
        }
    }

    fn index(&mut self, kind: Kind, key: &Key, object: &Object) {
        self.living.insert(object.uid(), (kind, key.clone()));
        for owner in owners(object) {
            self.dependents.entry(owner).or_default().insert((kind, key.clone()));
        }
    }

    fn unindex(&mut self, kind: Kind, key: &Key, object: &Object) {
        self.living.remove(&object.uid());
        for owner in owners(object) {
            let Some(dependents) = self.dependents.get_mut(&owner) else { continue };
            dependents.remove(&(kind, key.clone()));
            if dependents.is_empty() {
                self.dependents.remove(&owner);
            }
        }
    }

    /// A custom kind's table begins with its first object.
    fn table_mut(&mut self, kind: Kind) -> &mut Table {
        let (first, history) = (self.first, self.history);
        self.tables.entry(kind).or_insert_with(|| Table::new(first, 0, history))
    }
}

/// The uids in `metadata.ownerReferences`.
fn owners(object: &Object) -> Vec<String> {
    let references = object.look(&["metadata", "ownerReferences"]);
    let references = references.as_array().into_iter().flatten();
    references.filter_map(|it| Some(it["uid"].as_str()?.to_owned())).collect()
}

fn stamp(value: &mut Value, revision: u64) {
    value["metadata"]["resourceVersion"] = revision.to_string().into();
}

#[cfg(test)]
mod kills;
#[cfg(test)]
mod tests;
