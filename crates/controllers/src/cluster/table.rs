//! Objects of one kind, by name and by who owns them.

use super::index::Index;
use crate::record::Owner;
use model::{Meta, ObjectKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the cluster keeps in a [`Table`].
pub(crate) trait Row: PartialEq {
    fn meta(&self) -> &Meta;
    /// `metadata.resourceVersion`.
    fn version(&self) -> u64;
    fn owner(&self) -> Option<&Owner>;
}

#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: BTreeMap<ObjectKey, T>,
    /// By the uid of the owner.
    owned: Index<String, ObjectKey>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: BTreeMap::new(), owned: Index::default() }
    }
}

impl<T: Row> Table<T> {
    /// Takes the object in; false: it is the one that is known, or older.
    pub(super) fn put(&mut self, row: T) -> bool {
        let key = row.meta().key.clone();
        if self.rows.get(&key).is_some_and(|old| old.version() > row.version() || *old == row) {
            return false;
        }
        self.remove(&key);
        if let Some(owner) = row.owner() {
            self.owned.insert(owner.uid.clone(), key.clone());
        }
        self.rows.insert(key, row);
        true
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<T> {
        let row = self.rows.remove(key)?;
        if let Some(owner) = row.owner() {
            self.owned.remove(&owner.uid, key);
        }
        Some(row)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.rows.get(key)
    }

    /// In order of their names.
    pub(crate) fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a T> {
        self.owned.of(uid).filter_map(|key| self.rows.get(key))
    }

    /// In order of their names.
    pub(super) fn in_namespace<'a>(&'a self, namespace: &Arc<str>) -> impl Iterator<Item = &'a T> {
        in_namespace(&self.rows, namespace)
    }

    pub(super) fn keys(&self) -> Vec<ObjectKey> {
        self.rows.keys().cloned().collect()
    }
}

/// Those of a map that are in the namespace, in order of their names.
pub(super) fn in_namespace<'a, T>(
    rows: &'a BTreeMap<ObjectKey, T>,
    namespace: &Arc<str>,
) -> impl Iterator<Item = &'a T> {
    let first = ObjectKey { namespace: namespace.clone(), name: "".into() };
    let rest = rows.range(first.clone()..);
    rest.take_while(move |(key, _)| key.namespace == first.namespace).map(|(_, row)| row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Revision;
    use serde_json::json;

    fn revision(name: &str, owner: &str, version: u64) -> Revision {
        Revision::parse(&json!({
            "metadata": {
                "name": name, "namespace": "default", "resourceVersion": version.to_string(),
                "ownerReferences":
                    [{"kind": "StatefulSet", "name": owner, "uid": owner, "controller": true}],
            },
            "revision": version,
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_counts_and_the_owner_finds_it() {
        let mut table = Table::default();
        let versions = |table: &Table<Revision>, owner: &str| {
            table.owned_by(owner).map(|row| row.version).collect::<Vec<_>>()
        };
        assert!(table.put(revision("a", "x", 2)));
        assert!(!table.put(revision("a", "x", 2)), "nothing new");
        assert!(!table.put(revision("a", "x", 1)), "late news");
        assert!(table.put(revision("b", "x", 5)));
        assert_eq!(versions(&table, "x"), [2, 5]);
        assert!(table.put(revision("a", "y", 6)));
        assert_eq!((versions(&table, "x"), versions(&table, "y")), (vec![5], vec![6]));
        assert!(table.remove(&ObjectKey::new("default", "b")).is_some());
        assert_eq!(versions(&table, "x"), Vec::<u64>::new());
        assert_eq!(table.keys(), [ObjectKey::new("default", "a")]);
    }
}
