//! A cluster in memory, with an API server and a clock, for the controllers of workloads.

use crate::cluster::Cluster;
use crate::names::Names;
use crate::reconcile::{Now, plan};
use crate::settings::Settings;
use crate::task::Task;
use crate::write::Write;
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) stored: BTreeMap<(Kind, ObjectKey), Value>,
    version: u64,
    names: Names,
    pub(crate) now: Duration,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (cluster, stored) = (Cluster::default(), BTreeMap::new());
        Bench { cluster, stored, version: 0, names: Names::new(1), now: Duration::ZERO }
    }

    pub(crate) fn now(&self) -> Now {
        let seconds = i64::try_from(self.now.as_secs()).unwrap();
        Now { uptime: self.now, wall: Timestamp::from_second(1_800_000_000 + seconds).unwrap() }
    }

    /// Stores the object as an API server does: uid, version, generation; one that nobody holds back any more is gone.
    pub(crate) fn store(&mut self, kind: Kind, key: &ObjectKey, mut object: Value) {
        let metadata = &object["metadata"];
        let held = metadata["finalizers"].as_array().is_some_and(|it| !it.is_empty());
        if !metadata["deletionTimestamp"].is_null() && !held {
            return self.remove(kind, key);
        }
        let old = self.stored.get(&(kind, key.clone()));
        let generation = old.map_or(1, |old| {
            let same = old["spec"] == object["spec"];
            old["metadata"]["generation"].as_u64().unwrap() + u64::from(!same)
        });
        self.version += 1;
        object["metadata"]["generation"] = generation.into();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object["metadata"]["creationTimestamp"].is_null() {
            object["metadata"]["creationTimestamp"] = self.now().wall.to_string().into();
        }
        object["metadata"]["uid"] = format!("uid-{}", key.name).into();
        self.cluster.apply(kind, &object, self.now);
        self.stored.insert((kind, key.clone()), object);
    }

    pub(crate) fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        self.stored.remove(&(kind, key.clone()));
        self.cluster.remove(kind, key, self.now);
    }

    /// Spec of the user; status and annotations stay.
    pub(crate) fn apply(&mut self, manifest: Value) {
        let text = |name: &str| manifest[name].as_str().unwrap();
        let kind = Kind::of(text("apiVersion"), text("kind")).unwrap();
        let key = crate::record::key(&manifest).unwrap();
        let mut object = self.stored.get(&(kind, key.clone())).cloned().unwrap_or(json!({}));
        for field in ["apiVersion", "kind", "spec"] {
            object[field] = manifest[field].clone();
        }
        crate::fixture::merge(&mut object["metadata"], manifest["metadata"].clone());
        self.store(kind, &key, object);
    }

    /// Works off up to `most` dirty tasks; false when there were none.
    pub(crate) fn work(&mut self, most: usize) -> bool {
        let settings = Settings::default();
        let dirty = self.cluster.take_dirty();
        let others = |task: &&Task| !matches!(task, Task::Schedule(_) | Task::NodeLife(_));
        let tasks: Vec<_> = dirty.iter().filter(others).cloned().collect();
        for task in tasks.iter().take(most) {
            let now = self.now();
            let outcome = plan(&mut self.cluster, task, &settings, &mut self.names, now);
            for write in outcome.writes {
                self.execute(write);
            }
        }
        for task in tasks.iter().skip(most) {
            self.cluster.mark(task.clone());
        }
        !tasks.is_empty()
    }

    pub(crate) fn settle(&mut self) {
        let mut turns = 0;
        while self.work(usize::MAX) {
            turns += 1;
            assert!(turns < 100, "the controllers go on writing for ever");
        }
    }

    fn execute(&mut self, write: Write) {
        if matches!(write, Write::Tell(_)) {
            return;
        }
        let (kind, key) = (write.kind().unwrap(), write.key().unwrap());
        match write {
            Write::Create(object) => {
                assert!(!self.stored.contains_key(&(kind, key.clone())), "{key} exists");
                self.store(kind, &key, object);
            }
            Write::Ensure(object) => {
                if !self.stored.contains_key(&(kind, key.clone())) {
                    self.store(kind, &key, object);
                }
            }
            Write::Patch { patch, .. } | Write::PatchStatus { patch, .. } => {
                // What has become of an object that was deleted a moment ago is no concern here.
                let Some(mut object) = self.stored.get(&(kind, key.clone())).cloned() else {
                    return;
                };
                merge(&mut object, &patch);
                self.store(kind, &key, object);
            }
            Write::Adopt { owner, .. } => self.change(kind, &key, |object| owner.adopt(object)),
            Write::Release { owner, .. } => self.change(kind, &key, |object| owner.release(object)),
            Write::Entrust { bond, .. } => self.change(kind, &key, |claim| bond.tie(claim)),
            Write::Delete { .. } => self.delete(kind, &key),
            other => panic!("{other:?}"),
        }
    }

    fn change(
        &mut self,
        kind: Kind,
        key: &ObjectKey,
        change: impl FnOnce(&Value) -> Option<Value>,
    ) {
        let Some(mut object) = self.stored.get(&(kind, key.clone())).cloned() else { return };
        if let Some(patch) = change(&object) {
            merge(&mut object, &patch);
            self.store(kind, key, object);
        }
    }

    /// At once, unless a finalizer holds it back.
    pub(crate) fn delete(&mut self, kind: Kind, key: &ObjectKey) {
        let Some(mut object) = self.stored.get(&(kind, key.clone())).cloned() else { return };
        object["metadata"]["deletionTimestamp"] = self.now().wall.to_string().into();
        self.store(kind, key, object);
    }

    pub(crate) fn all(&self, kind: Kind) -> Vec<Value> {
        let found = self.stored.iter().filter(|((found, _), _)| *found == kind);
        found.map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn pods(&self) -> Vec<Value> {
        self.all(Kind::POD)
    }
}

/// JSON merge patch (RFC 7396).
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (name, member) in members {
        match member {
            Value::Null => drop(value.as_object_mut().map(|fields| fields.remove(name))),
            member => merge(&mut value[name], member),
        }
    }
}
