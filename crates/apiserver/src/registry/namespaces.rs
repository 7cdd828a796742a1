//! The end of a namespace: its pods go first, then all that is left, then the namespace. What holds it up stands in its
//! conditions (KEP-5080, `NamespaceConditionType`).

use super::{Registry, Write, meta};
use crate::error::Error;
use crate::resources::{Kind, RESOURCES};
use crate::store::{Change, Key, Object};
use crate::time;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Type, reason and message of a condition that says that nothing is wrong.
const RIGHT: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (REMAINING, "ContentRemoved", "All content successfully removed"),
    (HELD, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];
const REMAINING: &str = "NamespaceContentRemaining";
const HELD: &str = "NamespaceFinalizersRemaining";

/// What is left in a namespace.
#[derive(Debug, Default)]
struct Rest {
    /// How many of each resource, as `pods.`.
    objects: BTreeMap<String, usize>,
    /// How many wait for each finalizer.
    finalizers: BTreeMap<String, usize>,
}

impl Registry {
    pub(super) fn settle_namespace(&mut self, change: &Change, now: i64) {
        let namespace =
            if change.kind == Kind::Namespace { &change.key.name } else { &change.key.namespace };
        let key = Key::new("", namespace);
        let Some(object) = self.store.get(Kind::Namespace, &key) else { return };
        if object.value["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        if change.kind == Kind::Namespace || change.new.is_none() {
            self.empty(namespace, change.kind, now);
        }
        if self.store.is_empty(namespace) {
            self.release_namespace(&key);
        }
    }

    /// Writes who must be done with a namespace before it goes (`namespaces/finalize`).
    pub(crate) fn finalize(
        &mut self,
        key: &Key,
        wanted: &Value,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        let kind = Kind::Namespace;
        let old = self.get(kind, key)?;
        meta::check_same(kind.resource(), key, wanted, &old.value)?;
        let mut object = old.value.clone();
        object["spec"] = match wanted["spec"]["finalizers"].as_array() {
            Some(finalizers) if !finalizers.is_empty() => json!({"finalizers": finalizers}),
            _ => json!({}),
        };
        if !write.dry_run && meta::is_finished(&object) {
            self.store.remove(kind, key);
            self.settle(write.now);
            return Ok(Arc::new(Object::unsaved(object)));
        }
        Ok(self.finish(kind, key.clone(), object, write))
    }

    /// Ends what is in a namespace; where something of a kind has just gone, only what had to wait for it.
    fn empty(&mut self, namespace: &str, gone: Kind, now: i64) {
        self.end_all_in(Kind::Pod, namespace, now);
        // Whoever still runs may need what the others are for.
        let has_pods = self.store.list(Kind::Pod, Some(namespace), None).next().is_some();
        if !has_pods && matches!(gone, Kind::Namespace | Kind::Pod) {
            self.kinds().into_iter().for_each(|kind| self.end_all_in(kind, namespace, now));
        }
        let rest = if has_pods { Rest::default() } else { self.rest(namespace) };
        self.tell_rest(namespace, &rest, now);
    }

    fn kinds(&self) -> Vec<Kind> {
        let built_in = RESOURCES.iter().map(|resource| resource.kind);
        built_in.chain(self.customs.kinds().iter().map(|it| Kind::Custom(*it))).collect()
    }

    fn end_all_in(&mut self, kind: Kind, namespace: &str, now: i64) {
        let keys: Vec<Key> =
            self.store.list(kind, Some(namespace), None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.end_if_there(kind, &key, now);
        }
    }

    fn rest(&self, namespace: &str) -> Rest {
        let mut rest = Rest::default();
        for kind in self.kinds() {
            let resource = kind.resource();
            for (_, object) in self.store.list(kind, Some(namespace), None) {
                let name = format!("{}.{}", resource.plural, resource.group);
                *rest.objects.entry(name).or_default() += 1;
                let finalizers = object.look(&["metadata", "finalizers"]).into_owned();
                for finalizer in finalizers.as_array().into_iter().flatten() {
                    let finalizer = finalizer.as_str().unwrap_or_default().to_owned();
                    *rest.finalizers.entry(finalizer).or_default() += 1;
                }
            }
        }
        rest
    }

    fn tell_rest(&mut self, namespace: &str, rest: &Rest, now: i64) {
        let key = Key::new("", namespace);
        let Some(object) = self.store.get(Kind::Namespace, &key) else { return };
        let mut object = object.value.clone();
        let before = object["status"]["conditions"].take();
        let before = before.as_array().map_or(&[][..], Vec::as_slice);
        let conditions = conditions(before, rest, now);
        if conditions != before {
            object["status"]["conditions"] = conditions.into();
            self.store.put(Kind::Namespace, key, object);
        }
    }

    /// Takes away the server's own finalizer; others may still hold the namespace.
    fn release_namespace(&mut self, key: &Key) {
        let Some(old) = self.store.get(Kind::Namespace, key) else { return };
        let mut object = old.value.clone();
        if let Some(Value::Array(finalizers)) = object["spec"].get_mut("finalizers") {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        if meta::is_finished(&object) {
            self.store.remove(Kind::Namespace, key);
        } else if object != old.value {
            self.store.put(Kind::Namespace, key.clone(), object);
        }
    }
}

fn conditions(before: &[Value], rest: &Rest, now: i64) -> Vec<Value> {
    let list = |counts: &BTreeMap<String, usize>, words: &str| {
        let each = counts.iter();
        let each = each.map(|(name, count)| format!("{name} {words} {count} resource instances"));
        each.collect::<Vec<_>>().join(", ")
    };
    let condition = |(kind, reason, message): (&str, &str, &str)| {
        let (status, reason, message) = match kind {
            REMAINING if !rest.objects.is_empty() => {
                let all = list(&rest.objects, "has");
                ("True", "SomeResourcesRemain", format!("Some resources are remaining: {all}"))
            }
            HELD if !rest.finalizers.is_empty() => {
                let all = list(&rest.finalizers, "in");
                let message =
                    format!("Some content in the namespace has finalizers remaining: {all}");
                ("True", "SomeFinalizersRemain", message)
            }
            _ => ("False", reason, message.to_owned()),
        };
        let same = before.iter().find(|it| it["type"] == kind && it["status"] == status);
        let since = same.map_or_else(
            || time::rfc3339(now).into(),
            |condition| condition["lastTransitionTime"].clone(),
        );
        json!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message})
    };
    RIGHT.map(condition).into()
}
