//! A map that forgets what was not asked for longest.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    /// With the number of its last use.
    entries: BTreeMap<K, (u64, V)>,
    uses: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Recent { most, entries: BTreeMap::new(), uses: BTreeMap::new(), next: 0 }
    }

    /// The value of a key, made where there is none.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if let Some((used, _)) = self.entries.get(&key) {
            self.uses.remove(used);
        } else if self.entries.len() >= self.most
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.next += 1;
        self.uses.insert(self.next, key.clone());
        let next = self.next;
        let (used, value) = self.entries.entry(key).or_insert_with(|| (next, make()));
        *used = next;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_longest_goes_first() {
        let mut recent = Recent::new(2);
        for (key, expected) in
            [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3), ("b", 1), ("c", 1)]
        {
            let count = recent.entry(key, || 0);
            *count += 1;
            assert_eq!(*count, expected, "{key}");
        }
    }
}
