//! What a write means: names, conflicts, defaults, allocation, deletion. Pure; `now` is an argument.
//!
//! ```text
//! request ─► prepare (metadata, admission, allocation) ─► store.put ─► settle: follow up on every change
//!                       │ dry run: stop here                             (allocations, dependents, namespaces)
//! ```

mod delete;
mod meta;
mod settle;

pub(crate) use delete::{Deleted, Deletion, Propagation};

use crate::admission::{self, Pools};
use crate::error::{Cause, Clash, Error, Prohibition, Reason};
use crate::patch::Patch;
use crate::resources::{Kind, Resource, Scale, StatusRule};
use crate::store::{Key, Object, Store};
use meta::Random;
use serde_json::Value;
use std::sync::Arc;

/// Circumstances of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// Answer as if it were done, but do not do it.
    pub(crate) dry_run: bool,
}

/// Which half of an object a request writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    Status,
}

/// The store and the rules around it.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) store: Store,
    pools: Pools,
    random: Random,
}

impl Registry {
    /// A cluster with its four first namespaces. `seed` makes the uids.
    #[must_use]
    pub(crate) fn new(store: Store, pools: Pools, seed: u64, now: i64) -> Self {
        let mut registry = Self { store, pools, random: Random::new(seed) };
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = serde_json::json!({"metadata": {"name": name}});
            let write = Write { now, dry_run: false };
            registry
                .create(Kind::Namespace, "", namespace, write)
                .expect("the first namespaces are valid");
        }
        registry
    }

    /// The object, or `NotFound`.
    pub(crate) fn get(&self, kind: Kind, key: &Key) -> Result<Arc<Object>, Error> {
        let missing = || Error::NotFound { resource: kind.resource(), name: key.name.clone() };
        self.store.get(kind, key).cloned().ok_or_else(missing)
    }

    /// Creates an object in the namespace of the request.
    pub(crate) fn create(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        write: Write,
    ) -> Result<Arc<Object>, Error> {
        let resource = kind.resource();
        meta::adopt(resource, namespace, &mut object)?;
        let key = self.name(resource, namespace, &mut object)?;
        self.check_namespace(resource, &key)?;
        meta::begin(resource, &mut object, &mut self.random, write.now);
        if resource.status != StatusRule::SeparateOnceCreated {
            meta::drop_status(resource, &mut object);
        }
        admission::admit(resource, &mut object, None)?;
        if self.store.get(kind, &key).is_some() {
            return Err(Error::AlreadyExists { resource, name: key.name });
        }
        self.pools.allocate(kind, &mut object, None)?;
        Ok(self.finish(kind, key, object, write))
    }

    /// Replaces one part of an object.
    pub(crate) fn update(
        &mut self,
        kind: Kind,
        key: &Key,
        part: Part,
        object: Value,
        write: Write,
    ) -> Result<Arc<Object>, Error> {
        let (resource, old) = (kind.resource(), self.get(kind, key)?);
        let mut object = object;
        meta::adopt(resource, &key.namespace, &mut object)?;
        meta::check_same(resource, key, &object, &old.value)?;
        meta::keep(&mut object, &old.value);
        match part {
            Part::Main => meta::keep_status(resource, &mut object, &old.value),
            Part::Status => meta::keep_all_but_status(resource, &mut object, &old.value),
        }
        if part == Part::Main {
            admission::admit(resource, &mut object, Some(&old.value))?;
            self.pools.allocate(kind, &mut object, Some(&old.value))?;
        }
        meta::count_generation(resource, &mut object, &old.value);
        if object == old.value {
            return Ok(old);
        }
        if !write.dry_run && meta::is_finished(&object) {
            let last = self.store.remove(kind, key).unwrap_or(old);
            self.settle(write.now);
            return Ok(last);
        }
        Ok(self.finish(kind, key.clone(), object, write))
    }

    /// Patches one part of an object.
    pub(crate) fn patch(
        &mut self,
        kind: Kind,
        key: &Key,
        part: Part,
        patch: &Patch,
        write: Write,
    ) -> Result<Arc<Object>, Error> {
        let old = self.get(kind, key)?;
        let object = patch.apply(kind, &old.value)?;
        self.update(kind, key, part, object, write)
    }

    /// Writes the replicas that a Scale object asks for.
    pub(crate) fn rescale(
        &mut self,
        kind: Kind,
        key: &Key,
        scale: Scale,
        wanted: &Value,
        write: Write,
    ) -> Result<Arc<Object>, Error> {
        let (resource, old) = (kind.resource(), self.get(kind, key)?);
        meta::check_same(resource, key, wanted, &old.value)?;
        let replicas = match &wanted["spec"]["replicas"] {
            Value::Null => 0.into(),
            count if count.as_i64().is_some_and(|count| count >= 0) => count.clone(),
            other => {
                let message = format!("Invalid value: {other}: must be greater than or equal to 0");
                let field = "spec.replicas".into();
                let causes = vec![Cause { reason: Reason::Invalid, field, message }];
                return Err(Error::Invalid { resource, name: key.name.clone(), causes });
            }
        };
        let mut object = old.value.clone();
        if let Some(place) = object.pointer_mut(scale.wanted) {
            *place = replicas;
        } else {
            object["spec"]["replicas"] = replicas;
        }
        self.update(kind, key, Part::Main, object, write)
    }

    /// Assigns a pod to a node (`pods/binding`).
    pub(crate) fn bind(&mut self, key: &Key, node: &str, write: Write) -> Result<(), Error> {
        let old = self.get(Kind::Pod, key)?;
        if let Some(assigned) =
            old.value["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())
        {
            let clash = Clash::Assigned { pod: key.name.clone(), node: assigned.to_owned() };
            return Err(Error::Conflict {
                resource: Kind::Pod.resource(),
                name: key.name.clone(),
                clash,
            });
        }
        let patch = serde_json::json!({"spec": {"nodeName": node}});
        self.patch(Kind::Pod, key, Part::Main, &Patch::Merge(patch), write).map(drop)
    }

    fn finish(&mut self, kind: Kind, key: Key, object: Value, write: Write) -> Arc<Object> {
        if write.dry_run {
            return Arc::new(Object::unsaved(object));
        }
        let saved = self.store.put(kind, key, object);
        self.settle(write.now);
        saved
    }

    /// Takes or makes up the object's name.
    fn name(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        object: &mut Value,
    ) -> Result<Key, Error> {
        let namespace = if resource.namespaced { namespace } else { "" };
        if let Some(name) = object["metadata"]["name"].as_str().filter(|name| !name.is_empty()) {
            return Ok(Key::new(namespace, name));
        }
        let Some(prefix) =
            object["metadata"]["generateName"].as_str().filter(|prefix| !prefix.is_empty())
        else {
            return Err(meta::nameless(resource));
        };
        // The longest name is 63 letters, five of them ours (k8s.io/apiserver/pkg/storage/names).
        let prefix: String = prefix.chars().take(58).collect();
        loop {
            let key = Key::new(namespace, &format!("{prefix}{}", self.random.suffix()));
            if self.store.get(resource.kind, &key).is_none() {
                object["metadata"]["name"] = key.name.clone().into();
                return Ok(key);
            }
        }
    }

    fn check_namespace(&self, resource: &'static Resource, key: &Key) -> Result<(), Error> {
        if !resource.namespaced {
            return Ok(());
        }
        let namespace = self.get(Kind::Namespace, &Key::new("", &key.namespace))?;
        if namespace.value["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let why = Prohibition::Terminating { namespace: key.namespace.clone() };
        Err(Error::Forbidden { resource, name: key.name.clone(), why })
    }
}

#[cfg(test)]
mod tests;
