//! Who wrote which field, with every write.

use super::{Part, Write, meta};
use crate::managed::entries::{Managers, Owner};
use crate::managed::{self, Changes, Set};
use crate::resources::{Kind, Resource};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields that nobody owns (`k8s.io/apimachinery/pkg/util/managedfields`).
const NOBODYS: [&[&str]; 12] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
    &["f:metadata", "f:deletionTimestamp"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
];

/// What a request for this part may own.
pub(super) fn scope(resource: &Resource, part: Part, set: &Set) -> Set {
    let set = set.without(&NOBODYS);
    let set = match resource.kind {
        // What was asked for is written once and has no owner.
        Kind::CertificateSigningRequest => set.without(&[&["f:spec"]]),
        _ => set,
    };
    match part {
        // Who resizes owns all that he asked for, though the rest is not changed.
        Part::Resize => set,
        Part::Main | Part::Scale | Part::EphemeralContainers if resource.has_status() => {
            set.without(&[&["f:status"]])
        }
        Part::Main | Part::Scale | Part::EphemeralContainers => set,
        Part::Status if resource.kind == Kind::CertificateSigningRequest => {
            set.without(&[&["f:status", "f:conditions"]])
        }
        Part::Status => set.without(&[&["f:spec"]]),
        Part::Approval => set.without(&[&["f:status", "f:certificate"]]),
    }
}

pub(super) fn owner(resource: &Resource, part: Part, write: Write<'_>) -> Owner {
    Owner::update(write.manager, &resource.api_version(), part.subresource())
}

/// The owners of an object's fields, which have the names of this form.
pub(super) fn managers(resource: &Resource, entries: &Value) -> Managers {
    let mut managers = Managers::from_json(entries);
    managers.rename(|api_version| resource.names_from(api_version));
    managers
}

/// The owners of a new object, `given` so by its creator: him, unless others are named.
pub(super) fn begin(
    resource: &Resource,
    given: &Value,
    object: &mut Value,
    managers: Option<Managers>,
    write: Write<'_>,
) {
    let managers = managers.unwrap_or_else(|| {
        let mut managers = Managers::default();
        let nothing = Value::Object(Map::new());
        let changes = changes(resource, Part::Main, &nothing, given);
        managers.update(&owner(resource, Part::Main, write), &changes, &BTreeMap::new());
        managers
    });
    put(resource, object, managers, true, write);
}

/// The owners after a change to what is `given`: `managers` are decided already, or else what the client says about the old ones.
pub(super) fn follow(
    resource: &Resource,
    part: Part,
    old: &Value,
    given: &Value,
    object: &mut Value,
    managers: Result<Managers, Option<Value>>,
    write: Write<'_>,
) {
    let present = &old["metadata"]["managedFields"];
    // Whoever applies what is there already owns it since no particular time, and so do those who scale.
    let timed = part != Part::Scale && (managers.is_err() || !same(old, object));
    let managers = managers.unwrap_or_else(|claimed| {
        let mut managers = self::managers(resource, claimed.as_ref().unwrap_or(present));
        // Of an object without owners nobody becomes one but by applying.
        if managers.is_empty() {
            return managers;
        }
        let changes = changes(resource, part, old, given);
        let others = changes_elsewhere(resource, part, old, given);
        managers.update(&owner(resource, part, write), &changes, &others);
        managers
    });
    put(resource, object, managers, timed, write);
}

/// Whether two states differ in their owners at most.
fn same(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        meta::metadata(&mut object).remove("managedFields");
        object
    };
    bare(old) == bare(new)
}

fn changes(resource: &Resource, part: Part, old: &Value, new: &Value) -> Changes {
    let Some(root) = resource.root() else { return Changes::default() };
    let changes = managed::compare(root, old, new);
    let scope = |set: &Set| scope(resource, part, set);
    Changes { written: scope(&changes.written), removed: scope(&changes.removed) }
}

/// The same changes by the versions of other forms that have other fields than this one.
fn changes_elsewhere(
    resource: &Resource,
    part: Part,
    old: &Value,
    new: &Value,
) -> BTreeMap<String, Changes> {
    let changed = |form: &Resource| {
        let [old, new] = [old, new].map(|object| resource.stored(object.clone()));
        (form.api_version(), changes(form, part, &form.shown(&old), &form.shown(&new)))
    };
    resource.converted_forms().map(changed).collect()
}

fn put(
    resource: &Resource,
    object: &mut Value,
    mut managers: Managers,
    timed: bool,
    write: Write<'_>,
) {
    if timed {
        managers.stamp(write.now);
    }
    managers.rename(|api_version| {
        resource.names_from(api_version).into_iter().map(|(there, here)| (here, there)).collect()
    });
    let metadata = meta::metadata(object);
    if managers.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), managers.to_json());
    }
}
