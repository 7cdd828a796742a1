//! A cluster that was kept on a disk: its objects come back as they were, and what is derived from them is made anew.

use super::{Registry, Write};
use crate::access::Access;
use crate::admission::Pools;
use crate::error::Error;
use crate::policy;
use crate::registry::Part;
use crate::resources::{Kind, RESOURCES};
use crate::store::{Change, History, Kept, Key, Store};
use serde_json::Value;
use std::sync::Arc;

impl Registry {
    /// The cluster as it was kept: definitions before the objects of their kinds, allocations from what Services hold.
    pub(crate) fn restore(
        mut kept: Kept,
        history: History,
        pools: Pools,
        seed: u64,
        authority: Option<Arc<Access>>,
        now: i64,
    ) -> Self {
        let mut registry = Self::bare(Store::resumed(&kept, history), pools, seed, authority);
        for resource in &RESOURCES {
            registry.bring(resource.kind, &mut kept);
        }
        registry.revive(Kind::Service, |registry, change| registry.pools.follow(change));
        registry.revive(Kind::CustomResourceDefinition, |registry, change| {
            registry.declare(change, now);
        });
        for custom in registry.customs.kinds().clone().iter() {
            registry.bring(Kind::Custom(*custom), &mut kept);
        }
        for kind in policy::KINDS {
            registry.revive(kind, |registry, change| registry.policies.follow(change));
        }
        registry.revive(Kind::ResourceQuota, |registry, change| registry.count_quota(&change.key));
        for (kind, objects) in kept.objects {
            tracing::warn!(
                kind,
                count = objects.len(),
                "objects of a kind that is not served are kept on the disk only"
            );
        }
        registry
    }

    fn bring(&mut self, kind: Kind, kept: &mut Kept) {
        let name = kind.resource().qualified();
        let objects = kept.objects.remove(&name).unwrap_or_default();
        self.store.restore(kind, kept.latest.get(&name).copied(), objects);
    }

    /// Follows up on each object of a kind as if it were new.
    fn revive(&mut self, kind: Kind, follow: impl Fn(&mut Self, &Change)) {
        let keys: Vec<Key> =
            self.store.list(kind, None, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let new = self.store.get(kind, &key);
            follow(self, &Change { kind, key, old: None, new });
        }
    }

    /// Makes an object of the server's own, or gives the one that is there from an earlier run its main part.
    pub(crate) fn ensure(
        &mut self,
        kind: Kind,
        namespace: &str,
        object: Value,
        now: i64,
    ) -> Result<(), Error> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = Key::new(namespace, name);
        match self.store.get(kind, &key) {
            Some(_) => self.update(kind, &key, Part::Main, object, Write::own(now)).map(drop),
            None => self.create(kind, namespace, object, Write::own(now)).map(drop),
        }
    }
}
