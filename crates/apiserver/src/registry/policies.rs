//! Where admission policies are asked about a write.

use super::meta::Random;
use super::{Part, Registry, Write, scale};
use crate::access::User;
use crate::admission;
use crate::error::Error;
use crate::policy::webhook::Outside;
use crate::policy::{self, Attributes, Operation, Turns, webhook};
use crate::resources::{Kind, Resource};
use crate::store::{Change, Key};
use serde_json::{Value, json};

impl Registry {
    /// Does something that may ask webhooks, with the answers that are there.
    pub(crate) fn asking<T>(
        &mut self,
        outside: &mut Outside,
        act: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.policies.has_hooks() {
            return act(self);
        }
        let seed = *outside.seed.get_or_insert_with(|| self.random.next());
        let random = std::mem::replace(&mut self.random, Random::new(seed));
        std::mem::swap(&mut self.outside, outside);
        let result = act(self);
        std::mem::swap(&mut self.outside, outside);
        self.random = random;
        result
    }

    /// What a client sent; it is needed again where the write may be tried again.
    pub(crate) fn taken(&self, body: &mut Option<Value>) -> Value {
        let body = if self.policies.has_hooks() { body.clone() } else { body.take() };
        body.unwrap_or_default()
    }

    /// `key`: as the client asks, so that a name that was made up is none; `object` is stored already.
    pub(super) fn ask_about_new(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        object: &Value,
        write: Write<'_>,
    ) -> Result<(), Error> {
        let Some(user) = self.asks_about(write) else { return Ok(()) };
        let object = resource.shown(object);
        let options = options("CreateOptions", write);
        let (object, dry_run) = (Some(&*object), write.dry_run);
        let request = Attributes::new(Operation::Create, resource, key, user);
        self.ask(&Attributes { object, dry_run, options, ..request })
    }

    /// A change of `old` to `new`.
    pub(super) fn ask_about_change(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        part: Part,
        (new, old): (&Value, &Value),
        write: Write<'_>,
    ) -> Result<(), Error> {
        let Some(user) = self.asks_about(write) else { return Ok(()) };
        let seen = resource.scale.filter(|_| part == Part::Scale);
        let views = seen.map(|seen| (scale::view(seen, new), scale::view(seen, old)));
        let (new, old) = views.as_ref().map_or((new, old), |(new, old)| (new, old));
        let options = options("UpdateOptions", write);
        let request = Attributes::new(Operation::Update, resource, key, user);
        self.ask(&Attributes {
            subresource: part.subresource(),
            kind: seen.map(|_| ("autoscaling", "v1", "Scale")),
            object: Some(new),
            old: Some(old),
            dry_run: write.dry_run,
            options,
            ..request
        })
    }

    pub(super) fn ask_about_end(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        old: &Value,
        write: Write<'_>,
    ) -> Result<(), Error> {
        let Some(user) = self.asks_about(write) else { return Ok(()) };
        let old = resource.shown(old);
        let options = options("DeleteOptions", write);
        let (old, dry_run) = (Some(&*old), write.dry_run);
        let request = Attributes::new(Operation::Delete, resource, key, user);
        let request = Attributes { old, dry_run, options, ..request };
        self.hear(&request)?;
        self.ask(&request)
    }

    /// A request about a part of an object that is kept nowhere: to bind or to evict a pod, or to be connected with it.
    /// `kind`: group, version and kind of `object`, which is what the client sends.
    pub(crate) fn ask_about_act(
        &mut self,
        (operation, subresource): (Operation, &'static str),
        (resource, key): (&'static Resource, &Key),
        kind: (&'static str, &'static str, &'static str),
        object: &Value,
        write: Write<'_>,
    ) -> Result<(), Error> {
        let Some(user) = self.asks_about(write) else { return Ok(()) };
        let options = match operation {
            Operation::Create => options("CreateOptions", write),
            _ => Value::Null,
        };
        let request = Attributes::new(operation, resource, key, user);
        let (object, dry_run) = (Some(object), write.dry_run);
        let kind = Some(kind);
        let request = Attributes { subresource, kind, object, dry_run, options, ..request };
        self.hear(&request)?;
        self.ask(&request)
    }

    /// Says in a policy's status what its expressions mean for the kinds that it is about.
    pub(super) fn settle_policies(&mut self, change: &Change) {
        self.policies.follow(change);
        let (Kind::ValidatingAdmissionPolicy, Some(policy)) = (change.kind, &change.new) else {
            return;
        };
        let (generation, status) =
            (&policy.value["metadata"]["generation"], &policy.value["status"]);
        if status["observedGeneration"] == *generation {
            return;
        }
        let mut object = policy.value.clone();
        let checked = policy::type_checking(&policy.value["spec"], self.customs.kinds());
        object["status"]["observedGeneration"] = generation.clone();
        object["status"]["typeChecking"] = checked;
        self.store.put(change.kind, change.key.clone(), object);
    }

    /// Lets policies change what is written, which is complete. Whatever they make of it has the types of its kind, and
    /// is complete as well.
    pub(super) fn mutate(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        part: Part,
        object: &mut Value,
        old: Option<&Value>,
        write: Write<'_>,
    ) -> Result<bool, Error> {
        let asked = self.policies.mutates() && part != Part::Scale;
        let Some(user) = write.caller.filter(|_| asked) else { return Ok(false) };
        let (operation, options) = match old {
            Some(_) => (Operation::Update, options("UpdateOptions", write)),
            None => (Operation::Create, options("CreateOptions", write)),
        };
        let request = Attributes::new(operation, resource, key, user);
        let (subresource, dry_run) = (part.subresource(), write.dry_run);
        let request = Attributes { subresource, old, dry_run, options, ..request };
        let changed = self.change(&request, object.clone())?;
        let has_changed = changed != *object;
        if has_changed {
            *object = changed;
            // What its schema does not know, nobody is told of.
            resource.custom_version().into_iter().for_each(|it| drop(it.complete(object)));
            admission::complete(resource, object, old);
        }
        Ok(has_changed)
    }

    /// What policies, and then webhooks, make of an object. Where one of them changes something, those that were asked
    /// before are asked once more, if they want to.
    fn change(&mut self, request: &Attributes<'_>, mut object: Value) -> Result<Value, Error> {
        let (mut policies, mut hooks) = (Turns::default(), Turns::default());
        let mut warnings = Vec::new();
        for is_second in [false, true] {
            if is_second {
                policies.again(policies.left != object);
            }
            let asked = Attributes { object: Some(&object), ..request.clone() };
            object = policy::mutate(self, &asked, &mut policies)?;
            policies.left = object.clone();
            if is_second {
                hooks.again(hooks.left != object);
            }
            let asked = Attributes { object: Some(&object), ..request.clone() };
            let changed = webhook::mutate(self, &asked, &mut hooks, &mut warnings);
            self.warnings.append(&mut warnings);
            object = changed?.unwrap_or_default();
            hooks.left = object.clone();
            if !(policies.wants_second || hooks.wants_second) {
                break;
            }
        }
        Ok(object)
    }

    /// Who is asked about; none: there is nobody to ask, or the server itself writes.
    fn asks_about<'a>(&self, write: Write<'a>) -> Option<&'a User> {
        write.caller.filter(|_| self.policies.validates() || self.policies.mutates())
    }

    /// Asks webhooks that change what is written about what is not: they may object.
    fn hear(&mut self, request: &Attributes<'_>) -> Result<(), Error> {
        let mut warnings = Vec::new();
        let heard = webhook::mutate(self, request, &mut Turns::default(), &mut warnings);
        self.warnings.append(&mut warnings);
        heard.map(drop)
    }

    fn ask(&mut self, request: &Attributes<'_>) -> Result<(), Error> {
        let (decided, warnings) = policy::validate(self, request);
        self.warnings.extend(warnings);
        decided?;
        let (decided, warnings) = webhook::validate(self, request);
        self.warnings.extend(warnings);
        decided
    }
}

fn options(kind: &str, write: Write<'_>) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if write.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if kind != "DeleteOptions" {
        options["fieldManager"] = write.manager.into();
    }
    options
}
