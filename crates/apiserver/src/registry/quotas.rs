//! Quotas and ranges of limits of a namespace: new objects keep to them, and what is used is counted with every write.

use super::Registry;
use crate::error::{Error, Prohibition};
use crate::quota::{self, Amounts, Item, amounts, limits, usage};
use crate::resources::{self, Kind, Resource};
use crate::store::{Change, Key, Object};
use serde_json::Value;
use std::sync::Arc;

impl Registry {
    /// Gives a new pod the amounts that its namespace has for those that say none.
    pub(super) fn complete_limits(&self, resource: &Resource, key: &Key, object: &mut Value) {
        if resource.kind == Kind::Pod {
            self.of_namespace(Kind::LimitRange, key)
                .for_each(|it| limits::complete(&it.value, object));
        }
    }

    /// Refuses what a range of limits or a quota of the namespace does not allow; `old` is what is replaced.
    pub(super) fn check_room(
        &self,
        resource: &'static Resource,
        key: &Key,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Error> {
        let refuse = |why: String| Error::Forbidden {
            resource,
            name: key.name.clone(),
            why: Prohibition::NoRoom { why },
        };
        let is_going = old.is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null());
        let is_limited = match resource.kind {
            Kind::Pod => old.is_none_or(|old| quota::needs(old) != quota::needs(object)),
            Kind::PersistentVolumeClaim => !is_going,
            _ => false,
        };
        if is_limited {
            let faults = self
                .of_namespace(Kind::LimitRange, key)
                .find_map(|it| limits::check(&it.value, resource.kind, object));
            faults.map_or(Ok(()), |why| Err(refuse(why)))?;
        }
        let item = Item { resource, object };
        if quota::concerns(item, old) {
            for quota in self.of_namespace(Kind::ResourceQuota, key) {
                quota::check(&quota.value, item, old).map_err(refuse)?;
            }
        }
        Ok(())
    }

    /// Counts what a change adds to and takes from the quotas of its namespace.
    pub(super) fn settle_quotas(&mut self, change: &Change) {
        if change.key.namespace.is_empty() || change.kind == Kind::Event {
            return;
        }
        let quotas: Vec<Key> = self.keys(Kind::ResourceQuota, &change.key.namespace);
        for key in quotas {
            let is_itself = change.kind == Kind::ResourceQuota && change.key == key;
            match (&change.old, &change.new) {
                (Some(old), Some(new)) if is_itself && old.value["spec"] == new.value["spec"] => {}
                (_, Some(_)) if is_itself => self.count_quota(&key),
                _ => self.follow_usage(&key, change),
            }
        }
    }

    fn follow_usage(&mut self, key: &Key, change: &Change) {
        let Some(quota) = self.store.get(Kind::ResourceQuota, key) else { return };
        let resource = change.kind.resource();
        let counted = |object: &Option<Arc<Object>>| {
            let object = object.as_ref();
            object.map(|it| Item { resource, object: &it.value }.counted(&quota.value))
        };
        let (old, new) = (counted(&change.old), counted(&change.new));
        if old == new {
            return;
        }
        let mut used = amounts(&quota.value["status"]["used"]);
        for (name, amount) in new.unwrap_or_default() {
            let place = used.entry(name).or_default();
            *place = place.plus(amount);
        }
        for (name, amount) in old.unwrap_or_default() {
            let place = used.entry(name).or_default();
            *place = place.minus(amount);
        }
        self.write_usage(key, &quota, &used);
    }

    /// Counts all that a quota is about.
    pub(super) fn count_quota(&mut self, key: &Key) {
        let Some(quota) = self.store.get(Kind::ResourceQuota, key) else { return };
        let hard = amounts(&quota.value["spec"]["hard"]);
        let served = resources::served(self.customs.kinds());
        let kinds = served.filter(|it| it.namespaced && !it.transient && it.is_stored());
        let mut used = Amounts::new();
        for resource in kinds {
            let names = hard.keys().filter(|name| usage::is_of(resource, name));
            let names: Vec<_> = names
                .map(|name| (name.clone(), used.get(name).copied().unwrap_or_default()))
                .collect();
            if names.is_empty() {
                continue;
            }
            used.extend(names);
            for (_, object) in self.store.list(resource.kind, Some(&key.namespace), None) {
                for (name, amount) in
                    (Item { resource, object: &object.value }).counted(&quota.value)
                {
                    let place = used.entry(name).or_default();
                    *place = place.plus(amount);
                }
            }
        }
        self.write_usage(key, &quota, &used);
    }

    fn write_usage(&mut self, key: &Key, quota: &Object, used: &Amounts) {
        let mut changed = quota.value.clone();
        if changed["spec"]["hard"].is_object() {
            changed["status"]["hard"] = changed["spec"]["hard"].clone();
            changed["status"]["used"] = quota::written(used);
        }
        if changed != quota.value {
            self.store.put(Kind::ResourceQuota, key.clone(), changed);
        }
    }

    fn of_namespace<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
    ) -> impl Iterator<Item = Arc<Object>> + 'a {
        let listed = self.store.list(kind, Some(&key.namespace), None).map(|(_, it)| it);
        listed.filter(|_| !key.namespace.is_empty())
    }

    fn keys(&self, kind: Kind, namespace: &str) -> Vec<Key> {
        self.store.list(kind, Some(namespace), None).map(|(key, _)| key.clone()).collect()
    }
}
