//! Server-side apply: a manifest becomes an object, or is merged into the one that is there.

use super::{Part, Registry, Validation, Write, meta, track};
use crate::error::{Contest, Error};
use crate::managed::entries::Owner;
use crate::managed::{self, Collision, Set};
use crate::resources::{Kind, Resource};
use crate::store::{Key, Object};
use serde_json::Value;
use std::sync::Arc;

impl Registry {
    /// Applies a manifest for the writing manager; also says whether the object is new.
    pub(crate) fn apply(
        &mut self,
        kind: Kind,
        key: &Key,
        part: Part,
        mut config: Value,
        force: bool,
        write: Write<'_>,
    ) -> Result<(Arc<Object>, bool), Error> {
        let resource = write.resource(kind);
        if config["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Error::BadRequest { message: "metadata.managedFields must be nil".into() });
        }
        check_type(resource, &config)?;
        if config["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            let name = &key.name;
            let message = format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            );
            return Err(Error::BadRequest { message });
        }
        let own = config["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        meta::adopt(resource, &key.namespace, &mut config)?;
        check_declared(resource, &Key::new(&own, &key.name), &config)?;
        crate::admission::drop_nulls(&mut config);
        let owner = Owner::apply(write.manager, &resource.api_version(), part.subresource());
        let scope = |set: &Set| track::scope(resource, part, set);
        let empty = Value::Object(serde_json::Map::new());
        let old = self.store.get(kind, key);
        let live = match &old {
            Some(old) => bare(&resource.shown(&old.value)),
            None if matches!(part, Part::Status | Part::Approval) => {
                return self.get(kind, key).map(|it| (it, false));
            }
            None => empty,
        };
        let managers = old.as_ref().map(|old| &old.value["metadata"]["managedFields"]);
        let managers = managers.map(|it| track::managers(resource, it)).unwrap_or_default();
        let root = resource.root().ok_or(Error::UnknownPath)?;
        if let Some(old) = &old {
            meta::check_same(resource, key, &config, &old.value)?;
        }
        let applied = managed::apply(root, &live, &config, &managers, &owner, force, scope)
            .map_err(contested)?;
        // What nobody knows was refused above.
        let write = Write { validation: Validation::Ignore, ..write };
        let managers = Some(applied.managers);
        if old.is_some() {
            let updated = self.update_for(kind, key, part, applied.object, managers, write)?;
            return Ok((updated, false));
        }
        let created = self.create_for(kind, &key.namespace, applied.object, managers, write)?;
        Ok((created, true))
    }
}

fn contested(collisions: Vec<Collision>) -> Error {
    let contest = |Collision { owner, paths }| Contest { owner: in_words(&owner), paths };
    Error::Contested { contests: collisions.into_iter().map(contest).collect() }
}

/// `"kubectl-edit" using apps/v1`
fn in_words(owner: &Owner) -> String {
    let part = match owner.subresource.as_str() {
        "" => String::new(),
        part => format!(" with subresource {part:?}"),
    };
    let version =
        if owner.applies { String::new() } else { format!(" using {}", owner.api_version) };
    format!("{:?}{part}{version}", owner.manager)
}

fn check_type(resource: &Resource, config: &Value) -> Result<(), Error> {
    let text = |field: &str| config[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version == resource.api_version() && kind == resource.name {
        return Ok(());
    }
    Err(Error::BadRequest {
        message: format!("invalid object type: {}, Kind={kind}", with_group(version)),
    })
}

/// `/v1` of the core group, as Go prints a group with its version.
fn with_group(version: &str) -> String {
    if version.contains('/') { version.to_owned() } else { format!("/{version}") }
}

/// A manifest to apply has to be understood in full: who knows which field a slip of the pen was meant to be?
fn check_declared(resource: &Resource, key: &Key, config: &Value) -> Result<(), Error> {
    let Some(root) = resource.root() else { return Ok(()) };
    let (kind, version) = (resource.name, with_group(&resource.api_version()));
    let faults = managed::typed::check(root, config);
    let why = match faults.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let place = [&*key.namespace, &*key.name].join("/");
    let message =
        format!("failed to create typed patch object ({place}; {version}, Kind={kind}): {why}");
    Err(Error::Untyped { message })
}

/// Without what the server keeps about the owners.
fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    meta::metadata(&mut bare).remove("managedFields");
    bare
}
