//! Finding objects without looking at all of them.

use model::{ObjectKey, Selector};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// From a key to a set of values; empty sets are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index<K, V>(BTreeMap<K, BTreeSet<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Index(BTreeMap::new())
    }
}

impl<K: Ord, V: Ord> Index<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(crate) fn remove(&mut self, key: &K, value: &V) {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(crate) fn of<Q>(&self, key: &Q) -> impl Iterator<Item = &V> + use<'_, K, V, Q>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.get(key).into_iter().flatten()
    }

    pub(crate) fn count<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.get(key).map_or(0, BTreeSet::len)
    }
}

/// A label in a namespace.
type Label = (Arc<str>, String, String);

/// Objects by each of the labels they have or ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labelled(Index<Label, ObjectKey>);

impl Labelled {
    pub(crate) fn insert(&mut self, key: &ObjectKey, labels: &BTreeMap<String, String>) {
        for label in labels_in(&key.namespace, labels) {
            self.0.insert(label, key.clone());
        }
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey, labels: &BTreeMap<String, String>) {
        for label in labels_in(&key.namespace, labels) {
            self.0.remove(&label, key);
        }
    }

    /// Those of the namespace that have at least one of these labels.
    pub(crate) fn any_of(
        &self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> BTreeSet<ObjectKey> {
        let found = labels_in(namespace, labels).flat_map(|label| self.0.of(&label));
        found.cloned().collect()
    }

    /// The fewest that are sure to hold all that the selector of a Service matches.
    pub(crate) fn candidates(
        &self,
        namespace: &Arc<str>,
        selector: &Selector,
    ) -> impl Iterator<Item = &ObjectKey> {
        let rarest =
            labels_in(namespace, &selector.match_labels()).min_by_key(|label| self.0.count(label));
        rarest.into_iter().flat_map(|label| self.0.of(&label))
    }
}

fn labels_in(
    namespace: &Arc<str>,
    labels: &BTreeMap<String, String>,
) -> impl Iterator<Item = Label> {
    labels.iter().map(|(name, value)| (namespace.clone(), name.clone(), value.clone()))
}
