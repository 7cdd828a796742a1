//! What several things share, and whether any of them still needs it.

use std::collections::{BTreeMap, BTreeSet};

/// How often something is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage<T>(BTreeMap<T, usize>);

impl<T> Default for Usage<T> {
    fn default() -> Self {
        Usage(BTreeMap::new())
    }
}

impl<T: Ord> Usage<T> {
    pub(crate) fn take(&mut self, item: T) {
        *self.0.entry(item).or_default() += 1;
    }

    pub(crate) fn release(&mut self, item: &T) {
        if let Some(count) = self.0.get_mut(item) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(item);
            }
        }
    }

    pub(crate) fn has(&self, item: &T) -> bool {
        self.0.contains_key(item)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }
}

impl<T: Ord + Copy> Usage<T> {
    pub(crate) fn set(&self) -> BTreeSet<T> {
        self.0.keys().copied().collect()
    }
}
