//! What follows from a write: allocations, garbage, all that others see to.

use super::{Registry, delete};
use crate::resources::{self, Kind};
use crate::rights::aggregate;
use crate::store::{Change, Key};
use serde_json::Value;

impl Registry {
    /// Follows up on every change, and on the changes that makes, until nothing is left to do.
    pub(super) fn settle(&mut self, now: i64) {
        while let Some(change) = self.store.next_change() {
            self.pools.follow(&change);
            self.settle_definition(&change, now);
            self.settle_addresses(&change, now);
            self.settle_range(&change, now);
            self.settle_owners(&change, now);
            self.settle_namespace(&change, now);
            self.settle_accounts(&change, now);
            self.settle_roles(&change);
            self.settle_budgets(&change, now);
            self.settle_certificates(&change, now);
            self.settle_quotas(&change);
            self.settle_policies(&change);
        }
    }

    fn settle_owners(&mut self, change: &Change, now: i64) {
        if change.old.is_none() && self.is_orphaned(change.kind, &change.key) {
            self.end_if_there(change.kind, &change.key, now);
        }
        let (Some(old), None) = (&change.old, &change.new) else { return };
        let owners = old.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        for owner in owners.filter_map(|owner| owner["uid"].as_str()) {
            self.release(owner);
        }
        for (kind, key) in self.store.dependents(&old.uid()) {
            if self.is_orphaned(kind, &key) {
                self.end_if_there(kind, &key, now);
            }
        }
    }

    /// Whether an object has owners and none of them stays: each is gone, or waits for this one to go first. An owner of a
    /// kind that is not served counts as staying.
    pub(super) fn is_orphaned(&self, kind: Kind, key: &Key) -> bool {
        let Some(object) = self.store.get(kind, key) else { return false };
        let Some(owners) = object.value["metadata"]["ownerReferences"].as_array() else {
            return false;
        };
        let served = |owner: &Value| {
            resources::served(self.customs.kinds())
                .any(|r| owner["kind"] == r.name && owner["apiVersion"] == r.api_version())
        };
        let stays = |owner: &Value| {
            let uid = owner["uid"].as_str().unwrap_or_default();
            let found = self.store.find(uid).and_then(|(kind, key)| self.store.get(*kind, key));
            !served(owner) || found.is_some_and(|found| !delete::waits(&found.value))
        };
        !owners.is_empty() && !owners.iter().any(stays)
    }

    /// Makes the rules of roles that are made of others.
    fn settle_roles(&mut self, change: &Change) {
        if change.kind != Kind::ClusterRole {
            return;
        }
        for (key, role) in aggregate::outdated(&self.store) {
            self.store.put(Kind::ClusterRole, key, role);
        }
    }

    pub(super) fn end_if_there(&mut self, kind: Kind, key: &Key, now: i64) {
        if let Some(object) = self.store.get(kind, key) {
            self.end(kind, key, &object, None, now);
        }
    }
}
