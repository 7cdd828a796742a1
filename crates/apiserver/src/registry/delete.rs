//! Deletion: preconditions, grace, finalizers.

use super::{Registry, Write, meta};
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
    /// They stay and forget it.
    Orphan,
}

/// `DeleteOptions`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Deletion {
    /// Seconds a pod gets to end; `None` is what its spec says.
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Propagation,
    /// Delete only the object with this uid.
    pub(crate) uid: Option<String>,
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
        if write.dry_run {
            return Ok(Deleted::Gone(old));
        }
        if deletion.propagation == Propagation::Orphan {
            self.orphan(old.uid());
        }
        let deleted = self.end(kind, key, &old, deletion.grace, write.now);
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
        let grace = if kind == Kind::Pod { grace_of(&old.value, grace) } else { 0 };
        if grace == 0 && !meta::has_finalizers(&old.value) {
            return Deleted::Gone(self.store.remove(kind, key).unwrap_or_else(|| old.clone()));
        }
        let mut object = old.value.clone();
        let metadata = meta::metadata(&mut object);
        let current = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
        if current.is_some_and(|current| current <= grace) {
            return Deleted::Going(old.clone());
        }
        metadata
            .insert("deletionTimestamp".into(), time::rfc3339(now.saturating_add(grace)).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        if kind == Kind::Namespace {
            object["status"] = json!({"phase": "Terminating"});
        }
        Deleted::Going(self.store.put(kind, key.clone(), object))
    }

    fn orphan(&mut self, uid: &str) {
        for (kind, key) in self.store.dependents(uid) {
            let Some(object) = self.store.get(kind, &key) else { continue };
            let mut object = object.value.clone();
            if let Some(Value::Array(owners)) = object["metadata"].get_mut("ownerReferences") {
                owners.retain(|owner| owner["uid"] != uid);
            }
            self.store.put(kind, key, object);
        }
    }
}

fn is_lasting(namespace: &str) -> bool {
    matches!(namespace, "default" | "kube-system" | "kube-public")
}

fn check_preconditions(
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
            let clash = Clash::Precondition { field, wanted, found };
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
