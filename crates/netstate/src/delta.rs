//! The difference between two rule tables, in the order in which one transaction can make it.

use crate::nft::{Chain, Element, Key, Set, Table};
use std::collections::BTreeMap;

/// How one table becomes another. Empty: nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDelta {
    /// Chains to make, to give other rules, or (`None`) to delete.
    pub chains: BTreeMap<String, Option<Chain>>,
    /// Sets to make (their elements are in `elements`) or (`None`) to delete.
    pub sets: BTreeMap<String, Option<Set>>,
    /// By set, the elements that change.
    pub elements: BTreeMap<String, BTreeMap<Key, ElementChange>>,
}

/// An element before and after; `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementChange {
    pub before: Option<Element>,
    pub after: Option<Element>,
}

impl TableDelta {
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }

    /// Notes a change of one element; a change back to what it was leaves nothing.
    pub fn element(
        &mut self,
        set: &str,
        key: Key,
        before: Option<Element>,
        after: Option<Element>,
    ) {
        if !self.elements.contains_key(set) {
            self.elements.insert(set.to_owned(), BTreeMap::new());
        }
        let Some(changes) = self.elements.get_mut(set) else { return };
        let change = changes.entry(key).or_insert(ElementChange { before, after: None });
        change.after = after;
        if change.before == change.after {
            changes.remove(&key);
        }
        if changes.is_empty() {
            self.elements.remove(set);
        }
    }

    /// What makes `wanted` out of `observed`; a set of another shape is deleted and made anew.
    pub fn between(observed: Option<&Table>, wanted: &Table) -> Self {
        let mut delta = TableDelta::default();
        let old_chains = observed.map(|table| &table.chains);
        let old_sets = observed.map(|table| &table.sets);
        for (name, chain) in &wanted.chains {
            if old_chains.and_then(|chains| chains.get(name)) != Some(chain) {
                delta.chains.insert(name.clone(), Some(chain.clone()));
            }
        }
        for name in old_chains.into_iter().flat_map(BTreeMap::keys) {
            if !wanted.chains.contains_key(name) {
                delta.chains.insert(name.clone(), None);
            }
        }
        for (name, set) in &wanted.sets {
            let old = old_sets.and_then(|sets| sets.get(name));
            delta.set(name, old, set);
        }
        for name in old_sets.into_iter().flat_map(BTreeMap::keys) {
            if !wanted.sets.contains_key(name) {
                delta.sets.insert(name.clone(), None);
            }
        }
        delta
    }

    fn set(&mut self, name: &str, old: Option<&Set>, wanted: &Set) {
        let old = old.filter(|old| old.same_shape(wanted));
        if old.is_none() {
            let empty = Set { elements: BTreeMap::new(), ..wanted.clone() };
            self.sets.insert(name.to_owned(), Some(empty));
        }
        let none = BTreeMap::new();
        let old = old.map_or(&none, |old| &old.elements);
        for (key, element) in &wanted.elements {
            let before = old.get(key);
            if before != Some(element) {
                self.element(name, *key, before.cloned(), Some(element.clone()));
            }
        }
        for (key, element) in old {
            if !wanted.elements.contains_key(key) {
                self.element(name, *key, Some(element.clone()), None);
            }
        }
    }
}
