//! CustomResourceDefinitions: a stored definition makes a kind, a deleted one takes the kind and its objects away.

use super::{Part, Registry, Write, meta};
use crate::error::{Cause, Error, Reason};
use crate::managed::typed;
use crate::resources::{Custom, Kind, Resource, Scale, StatusRule};
use crate::store::{Change, Key, Object};
use crate::time;
use serde_json::{Value, json};
use std::sync::Arc;

/// The custom kinds of a moment.
#[derive(Debug, Default)]
pub(crate) struct Customs {
    kinds: Arc<Vec<Custom>>,
    last: u32,
}

impl Customs {
    pub(crate) fn kinds(&self) -> &Arc<Vec<Custom>> {
        &self.kinds
    }

    /// The kind that a definition declares.
    fn find(&self, definition: &Value) -> Option<Custom> {
        let (group, plural) =
            (&definition["spec"]["group"], &definition["spec"]["names"]["plural"]);
        let mut kinds = self.kinds.iter();
        let same = |kind: &&Custom| {
            let resource = Kind::Custom(**kind).resource();
            *group == resource.group && *plural == resource.plural
        };
        kinds.find(same).copied()
    }
}

/// Holds a definition until the last object of its kind is gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Registry {
    /// Declares, declares anew, or takes back the kind of a definition that changed.
    pub(super) fn settle_definition(&mut self, change: &Change, now: i64) {
        if let (Kind::Custom(kind), None) = (change.kind, &change.new) {
            let resource = change.kind.resource();
            self.release_definition(&Key::new("", &resource.qualified()), kind);
        }
        if change.kind != Kind::CustomResourceDefinition {
            return;
        }
        self.declare(change, now);
        match &change.new {
            Some(new) if !is_ending(&new.value) => self.accept(&change.key, new, now),
            Some(new) => {
                if let Some(kind) = self.customs.find(&new.value) {
                    self.end_all(Kind::Custom(kind), now);
                    self.release_definition(&change.key, kind);
                }
            }
            None => {}
        }
        if let Some(old) = &change.old {
            self.accept_others(&old.value["spec"]["group"], now);
        }
    }

    /// A definition's kind is served as soon as the definition says so, with the first [`Self::accept`].
    pub(super) fn declare(&mut self, change: &Change, now: i64) {
        let known = change.old.as_ref().and_then(|old| self.customs.find(&old.value));
        let declared = match (&change.old, &change.new) {
            (Some(old), Some(new)) if known.is_some() && old.value["spec"] == new.value["spec"] => {
                return;
            }
            (_, Some(new)) if is_true(&new.value, "Established") => {
                let id = known.map_or_else(|| self.customs.last + 1, Custom::id);
                self.customs.last = self.customs.last.max(id);
                let Some(declared) = Custom::declare(id, &new.value) else { return };
                Some(declared)
            }
            (_, Some(_)) => return,
            (_, None) => None,
        };
        if let (Some(gone), None) = (known, declared) {
            // Other kinds may come and go by that.
            self.drop_all(Kind::Custom(gone), now);
        }
        let mut kinds: Vec<Custom> = self.customs.kinds.as_ref().clone();
        kinds.retain(|kind| known.is_none_or(|known| kind.id() != known.id()));
        kinds.extend(declared);
        kinds.sort_by_key(|kind| (Kind::Custom(*kind).resource().qualified(), kind.id()));
        self.customs.kinds = Arc::new(kinds);
    }

    /// Says that the kind is served, or which of its names another definition has.
    fn accept(&mut self, key: &Key, definition: &Object, now: i64) {
        let mut object = definition.value.clone();
        let conflict = self.conflict(key, &definition.value);
        let established = is_true(&object, "Established");
        let status = &mut object["status"];
        match conflict {
            None => {
                status["acceptedNames"] = definition.value["spec"]["names"].clone();
                let (reason, message) = ("NoConflicts", "no conflicts found");
                set_condition(status, "NamesAccepted", "True", (reason, message), now);
                let message = "the initial names have been accepted";
                let why = ("InitialNamesAccepted", message);
                set_condition(status, "Established", "True", why, now);
            }
            Some((reason, name)) => {
                let message = format!("{name:?} is already in use");
                set_condition(status, "NamesAccepted", "False", (reason, &message), now);
                if !established {
                    let why = ("NotAccepted", "not all names are accepted");
                    set_condition(status, "Established", "False", why, now);
                }
            }
        }
        if object == definition.value {
            return;
        }
        let write = Write::own(now);
        let kind = Kind::CustomResourceDefinition;
        if let Err(error) = self.update(kind, key, Part::Status, object, write) {
            tracing::warn!(%error, name = key.name, "a definition does not say that it is served");
        }
    }

    /// Definitions of a group that waited for names may have them now.
    fn accept_others(&mut self, group: &Value, now: i64) {
        let listed = self.store.list(Kind::CustomResourceDefinition, None, None);
        let waits = |it: &Object| {
            it.value["spec"]["group"] == *group
                && !is_ending(&it.value)
                && is_condition(&it.value, "NamesAccepted", "False")
        };
        let waiting = listed.filter(|(_, it)| waits(it)).map(|(key, it)| (key.clone(), it));
        let waiting: Vec<_> = waiting.collect();
        for (key, definition) in waiting {
            self.accept(&key, &definition, now);
        }
    }

    /// A name that another definition of the group has.
    fn conflict(&self, key: &Key, definition: &Value) -> Option<(&'static str, String)> {
        let spec = &definition["spec"];
        let others = self.store.list(Kind::CustomResourceDefinition, None, None);
        let others = others
            .filter(|(other, it)| *other != key && it.value["spec"]["group"] == spec["group"]);
        let others: Vec<Value> =
            others.map(|(_, it)| it.value["status"]["acceptedNames"].clone()).collect();
        let short = |names: &Value| names["shortNames"].as_array().cloned().unwrap_or_default();
        let is_resource = |name: &Value| {
            let has = |names: &Value| {
                names["plural"] == *name
                    || names["singular"] == *name
                    || short(names).contains(name)
            };
            others.iter().any(has)
        };
        let is_kind = |name: &Value| {
            others.iter().any(|names| names["kind"] == *name || names["listKind"] == *name)
        };
        let names = &spec["names"];
        let text = |name: &Value| name.as_str().unwrap_or_default().to_owned();
        // The last one is told.
        for (reason, field) in [("ListKindConflict", "listKind"), ("KindConflict", "kind")] {
            if is_kind(&names[field]) {
                return Some((reason, text(&names[field])));
            }
        }
        if let Some(name) = short(names).iter().find(|name| is_resource(name)) {
            return Some(("ShortNamesConflict", text(name)));
        }
        let rest = [("SingularConflict", "singular"), ("PluralConflict", "plural")];
        let found = rest.into_iter().find(|(_, field)| is_resource(&names[*field]));
        found.map(|(reason, field)| (reason, text(&names[field])))
    }

    fn end_all(&mut self, kind: Kind, now: i64) {
        let keys: Vec<_> = self.store.list(kind, None, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.end_if_there(kind, &key, now);
        }
    }

    /// Lets a deleted definition go when the last object of its kind has gone.
    fn release_definition(&mut self, key: &Key, kind: Custom) {
        let found = self.store.get(Kind::CustomResourceDefinition, key);
        let Some(definition) = found.filter(|it| is_ending(&it.value)) else { return };
        if self.store.list(Kind::Custom(kind), None, None).next().is_some() {
            return;
        }
        let mut object = definition.value.clone();
        if let Some(Value::Array(finalizers)) = object["metadata"].get_mut("finalizers") {
            let before = finalizers.len();
            finalizers.retain(|finalizer| finalizer != CLEANUP);
            if finalizers.len() == before {
                return;
            }
        }
        if meta::is_finished(&object) {
            self.store.remove(Kind::CustomResourceDefinition, key);
        } else {
            self.store.put(Kind::CustomResourceDefinition, key.clone(), object);
        }
    }

    /// The objects of a kind that nobody serves any more do not outlive it, whatever they wait for.
    fn drop_all(&mut self, kind: Kind, now: i64) {
        let keys: Vec<_> = self.store.list(kind, None, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.store.remove(kind, &key);
        }
        self.settle(now);
    }

    /// Nothing new is made of a kind that ends.
    pub(super) fn check_definition(&self, resource: &'static Resource) -> Result<(), Error> {
        let Kind::Custom(_) = resource.kind else { return Ok(()) };
        let key = Key::new("", &resource.qualified());
        let definition = self.store.get(Kind::CustomResourceDefinition, &key);
        match definition {
            Some(definition) if is_ending(&definition.value) => {
                Err(Error::Ending { verb: "create" })
            }
            _ => Ok(()),
        }
    }

    /// Checks a custom object by its schema and the schema's rules.
    pub(super) fn check_custom(
        &mut self,
        resource: &'static Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Error> {
        let Kind::Custom(kind) = resource.kind else { return Ok(()) };
        let Some(version) = kind.version(resource.version) else { return Ok(()) };
        let mut verdict = version.schema().validate(object, old);
        verdict.causes.extend(resource.scale.iter().flat_map(|scale| check_scale(*scale, object)));
        self.warnings.extend(verdict.unchecked);
        if verdict.causes.is_empty() {
            return Ok(());
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Err(Error::Invalid { resource, name, causes: verdict.causes })
    }
}

/// What the scale subresource shows has to be numbers.
fn check_scale(scale: Scale, object: &Value) -> Vec<Cause> {
    let check = |pointer: &str| {
        let path = pointer.replace('/', ".");
        let value = object.pointer(pointer)?;
        let message = match value.as_i64() {
            None => {
                let (shown, kind) = (typed::in_go(value), typed::go_type(value));
                format!("0: {path} accessor error: {shown} is of the type {kind}, expected int64")
            }
            Some(number) if number < 0 => format!("{number}: should be a non-negative integer"),
            Some(number) if number > i64::from(i32::MAX) => {
                format!("{number}: should be less than or equal to {}", i32::MAX)
            }
            Some(_) => return None,
        };
        let message = format!("Invalid value: {message}");
        Some(Cause { reason: Reason::Invalid, field: path, message })
    };
    [scale.wanted, scale.current].into_iter().filter_map(check).collect()
}

/// A definition that was deleted: it waits for the objects of its kind.
pub(super) fn ended(definition: &Value, now: i64) -> Value {
    let mut object = definition.clone();
    let metadata = meta::metadata(&mut object);
    metadata.insert("deletionTimestamp".into(), time::rfc3339(now).into());
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(list) = finalizers
        && !list.contains(&CLEANUP.into())
    {
        list.push(CLEANUP.into());
    }
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let why = ("InstanceDeletionPending", message);
    set_condition(&mut object["status"], "Terminating", "True", why, now);
    object
}

pub(super) fn is_ending(definition: &Value) -> bool {
    !definition["metadata"]["deletionTimestamp"].is_null()
}

fn is_true(definition: &Value, kind: &str) -> bool {
    is_condition(definition, kind, "True")
}

fn is_condition(definition: &Value, kind: &str, status: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == kind && it["status"] == status)
}

/// Sets a condition, in its place if it is there; one that says the same already stays as it is.
fn set_condition(
    status: &mut Value,
    kind: &str,
    value: &str,
    (reason, message): (&str, &str),
    now: i64,
) {
    let conditions = &mut status["conditions"];
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let mut condition = json!({"type": kind, "status": value, "reason": reason, "message": message,
        "lastTransitionTime": time::rfc3339(now)});
    let Some(place) = list.iter_mut().find(|it| it["type"] == kind) else {
        return list.push(condition);
    };
    if place["status"] == value {
        condition["lastTransitionTime"] = place["lastTransitionTime"].clone();
    }
    *place = condition;
}

/// Whether a status write has to be checked too: a custom kind's schema covers it.
pub(super) fn covers_status(resource: &Resource) -> bool {
    matches!(resource.kind, Kind::Custom(_)) && resource.status == StatusRule::Separate
}
