//! Names that many objects share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// A name as one value for all who ask for it: a cluster's hundred thousand endpoints are on few nodes, in few zones and
/// few namespaces.
///
/// Nothing but memory depends on it: equal names are equal, shared or not. Names that nobody holds any more are
/// forgotten.
pub(crate) fn shared(name: &str) -> Arc<str> {
    // Written by all who parse objects, on whatever thread.
    static NAMES: Mutex<Names> = Mutex::new(Names { known: BTreeSet::new(), enough: 1024 });
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).shared(name)
}

struct Names {
    known: BTreeSet<Arc<str>>,
    /// When there are so many it is time to see which ones are still in use.
    enough: usize,
}

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        if self.known.len() >= self.enough {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.enough = (self.known.len() * 2).max(1024);
        }
        let new: Arc<str> = name.into();
        self.known.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_and_forgotten() {
        let mut names = Names { known: BTreeSet::new(), enough: 2 };
        let held = names.shared("held");
        assert!(Arc::ptr_eq(&held, &names.shared("held")));
        drop(names.shared("dropped"));
        names.shared("other");
        let known: Vec<_> = names.known.iter().map(|name| &**name).collect();
        assert_eq!(known, ["held", "other"]);
    }
}
