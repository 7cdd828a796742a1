//! Names that many objects share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// A name as one value for all who ask for it: a cluster's hundred thousand endpoints are on few nodes, in few zones and
/// few namespaces.
pub(crate) fn shared(name: &str) -> Arc<str> {
    // Written by all who parse objects, on whatever thread.
    static NAMES: Mutex<Shared<str>> = Mutex::new(Shared::NONE);
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).get(name, || name.into())
}

/// Values of which all who ask for an equal one get the same.
///
/// Nothing but memory depends on it. Those that nobody holds any more are forgotten.
pub(crate) struct Shared<T: ?Sized> {
    known: BTreeSet<Arc<T>>,
    /// When there are so many it is time to see which ones are still in use.
    enough: usize,
}

impl<T: Ord + ?Sized> Shared<T> {
    pub(crate) const NONE: Self = Shared { known: BTreeSet::new(), enough: 1024 };

    pub(crate) fn get(&mut self, value: &T, new: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() >= self.enough {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.enough = (self.known.len() * 2).max(1024);
        }
        let new = new();
        self.known.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_and_forgotten() {
        let mut names = Shared::<str> { known: BTreeSet::new(), enough: 2 };
        let mut shared = |name: &str| names.get(name, || name.into());
        let held = shared("held");
        assert!(Arc::ptr_eq(&held, &shared("held")));
        drop(shared("dropped"));
        shared("other");
        let known: Vec<_> = names.known.iter().map(|name| &**name).collect();
        assert_eq!(known, ["held", "other"]);
    }
}
