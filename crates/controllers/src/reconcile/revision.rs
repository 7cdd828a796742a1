//! The templates that a StatefulSet or DaemonSet had, kept as ControllerRevisions so that one can go back.

use crate::names;
use crate::record::{Revision, owner_reference};
use crate::write::Write;
use client::Kind;
use model::Meta;
use serde_json::{Value, json};

/// Label of a pod: the revision that it was made from.
pub(super) const REVISION_HASH: &str = "controller-revision-hash";

/// Whose revisions.
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) meta: &'a Meta,
    pub(super) template: &'a Value,
}

impl Subject<'_> {
    /// The hash of the template, which the name of its revision ends in.
    pub(super) fn hash(&self) -> String {
        names::digest(self.template.to_string().as_bytes())
    }

    /// The name of the template's revision, and what is to be written so that it exists and is the latest.
    pub(super) fn latest(&self, revisions: &[&Revision]) -> (String, Option<Write>) {
        let data = data(self.template);
        let highest = revisions.iter().map(|revision| revision.number).max().unwrap_or(0);
        match revisions.iter().find(|revision| *revision.data == data) {
            Some(found) if found.number == highest => (found.meta.key.name.to_string(), None),
            Some(found) => {
                let patch = json!({"revision": highest + 1});
                let key = found.meta.key.clone();
                let write = Write::Patch { kind: Kind::CONTROLLER_REVISION, key, patch };
                (found.meta.key.name.to_string(), Some(write))
            }
            None => self.create(&data, highest + 1),
        }
    }

    fn create(&self, data: &Value, number: u64) -> (String, Option<Write>) {
        let (key, hash) = (&self.meta.key, self.hash());
        let name = format!("{}-{hash}", key.name);
        let mut labels = self.template.pointer("/metadata/labels").cloned().unwrap_or(json!({}));
        labels[REVISION_HASH] = hash.into();
        let owner =
            owner_reference(&self.kind.api_version(), self.kind.kind, &key.name, &self.meta.uid);
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name, "namespace": &*key.namespace, "labels": labels,
                "annotations": self.meta.annotations, "ownerReferences": [owner],
            },
            "data": data,
            "revision": number,
        });
        (name, Some(Write::Create(object)))
    }
}

/// Deletes the oldest of those that no pod needs, beyond the `kept` ones.
pub(super) fn forget(
    revisions: &[&Revision],
    is_live: impl Fn(&str) -> bool,
    kept: usize,
) -> Vec<Write> {
    let mut unused: Vec<_> =
        revisions.iter().filter(|revision| !is_live(&revision.meta.key.name)).collect();
    unused.sort_by_key(|revision| revision.number);
    let excess = unused.len().saturating_sub(kept);
    let delete = |revision: &&&Revision| Write::Delete {
        kind: Kind::CONTROLLER_REVISION,
        key: revision.meta.key.clone(),
        grace: None,
    };
    unused.iter().take(excess).map(delete).collect()
}

/// As `kubectl rollout` reads and writes it: a strategic merge patch of the owner.
fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that the revision keeps.
pub(super) fn template(revision: &Revision) -> Option<Value> {
    let mut template = revision.data.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    Some(template)
}
