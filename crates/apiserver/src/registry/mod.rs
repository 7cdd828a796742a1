//! What a write means: names, conflicts, defaults, allocation, deletion. Pure; `now` is an argument.
//!
//! ```text
//! request ─► prepare (metadata, admission, allocation) ─► store.put ─► settle: follow up on every change
//!                       │ dry run: stop here                             (allocations, dependents, namespaces)
//! ```

mod accounts;
mod addresses;
mod apply;
mod budgets;
mod certificates;
mod definitions;
mod delete;
mod meta;
mod namespaces;
mod policies;
mod priorities;
mod quotas;
mod restore;
mod runtimes;
mod scale;
mod settle;
mod track;

pub(crate) use definitions::Customs;
pub(crate) use delete::{Deleted, Deletion, Propagation};
pub(crate) use meta::Random;
pub(crate) use scale::view as scale_view;

use crate::access::{Access, User};
use crate::admission::{self, Pools, certificate};
use crate::error::{Clash, Error, Prohibition};
use crate::managed::entries::Managers;
use crate::patch::Patch;
use crate::policy::Policies;
use crate::policy::webhook::Outside;
use crate::resources::{Kind, Resource, StatusRule};
use crate::rights::{bootstrap, escalation};
use crate::schema;
use crate::store::{Key, Object, Store};
use serde_json::Value;
use std::sync::Arc;

/// Circumstances of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// Answer as if it were done, but do not do it.
    pub(crate) dry_run: bool,
    pub(crate) validation: Validation,
    /// Fields that the client's text has twice.
    pub(crate) twice: &'a [String],
    /// Who writes, as `metadata.managedFields` names it.
    pub(crate) manager: &'a str,
    /// The form of the object that the client knows; none: the stored one.
    pub(crate) form: Option<&'static Resource>,
    /// Who asks; none: the server itself.
    pub(crate) caller: Option<&'a User>,
}

impl Write<'_> {
    /// A write of the server itself.
    pub(crate) fn own(now: i64) -> Self {
        let validation = Validation::Strict;
        Self {
            now,
            dry_run: false,
            validation,
            twice: &[],
            manager: "kube-apiserver",
            form: None,
            caller: None,
        }
    }

    fn resource(&self, kind: Kind) -> &'static Resource {
        self.form.unwrap_or(kind.resource())
    }
}

/// What is to be done about fields that nobody knows (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Validation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Which half of an object a request writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    Status,
    /// Whether a certificate shall be issued, which belongs to the status.
    Approval,
    /// How many there shall be, which belongs to the main part.
    Scale,
    /// Containers that join a pod that runs.
    EphemeralContainers,
    /// What a pod's containers need, which changes while it runs.
    Resize,
}

impl Part {
    /// As owners of fields say it.
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Approval => "approval",
            Self::Scale => "scale",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
        }
    }
}

/// The store and the rules around it.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) store: Store,
    pools: Pools,
    random: Random,
    pub(crate) customs: Customs,
    pub(crate) policies: Policies,
    /// What the write under way asks webhooks.
    pub(crate) outside: Outside,
    /// The authority behind the server's certificate, where it has one.
    authority: Option<Arc<Access>>,
    /// What the client is to be told about its request, though it succeeds.
    warnings: Vec<String>,
}

impl Registry {
    /// A cluster with its four first namespaces and the roles and priorities that every cluster has. `seed` makes the uids.
    #[must_use]
    pub(crate) fn new(
        store: Store,
        pools: Pools,
        seed: u64,
        authority: Option<Arc<Access>>,
        now: i64,
    ) -> Self {
        let mut registry = Self::bare(store, pools, seed, authority);
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = serde_json::json!({"metadata": {"name": name}});
            registry
                .create(Kind::Namespace, "", namespace, Write::own(now))
                .expect("the first namespaces are valid");
        }
        let classes = priorities::classes().map(|it| (Kind::PriorityClass, String::new(), it));
        let own = classes.into_iter().chain([accounts::tracking(now)]);
        for (kind, namespace, object) in bootstrap::objects().into_iter().chain(own) {
            registry
                .create(kind, &namespace, object, Write::own(now))
                .expect("the first objects are valid");
        }
        registry
    }

    fn bare(store: Store, pools: Pools, seed: u64, authority: Option<Arc<Access>>) -> Self {
        let random = Random::new(seed);
        let (customs, policies) = (Customs::default(), Policies::default());
        let outside = Outside::default();
        Self { store, pools, random, customs, policies, outside, authority, warnings: Vec::new() }
    }

    /// The object, or `NotFound`.
    pub(crate) fn get(&self, kind: Kind, key: &Key) -> Result<Arc<Object>, Error> {
        let missing = || Error::NotFound { resource: kind.resource(), name: key.name.clone() };
        self.store.get(kind, key).ok_or_else(missing)
    }

    /// What to tell the client of the last request, each thing once.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        for warning in std::mem::take(&mut self.warnings) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }

    /// Creates an object in the namespace of the request.
    pub(crate) fn create(
        &mut self,
        kind: Kind,
        namespace: &str,
        object: Value,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        self.create_for(kind, namespace, object, None, write)
    }

    /// `managers`: who owns its fields, where that is decided already.
    fn create_for(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        managers: Option<Managers>,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        let resource = write.resource(kind);
        meta::adopt(resource, namespace, &mut object)?;
        self.decode(resource, &mut object, write)?;
        meta::metadata(&mut object).remove("managedFields");
        let asked = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = self.name(resource, namespace, &mut object)?;
        self.check_namespace(resource, &key)?;
        self.check_definition(resource)?;
        meta::begin(resource, &mut object, &mut self.random, write.now);
        if resource.status != StatusRule::SeparateOnceCreated {
            meta::drop_status(resource, &mut object);
        }
        certificates::begin(resource, &mut object, write);
        admission::complete(resource, &mut object, None);
        self.check_rights(resource, &key, &object, None, write)?;
        let given = object.clone();
        self.complete_limits(resource, &key, &mut object);
        let asked = Key::new(&key.namespace, &asked);
        let key = match self.mutate(resource, &asked, Part::Main, &mut object, None, write)? {
            true => self.name(resource, namespace, &mut object)?,
            false => key,
        };
        admission::admit(resource, &mut object, None)?;
        self.check_custom(resource, &object, None)?;
        certificates::check_subject(resource, &key, &object)?;
        track::begin(resource, &given, &mut object, managers, write);
        let mut object = resource.stored(object);
        self.pools.allocate(kind, &mut object, None, write.dry_run)?;
        if kind == Kind::Pod {
            self.assign_account(resource, &key, &mut object)?;
            self.assign_priority(resource, &key, &mut object)?;
            self.assign_runtime(resource, &key, &mut object)?;
        }
        self.ask_about_new(resource, &asked, &object, write)?;
        self.check_room(kind.resource(), &key, &object, None)?;
        if self.store.get(kind, &key).is_some() {
            return Err(Error::AlreadyExists { resource, name: key.name });
        }
        Ok(self.finish(kind, key, object, write))
    }

    /// Replaces one part of an object.
    pub(crate) fn update(
        &mut self,
        kind: Kind,
        key: &Key,
        part: Part,
        object: Value,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        self.update_for(kind, key, part, object, None, write)
    }

    fn update_for(
        &mut self,
        kind: Kind,
        key: &Key,
        part: Part,
        mut object: Value,
        managers: Option<Managers>,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        let (resource, old) = (write.resource(kind), self.get(kind, key)?);
        let before = resource.shown(&old.value);
        meta::adopt(resource, &key.namespace, &mut object)?;
        self.decode(resource, &mut object, write)?;
        meta::check_same(resource, key, &object, &before)?;
        meta::keep(&mut object, &before);
        let claimed = meta::metadata(&mut object).remove("managedFields");
        let asked = (part == Part::Resize).then(|| object.clone());
        keep_parts(resource, part, &mut object, &before, write);
        if part != Part::Status || definitions::covers_status(resource) {
            self.check_custom(resource, &object, Some(&before))?;
        }
        admission::complete(resource, &mut object, Some(&before));
        self.check_rights(resource, key, &object, Some(&before), write)?;
        let given = match asked {
            Some(mut asked) => {
                admission::complete(resource, &mut asked, Some(&before));
                asked
            }
            None => object.clone(),
        };
        if self.mutate(resource, key, part, &mut object, Some(&before), write)? {
            keep_parts(resource, part, &mut object, &before, write);
            self.check_custom(resource, &object, Some(&before))?;
        }
        if matches!(part, Part::Status | Part::Approval) {
            admission::admit_status(resource, &mut object, &before, part)?;
        } else {
            match part {
                Part::EphemeralContainers => {
                    admission::admit_guests(resource, &object, &before)?;
                }
                Part::Resize => admission::admit_resize(resource, &object, &before)?,
                _ => admission::admit(resource, &mut object, Some(&before))?,
            }
            self.pools.allocate(kind, &mut object, Some(&before), write.dry_run)?;
            meta::count_generation(resource, &mut object, &before);
        }
        self.check_signer(resource, part, &before, &object, write)?;
        self.ask_about_change(resource, key, part, (&object, &before), write)?;
        if matches!(part, Part::Main | Part::Resize) {
            self.check_room(resource, key, &object, Some(&before))?;
        }
        let managers = managers.ok_or(claimed);
        track::follow(resource, part, &before, &given, &mut object, managers, write);
        let mut object = resource.stored(object);
        if !resource.is_stored() {
            meta::keep_unseen(resource, part, &mut object, &old.value);
        }
        if object == old.value {
            return Ok(old);
        }
        if !write.dry_run && meta::is_finished(&object) {
            self.store.remove(kind, key);
            self.settle(write.now);
            return Ok(Arc::new(Object::unsaved(object)));
        }
        let written = self.finish(kind, key.clone(), object, write);
        if kind == Kind::ResourceQuota && part == Part::Status {
            // Whatever was said of it, the server counts.
            self.count_quota(key);
            self.settle(write.now);
        }
        Ok(written)
    }

    /// Drops unknown fields, or refuses them, and refuses fields of the wrong type.
    fn decode(
        &mut self,
        resource: &Resource,
        object: &mut Value,
        write: Write<'_>,
    ) -> Result<(), Error> {
        let Some(root) = resource.root() else { return Ok(()) };
        let (kind, version) = (resource.name, resource.version);
        let refuse = |why: String| Error::BadRequest {
            message: format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"),
        };
        let mut unknown = Vec::new();
        match resource.kind {
            Kind::Custom(custom) => {
                let version = custom.version(version);
                unknown.extend(version.into_iter().flat_map(|it| it.complete(object)));
            }
            _ => schema::decode::decode(root, object, &mut unknown).map_err(refuse)?,
        }
        unknown.extend(write.twice.iter().map(|field| format!("duplicate field {field:?}")));
        match write.validation {
            _ if unknown.is_empty() => {}
            Validation::Ignore => {}
            Validation::Warn => self.warnings.extend(unknown),
            Validation::Strict => {
                return Err(refuse(format!("strict decoding error: {}", unknown.join(", "))));
            }
        }
        Ok(())
    }

    /// Patches one part of an object.
    pub(crate) fn patch(
        &mut self,
        kind: Kind,
        key: &Key,
        part: Part,
        patch: &Patch,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        let (resource, old) = (write.resource(kind), self.get(kind, key)?);
        let object = patch.apply(resource, &resource.shown(&old.value))?;
        meta::check_uid(resource, key, &object, &old.value)?;
        let text = |object: &Value| object.to_string();
        let patched = object.clone();
        self.update(kind, key, part, object, write).map_err(|error| match error {
            Error::BadRequest { message } if message.contains(" cannot be handled as a ") => {
                let (_, why) = message.split_once(": ").unwrap_or_default();
                Error::BadPatch { patched: text(&patched), why: why.to_owned() }
            }
            error => error,
        })
    }

    /// Assigns a pod to a node (`pods/binding`).
    pub(crate) fn bind(&mut self, key: &Key, node: &str, write: Write<'_>) -> Result<(), Error> {
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
        let mut object = old.value.clone();
        object["spec"]["nodeName"] = node.into();
        let scheduled = serde_json::json!({"type": "PodScheduled", "status": "True",
            "lastProbeTime": null, "lastTransitionTime": crate::time::rfc3339(write.now)});
        let conditions = &mut object["status"]["conditions"];
        match conditions.as_array_mut() {
            Some(list) => {
                list.retain(|condition| condition["type"] != "PodScheduled");
                list.push(scheduled);
            }
            None => *conditions = serde_json::json!([scheduled]),
        }
        self.finish(Kind::Pod, key.clone(), object, write);
        Ok(())
    }

    /// Whether the writer has the rights that he gives.
    fn check_rights(
        &self,
        resource: &'static Resource,
        key: &Key,
        object: &Value,
        old: Option<&Value>,
        write: Write<'_>,
    ) -> Result<(), Error> {
        write
            .caller
            .map_or(Ok(()), |user| escalation::check(&self.store, user, resource, key, object, old))
    }

    fn finish(&mut self, kind: Kind, key: Key, object: Value, write: Write<'_>) -> Arc<Object> {
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

/// Leaves what a request for this part does not write as it was.
fn keep_parts(
    resource: &Resource,
    part: Part,
    object: &mut Value,
    before: &Value,
    write: Write<'_>,
) {
    meta::keep_all_but(part, resource, object, before);
    if resource.kind == Kind::CertificateSigningRequest {
        certificate::keep(part, object, before, write.now);
    }
}

#[cfg(test)]
mod tests;
