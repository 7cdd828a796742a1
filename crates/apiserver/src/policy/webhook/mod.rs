//! Webhooks: somebody outside who decides about writes, and changes them. Pure.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>. A write does not wait
//! for them under the registry's lock: what it would have to ask it notes down ([`Outside`]) and gives up, and it is
//! done once more with the answers. If everything is as it was, it asks the same, and knows the answer.

mod answer;
mod outside;

use super::evaluation::Evaluation;
use super::{Attributes, Match, Policy, Turns, is_own, items};
use crate::error::{Error, Prohibition};
use crate::registry::Registry;
use crate::resources::Resource;
use answer::Answer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
pub(crate) use outside::{Call, Outcome, Outside, Target};
use serde_json::{Value, json};

/// One webhook of a configuration.
#[derive(Debug)]
pub(crate) struct Hook {
    name: String,
    rules: Match,
    /// Its conditions, and what failures mean.
    policy: Policy,
    target: Target,
    /// PEM, of who vouches for it.
    authority: Vec<u8>,
    timeout_seconds: u64,
    review_version: &'static str,
    has_side_effects: bool,
    wants_again: bool,
}

/// The webhooks of a configuration.
pub(super) fn hooks(configuration: &Value) -> Vec<Hook> {
    items(&configuration["webhooks"]).map(Hook::new).collect()
}

impl Hook {
    fn new(webhook: &Value) -> Self {
        let client = &webhook["clientConfig"];
        let versions = items(&webhook["admissionReviewVersions"]);
        let known = versions.filter_map(|it| match it.as_str()? {
            "v1" => Some("admission.k8s.io/v1"),
            "v1beta1" => Some("admission.k8s.io/v1beta1"),
            _ => None,
        });
        let authority = client["caBundle"].as_str().unwrap_or_default();
        Self {
            name: webhook["name"].as_str().unwrap_or_default().to_owned(),
            rules: Match::of(webhook, "rules"),
            policy: Policy::new(webhook),
            target: Target::new(client),
            authority: STANDARD.decode(authority).unwrap_or_default(),
            timeout_seconds: webhook["timeoutSeconds"].as_u64().unwrap_or(10),
            review_version: known.into_iter().next().unwrap_or("admission.k8s.io/v1"),
            has_side_effects: webhook["sideEffects"] == "Some"
                || webhook["sideEffects"] == "Unknown",
            wants_again: webhook["reinvocationPolicy"] == "IfNeeded",
        }
    }

    /// What to ask; none: nothing.
    fn call(
        &self,
        registry: &Registry,
        request: &Attributes<'_>,
    ) -> Result<Option<(Call, &'static Resource)>, Error> {
        let Some(form) = self.rules.form(registry, request) else { return Ok(None) };
        if !self.policy.conditions.is_empty() {
            let (asked, user) = (request, request.user);
            let holds = Evaluation::new(registry, &self.policy, (asked, user), form, None).holds();
            match holds {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(_why) if self.policy.ignores_failures => return Ok(None),
                Err(why) => {
                    let (resource, name) = (request.resource, request.name.clone().into_owned());
                    let why = Prohibition::Condition { why };
                    return Err(Error::Forbidden { resource, name, why });
                }
            }
        }
        if request.dry_run && self.has_side_effects {
            let message = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(Error::BadRequest { message });
        }
        let (object, old) = request.in_form(form);
        let mut asked = request.request(form);
        asked["object"] = object.unwrap_or_default();
        asked["oldObject"] = old.unwrap_or_default();
        let call = Call {
            target: self.target.clone(),
            authority: self.authority.clone(),
            timeout_seconds: self.timeout_seconds,
            review: json!({"kind": "AdmissionReview", "apiVersion": self.review_version, "request": asked}),
        };
        Ok(Some((call, form)))
    }

    /// Its answer; an error: it could not be asked, and that is the end. None: nor is it.
    fn answer(
        &self,
        outcome: &Result<Value, String>,
        changes: bool,
    ) -> Result<Option<Answer>, Error> {
        let read = outcome.as_ref().map_err(Clone::clone);
        let failed = match read.and_then(|review| Ok((review, answer::patch(review)?))) {
            Ok((review, patch)) => {
                match Answer::read(review, patch, self.review_version, changes) {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(why) => format!("received invalid webhook response: {why}"),
                }
            }
            Err(why) => format!("failed to call webhook: {why}"),
        };
        if self.policy.ignores_failures {
            return Ok(None);
        }
        let message = format!("failed calling webhook {:?}: {failed}", self.name);
        Err(Error::Internal { message })
    }
}

/// Puts a request to all validating webhooks at once.
pub(crate) fn validate(
    registry: &Registry,
    request: &Attributes<'_>,
) -> (Result<(), Error>, Vec<String>) {
    let mut warnings = Vec::new();
    if is_own(request.resource.kind) {
        return (Ok(()), warnings);
    }
    let hooks = registry.policies.validating_hooks.values().flatten();
    let mut outcomes = Vec::new();
    for hook in hooks {
        match hook.call(registry, request) {
            Ok(Some((call, _))) => outcomes.push((hook, registry.outside.ask(call))),
            Ok(None) => {}
            Err(error) => return (Err(error), warnings),
        }
    }
    if outcomes.iter().any(|(_, outcome)| outcome.is_none()) {
        return (Err(Error::Unanswered), warnings);
    }
    let mut decided = Ok(());
    for (hook, outcome) in outcomes {
        let Some(outcome) = outcome else { continue };
        let judged = hook.answer(&outcome, false).and_then(|answer| {
            let Some(answer) = answer else { return Ok(()) };
            warnings.extend(answer.warnings.iter().cloned());
            answer.verdict(&hook.name)
        });
        decided = decided.and(judged);
    }
    (decided, warnings)
}

/// What a request looks like after all mutating webhooks, one after the other.
pub(crate) fn mutate(
    registry: &Registry,
    request: &Attributes<'_>,
    turns: &mut Turns,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, Error> {
    let mut object = request.object.cloned();
    if is_own(request.resource.kind) {
        return Ok(object);
    }
    for (configuration, hooks) in &registry.policies.mutating_hooks {
        for hook in hooks {
            let who = format!("{configuration} {}", hook.name);
            if !turns.asks(&who) {
                continue;
            }
            let asked = Attributes { object: object.as_ref(), ..request.clone() };
            let Some((call, form)) = hook.call(registry, &asked)? else { continue };
            let Some(outcome) = registry.outside.ask(call) else { return Err(Error::Unanswered) };
            let mut changed = false;
            if let Some(answer) = hook.answer(&outcome, true)? {
                warnings.extend(answer.warnings.iter().cloned());
                answer.verdict(&hook.name)?;
                if let Some(new) = answer.apply(&hook.name, &asked, form)? {
                    changed = object.as_ref() != Some(&new);
                    object = Some(new);
                }
            }
            turns.asked(who, changed, hook.wants_again);
        }
    }
    Ok(object)
}
