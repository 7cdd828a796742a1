//! Objects and their history, in memory: no clock, no lock, no I/O.
//!
//! The store numbers writes, remembers the latest of each kind for watchers, and keeps the indexes that deletion
//! needs. What a write *means* (defaults, conflicts, finalizers) is decided in `registry`.

mod log;

use log::Log;
pub(crate) use log::{Action, Event};

use crate::error::Error;
use crate::resources::{Kind, RESOURCES, Resource};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

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

/// A stored object: never changed, only replaced.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) value: Value,
    json: OnceLock<Bytes>,
}

impl Object {
    fn new(value: Value) -> Self {
        Self { value, json: OnceLock::new() }
    }

    /// An object as it would be: the answer to a dry run.
    #[must_use]
    pub(crate) fn unsaved(value: Value) -> Self {
        Self::new(value)
    }

    /// The object as JSON text, encoded once for all who ask.
    #[must_use]
    pub(crate) fn json(&self) -> Bytes {
        self.json.get_or_init(|| self.value.to_string().into()).clone()
    }

    /// `metadata.uid`
    #[must_use]
    pub(crate) fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
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
    log: Log,
}

impl Table {
    fn new(revision: u64, history: usize) -> Self {
        Self { objects: BTreeMap::new(), log: Log::new(revision, history) }
    }
}

/// All objects of all kinds.
#[derive(Debug)]
pub(crate) struct Store {
    revision: u64,
    tables: BTreeMap<Kind, Table>,
    history: usize,
    /// The number before the first write.
    first: u64,
    /// uid of an owner → who names it in `ownerReferences`.
    dependents: BTreeMap<String, BTreeSet<(Kind, Key)>>,
    /// Where the objects that exist are, by uid.
    living: BTreeMap<String, (Kind, Key)>,
    changes: VecDeque<Change>,
}

impl Store {
    /// An empty store whose first write gets the number after `revision`, with `history` events kept per kind.
    #[must_use]
    pub(crate) fn new(revision: u64, history: usize) -> Self {
        let table = |resource: &Resource| (resource.kind, Table::new(revision, history));
        Self {
            revision,
            tables: RESOURCES.iter().map(table).collect(),
            history,
            first: revision,
            dependents: BTreeMap::new(),
            living: BTreeMap::new(),
            changes: VecDeque::new(),
        }
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
    pub(crate) fn get(&self, kind: Kind, key: &Key) -> Option<&Arc<Object>> {
        self.tables.get(&kind)?.objects.get(key)
    }

    /// The kind's objects in the order of their keys: of one namespace or all, after a key or from the start.
    pub(crate) fn list<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Object>)> {
        let start = match (after, namespace) {
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(namespace)) => Bound::Included(Key::new(namespace, "")),
            (None, None) => Bound::Unbounded,
        };
        let table = self.tables.get(&kind).into_iter();
        let objects =
            table.flat_map(move |table| table.objects.range((start.clone(), Bound::Unbounded)));
        objects.take_while(move |(key, _)| {
            namespace.is_none_or(|namespace| key.namespace == namespace)
        })
    }

    /// The kind's next events after write number `since`, oldest first, at most `limit`.
    pub(crate) fn events(
        &self,
        kind: Kind,
        since: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, Error> {
        self.tables.get(&kind).map_or(Ok(Vec::new()), |table| table.log.after(since, limit))
    }

    #[must_use]
    pub(crate) fn is_living(&self, uid: &str) -> bool {
        self.living.contains_key(uid)
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
        self.record(kind, action, new.clone(), old.clone());
        if let Some(old) = &old {
            self.unindex(kind, &key, old);
        }
        self.index(kind, &key, &new);
        self.changes.push_back(Change { kind, key, old, new: Some(new.clone()) });
        new
    }

    /// Removes an object; its last state carries the number of this write.
    pub(crate) fn remove(&mut self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        let old = self.table_mut(kind).objects.remove(key)?;
        self.revision += 1;
        let mut value = old.value.clone();
        stamp(&mut value, self.revision);
        let last = Arc::new(Object::new(value));
        self.record(kind, Action::Deleted, last.clone(), Some(old.clone()));
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
        action: Action,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) {
        let event = Event { revision: self.revision, action, object, previous };
        self.table_mut(kind).log.push(event);
    }

    fn index(&mut self, kind: Kind, key: &Key, object: &Object) {
        self.living.insert(object.uid().to_owned(), (kind, key.clone()));
        for owner in owners(object) {
            self.dependents.entry(owner.to_owned()).or_default().insert((kind, key.clone()));
        }
    }

    fn unindex(&mut self, kind: Kind, key: &Key, object: &Object) {
        self.living.remove(object.uid());
        for owner in owners(object) {
            let Some(dependents) = self.dependents.get_mut(owner) else { continue };
            dependents.remove(&(kind, key.clone()));
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// A custom kind's table begins with its first object.
    fn table_mut(&mut self, kind: Kind) -> &mut Table {
        let (first, history) = (self.first, self.history);
        self.tables.entry(kind).or_insert_with(|| Table::new(first, history))
    }
}

fn owners(object: &Object) -> impl Iterator<Item = &str> {
    let references = object.value["metadata"]["ownerReferences"].as_array();
    references.into_iter().flatten().filter_map(|reference| reference["uid"].as_str())
}

fn stamp(value: &mut Value, revision: u64) {
    value["metadata"]["resourceVersion"] = revision.to_string().into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What a watcher knows: the resource version of each name.
    type View = BTreeMap<String, String>;

    fn apply(view: &mut View, event: &Event) {
        let metadata = &event.object.value["metadata"];
        let name = metadata["name"].as_str().unwrap().to_owned();
        match event.action {
            Action::Deleted => assert!(view.remove(&name).is_some(), "deleted what was not there"),
            Action::Added => {
                assert_eq!(view.insert(name, metadata["resourceVersion"].to_string()), None)
            }
            Action::Modified => {
                assert!(view.insert(name, metadata["resourceVersion"].to_string()).is_some())
            }
        }
    }

    fn now(store: &Store) -> View {
        let version = |(key, object): (&Key, &Arc<Object>)| {
            (key.name.clone(), object.value["metadata"]["resourceVersion"].to_string())
        };
        store.list(Kind::Pod, None, None).map(version).collect()
    }

    proptest! {
        /// Watchers that read at any moments, in pieces of any size, see one and the same history.
        #[test]
        fn every_watcher_sees_the_same_history(
            writes in prop::collection::vec((0_u8..5, any::<bool>(), 0_usize..4, 1_usize..4), 1..120),
        ) {
            let mut store = Store::new(1000, 10_000);
            let mut watchers: Vec<(u64, View, Vec<u64>)> = vec![(1000, View::new(), Vec::new()); 4];
            let read = |store: &Store, watcher: &mut (u64, View, Vec<u64>), limit: usize| {
                for event in store.events(Kind::Pod, watcher.0, limit).unwrap() {
                    apply(&mut watcher.1, &event);
                    watcher.2.push(event.revision);
                    watcher.0 = event.revision;
                }
            };
            for (name, remove, reader, limit) in writes {
                let key = Key::new("default", &format!("p{name}"));
                if remove {
                    store.remove(Kind::Pod, &key);
                } else {
                    store.put(Kind::Pod, key.clone(), json!({"metadata": {"name": key.name}}));
                }
                store.put(Kind::Node, Key::new("", "n"), json!({"metadata": {"name": "n"}}));
                read(&store, &mut watchers[reader], limit);
            }
            for watcher in &mut watchers {
                read(&store, watcher, usize::MAX);
                prop_assert_eq!(&watcher.1, &now(&store));
            }
            prop_assert!(watchers.iter().all(|watcher| watcher.2 == watchers[0].2));
        }

        /// A watcher that comes back either continues without a gap or is told to list again.
        #[test]
        fn a_resumed_watch_misses_nothing(
            writes in prop::collection::vec((0_u8..5, any::<bool>()), 1..80),
            pause in 0_usize..40,
        ) {
            let mut store = Store::new(0, 8);
            let (mut cursor, mut view) = (0, View::new());
            for (index, (name, remove)) in writes.into_iter().enumerate() {
                let key = Key::new("default", &format!("p{name}"));
                if remove {
                    store.remove(Kind::Pod, &key);
                } else {
                    store.put(Kind::Pod, key.clone(), json!({"metadata": {"name": key.name}}));
                }
                if index % (pause + 1) != 0 {
                    continue;
                }
                match store.events(Kind::Pod, cursor, usize::MAX) {
                    Ok(events) => events.iter().for_each(|event| apply(&mut view, event)),
                    Err(Error::Expired { .. }) => view = now(&store),
                    Err(error) => panic!("{error}"),
                }
                cursor = store.revision();
                prop_assert_eq!(&view, &now(&store));
            }
        }
    }

    #[test]
    fn lists_one_namespace_in_pieces() {
        let mut store = Store::new(0, 8);
        for (namespace, name) in [("a", "x"), ("b", "x"), ("b", "y"), ("c", "x")] {
            store.put(Kind::Pod, Key::new(namespace, name), json!({"metadata": {}}));
        }
        let names = |namespace, after: Option<&Key>| -> Vec<String> {
            let listed = store.list(Kind::Pod, namespace, after);
            listed.map(|(key, _)| format!("{}/{}", key.namespace, key.name)).collect()
        };
        assert_eq!(names(Some("b"), None), ["b/x", "b/y"]);
        assert_eq!(names(None, Some(&Key::new("b", "x"))), ["b/y", "c/x"]);
        assert_eq!(names(Some("b"), Some(&Key::new("b", "y"))), [""; 0]);
    }
}
