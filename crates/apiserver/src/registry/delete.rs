//! Deletion: preconditions, grace, finalizers.

use super::{Registry, Write, definitions, meta};
use crate::error::{Clash, Error, Prohibition};
use crate::resources::Kind;
use crate::store::{Key, Object};
use crate::time;
use serde_json::{Value, json};
use std::sync::Arc;

/// What becomes of the objects that name the deleted one as their owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Propagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// They are deleted before it, which waits for those that block it.
    Foreground,
    /// They stay and forget it.
    Orphan,
}

/// `DeleteOptions`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Deletion {
    /// Seconds a pod gets to end; `None` is what its spec says.
    pub(crate) grace: Option<i64>,
    /// None: as the kind has it by default.
    pub(crate) propagation: Option<Propagation>,
    /// Delete only the object with this uid.
    pub(crate) uid: Option<String>,
    /// All of a collection are deleted: the request names none of them.
    pub(crate) is_of_many: bool,
    /// Delete only this state.
    pub(crate) resource_version: Option<String>,
}

/// How far a deletion got.
#[derive(Debug, Clone)]
pub(crate) enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Object>),
    /// It is marked; somebody has to finish.
    Going(Arc<Object>),
}

impl Registry {
    /// Deletes an object, or marks it where grace or finalizers want time.
    pub(crate) fn delete(
        &mut self,
        kind: Kind,
        key: &Key,
        deletion: &Deletion,
        write: Write<'_>,
    ) -> Result<Deleted, Error> {
        let old = self.get(kind, key)?;
        check_preconditions(kind, key, deletion, &old)?;
        if kind == Kind::Namespace && is_lasting(&key.name) {
            let why = Prohibition::LastingNamespace;
            return Err(Error::Forbidden {
                resource: kind.resource(),
                name: key.name.clone(),
                why,
            });
        }
        let asked = if deletion.is_of_many { &Key::new(&key.namespace, "") } else { key };
        self.ask_about_end(write.resource(kind), asked, &old.value, write)?;
        if write.dry_run {
            return Ok(Deleted::Gone(old));
        }
        let deleted = match deletion.propagation.unwrap_or_else(|| default_propagation(kind)) {
            Propagation::Orphan => {
                self.orphan(&old.uid());
                self.end(kind, key, &old, deletion.grace, write.now)
            }
            // A pod's own end takes time anyway.
            Propagation::Foreground
                if kind != Kind::Pod || self.waits_for_dependents(&old.uid()) =>
            {
                Deleted::Going(self.hold(kind, key, &old, write.now))
            }
            _ => self.end(kind, key, &old, deletion.grace, write.now),
        };
        self.settle(write.now);
        Ok(deleted)
    }

    /// The deletion itself, without checks and without following up.
    pub(super) fn end(
        &mut self,
        kind: Kind,
        key: &Key,
        old: &Arc<Object>,
        grace: Option<i64>,
        now: i64,
    ) -> Deleted {
        if kind == Kind::CustomResourceDefinition {
            if definitions::is_ending(&old.value) {
                return Deleted::Going(old.clone());
            }
            let ended = definitions::ended(&old.value, now);
            return Deleted::Going(self.store.put(kind, key.clone(), ended));
        }
        let grace = if kind == Kind::Pod { grace_of(&old.value, grace) } else { 0 };
        let at_once = grace == 0 && !meta::has_finalizers(&old.value);
        if at_once && kind != Kind::Pod {
            return Deleted::Gone(self.store.remove(kind, key).unwrap_or_else(|| old.clone()));
        }
        let mut object = old.value.clone();
        let metadata = &object["metadata"];
        let is_going = match kind {
            Kind::Namespace => metadata["deletionTimestamp"].is_string(),
            _ => metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|it| it <= grace),
        };
        if !at_once && is_going {
            return Deleted::Going(old.clone());
        }
        meta::begin_deletion(&mut object);
        let metadata = meta::metadata(&mut object);
        metadata
            .insert("deletionTimestamp".into(), time::rfc3339(now.saturating_add(grace)).into());
        if kind == Kind::Namespace {
            object["status"] = json!({"phase": "Terminating"});
        } else {
            metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        }
        let going = self.store.put(kind, key.clone(), object);
        if !at_once {
            return Deleted::Going(going);
        }
        // Watchers of pods are told first that it ends, and then that it is gone, as by the real server.
        Deleted::Gone(self.store.remove(kind, key).unwrap_or(going))
    }

    /// Marks an object that goes after its dependents, which are deleted now in the same way.
    fn hold(&mut self, kind: Kind, key: &Key, old: &Arc<Object>, now: i64) -> Arc<Object> {
        let first = self.mark(kind, key, old, now);
        let mut owners = vec![(kind, key.clone(), old.uid())];
        let mut next = 0;
        while let Some((owner_kind, owner_key, owner)) = owners.get(next).cloned() {
            next += 1;
            for (kind, key) in self.store.dependents(&owner) {
                let Some(dependent) = self.store.get(kind, &key) else { continue };
                if !self.is_orphaned(kind, &key) {
                    self.disown(kind, key, &dependent, &owner);
                } else if waits(&dependent.value) {
                    // Perhaps each waits for the next one in a circle: nobody waits for this one any more.
                    self.unblock(owner_kind, &owner_key);
                } else if self.waits_for_dependents(&dependent.uid()) {
                    self.mark(kind, &key, &dependent, now);
                    owners.push((kind, key, dependent.uid()));
                } else {
                    self.end(kind, &key, &dependent, None, now);
                }
            }
        }
        owners.iter().rev().for_each(|(_, _, owner)| self.release(owner));
        first
    }

    fn mark(&mut self, kind: Kind, key: &Key, old: &Arc<Object>, now: i64) -> Arc<Object> {
        let mut object = old.value.clone();
        meta::begin_deletion(&mut object);
        let metadata = meta::metadata(&mut object);
        metadata.entry("deletionTimestamp").or_insert_with(|| time::rfc3339(now).into());
        metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) =
            finalizers.as_array_mut().filter(|list| !list.contains(&FOREGROUND.into()))
        {
            list.push(FOREGROUND.into());
        }
        self.store.put(kind, key.clone(), object)
    }

    /// None of its owners waits for the object.
    fn unblock(&mut self, kind: Kind, key: &Key) {
        let Some(object) = self.store.get(kind, key) else { return };
        let mut object = object.value.clone();
        let owners = object["metadata"]["ownerReferences"].as_array_mut();
        for owner in owners.into_iter().flatten() {
            owner["blockOwnerDeletion"] = false.into();
        }
        self.store.put(kind, key.clone(), object);
    }

    /// Whether somebody is to be gone before the object with this uid.
    fn waits_for_dependents(&self, uid: &str) -> bool {
        let blocks = |owner: &Value| owner["uid"] == uid && owner["blockOwnerDeletion"] == true;
        self.store.dependents(uid).iter().any(|(kind, key)| {
            let dependent = self.store.get(*kind, key);
            let owners = dependent.as_ref().map(|it| &it.value["metadata"]["ownerReferences"]);
            owners.and_then(Value::as_array).is_some_and(|owners| owners.iter().any(blocks))
        })
    }

    /// Lets go an owner that waited for its dependents, when the last has gone.
    pub(super) fn release(&mut self, owner: &str) {
        let Some((kind, key)) = self.store.find(owner).cloned() else { return };
        let Some(object) = self.store.get(kind, &key) else { return };
        let mut object = object.value.clone();
        let finalizers = object["metadata"]["finalizers"].as_array_mut();
        let Some(finalizers) = finalizers.filter(|list| list.contains(&FOREGROUND.into())) else {
            return;
        };
        if self.waits_for_dependents(owner) {
            return;
        }
        finalizers.retain(|finalizer| finalizer != FOREGROUND);
        if meta::is_finished(&object) {
            self.store.remove(kind, &key);
        } else {
            self.store.put(kind, key, object);
        }
    }

    fn orphan(&mut self, uid: &str) {
        for (kind, key) in self.store.dependents(uid) {
            let Some(object) = self.store.get(kind, &key) else { continue };
            self.disown(kind, key, &object, uid);
        }
    }

    /// Makes an object forget one of its owners.
    fn disown(&mut self, kind: Kind, key: Key, object: &Object, owner: &str) {
        let mut object = object.value.clone();
        if let Some(Value::Array(owners)) = object["metadata"].get_mut("ownerReferences") {
            owners.retain(|it| it["uid"] != owner);
        }
        self.store.put(kind, key, object);
    }
}

/// Whether an object goes after its dependents.
pub(super) fn waits(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|list| list.contains(&FOREGROUND.into()))
}

/// What waits for dependents, as the real server calls it.
const FOREGROUND: &str = "foregroundDeletion";

/// For some kinds the pods stay unless the client says otherwise, as in their first versions.
fn default_propagation(kind: Kind) -> Propagation {
    match kind {
        Kind::Job | Kind::ReplicationController => Propagation::Orphan,
        _ => Propagation::Background,
    }
}

fn is_lasting(namespace: &str) -> bool {
    matches!(namespace, "default" | "kube-system" | "kube-public")
}

pub(super) fn check_preconditions(
    kind: Kind,
    key: &Key,
    deletion: &Deletion,
    old: &Object,
) -> Result<(), Error> {
    let fields = [
        ("UID", "uid", &deletion.uid),
        ("ResourceVersion", "resourceVersion", &deletion.resource_version),
    ];
    for (field, path, wanted) in fields {
        let found = old.value["metadata"][path].as_str().unwrap_or_default().to_owned();
        if let Some(wanted) = wanted.clone().filter(|wanted| *wanted != found) {
            let clash = Clash::Deleted { field, wanted, found };
            return Err(Error::Conflict {
                resource: kind.resource(),
                name: key.name.clone(),
                clash,
            });
        }
    }
    Ok(())
}

/// A pod that runs nowhere (yet or any more) needs no grace.
fn grace_of(pod: &Value, wanted: Option<i64>) -> i64 {
    let placed = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !placed || ended {
        return 0;
    }
    wanted.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).max(0)
}
