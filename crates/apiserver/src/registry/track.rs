//! Who wrote which field, with every write.

use super::{Part, Write, meta};
use crate::managed::entries::{Managers, Owner};
use crate::managed::{self, Changes, Set};
use crate::resources::Resource;
use serde_json::{Map, Value};

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
    match part {
        Part::Main if resource.has_status() => set.without(&[&["f:status"]]),
        Part::Main => set,
        Part::Status => set.without(&[&["f:spec"]]),
    }
}

pub(super) fn owner(resource: &Resource, part: Part, write: Write<'_>) -> Owner {
    let subresource = if part == Part::Status { "status" } else { "" };
    Owner::update(write.manager, &resource.api_version(), subresource)
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
        managers.update(&owner(resource, Part::Main, write), &changes);
        managers
    });
    put(object, managers, write.now);
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
    let managers = managers.unwrap_or_else(|claimed| {
        let mut managers = Managers::from_json(claimed.as_ref().unwrap_or(present));
        let changes = changes(resource, part, old, given);
        managers.update(&owner(resource, part, write), &changes);
        managers
    });
    put(object, managers, write.now);
}

fn changes(resource: &Resource, part: Part, old: &Value, new: &Value) -> Changes {
    let Some(root) = resource.root() else { return Changes::default() };
    let changes = managed::compare(root, old, new);
    let scope = |set: &Set| scope(resource, part, set);
    Changes { written: scope(&changes.written), removed: scope(&changes.removed) }
}

fn put(object: &mut Value, mut managers: Managers, now: i64) {
    managers.stamp(now);
    let metadata = meta::metadata(object);
    if managers.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), managers.to_json());
    }
}
