//! Admission policies: expressions that decide about writes, and change them. Pure.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>. *Here*: policies and their
//! bindings as they are compiled once ([`Policies`]), what a request is to them ([`Attributes`]), which of them are
//! about it (`matching`), with which parameters (`params`), what they say (`validating`) and what they change (`mutating`).
//! Where there are no policies, nothing of this is done for any write.

mod attributes;
mod evaluation;
mod matching;
mod mutating;
mod params;
mod types;
mod validating;
pub(crate) mod webhook;

pub(crate) use attributes::{Attributes, Operation};
pub(crate) use matching::Match;
pub(crate) use mutating::{Turns, mutate};
pub(crate) use types::type_checking;
pub(crate) use validating::validate;

use crate::expression::Expression;
use crate::registry::Registry;
use crate::resources::{Kind, Resource};
use crate::store::Change;
use mutating::Mutation;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use webhook::Hook;

/// All policies and bindings of a cluster, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    pub(crate) validating: Set,
    pub(crate) mutating: Set,
    /// By the names of their configurations.
    validating_hooks: BTreeMap<Arc<str>, Vec<Hook>>,
    mutating_hooks: BTreeMap<Arc<str>, Vec<Hook>>,
}

/// Policies of one sort, by their names.
#[derive(Debug, Default)]
pub(crate) struct Set {
    policies: BTreeMap<Arc<str>, Policy>,
    bindings: BTreeMap<Arc<str>, Binding>,
}

impl Set {
    /// Whether nothing has to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.policies.is_empty() || self.bindings.is_empty()
    }

    /// The policies that are about a request, once for each binding by which they are.
    fn about(&self, registry: &Registry, request: &Attributes<'_>) -> Vec<Bound<'_>> {
        if self.is_empty() || is_exempt(request.resource.kind) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (name, policy) in &self.policies {
            let Some(form) = policy.constraints.form(registry, request) else { continue };
            for (binding_name, binding) in &self.bindings {
                let applies = |it: &Match| it.narrows_to(registry, request);
                if binding.policy == **name && binding.resources.as_ref().is_none_or(applies) {
                    found.push(Bound { name, policy, binding_name, binding, form });
                }
            }
        }
        found
    }
}

/// A policy that is to be asked, by a binding, and the form of the object that it wants to see.
struct Bound<'a> {
    name: &'a str,
    policy: &'a Policy,
    binding_name: &'a str,
    binding: &'a Binding,
    form: &'static Resource,
}

impl Policies {
    /// Takes note of a policy or binding that has changed.
    pub(crate) fn follow(&mut self, change: &Change) {
        let name = change.key.name.as_ref();
        let whole = change.new.as_ref().map(|object| &object.value);
        let new = whole.map(|object| &object["spec"]);
        match change.kind {
            Kind::ValidatingAdmissionPolicy => {
                put(&mut self.validating.policies, name, new.map(Policy::new));
            }
            Kind::ValidatingAdmissionPolicyBinding => {
                put(&mut self.validating.bindings, name, new.map(Binding::new));
            }
            Kind::MutatingAdmissionPolicy => {
                put(&mut self.mutating.policies, name, new.map(Policy::new));
            }
            Kind::MutatingAdmissionPolicyBinding => {
                put(&mut self.mutating.bindings, name, new.map(Binding::new));
            }
            Kind::ValidatingWebhookConfiguration => {
                put(&mut self.validating_hooks, name, whole.map(|it| webhook::hooks(it)));
            }
            Kind::MutatingWebhookConfiguration => {
                put(&mut self.mutating_hooks, name, whole.map(|it| webhook::hooks(it)));
            }
            _ => {}
        }
    }

    /// Whether writes may have to wait for somebody outside.
    pub(crate) fn has_hooks(&self) -> bool {
        !(self.validating_hooks.is_empty() && self.mutating_hooks.is_empty())
    }

    /// Whether anybody is asked whether a write is good.
    pub(crate) fn validates(&self) -> bool {
        !(self.validating.is_empty() && self.validating_hooks.is_empty())
    }

    /// Whether anybody is asked how to change a write.
    pub(crate) fn mutates(&self) -> bool {
        !(self.mutating.is_empty() && self.mutating_hooks.is_empty())
    }
}

fn put<T>(all: &mut BTreeMap<Arc<str>, T>, name: &str, new: Option<T>) {
    match new {
        Some(new) => drop(all.insert(name.into(), new)),
        None => drop(all.remove(name)),
    }
}

/// Kinds that no policy is asked about: those that ask questions, and policies themselves, so that nobody locks himself
/// out.
pub(crate) fn is_exempt(kind: Kind) -> bool {
    let resource = kind.resource();
    let asks = ["authentication.k8s.io", "authorization.k8s.io"].contains(&resource.group);
    asks || is_own(kind)
}

/// Kinds of which [`Policies`] are made.
pub(crate) const KINDS: [Kind; 6] = [
    Kind::ValidatingWebhookConfiguration,
    Kind::MutatingWebhookConfiguration,
    Kind::ValidatingAdmissionPolicy,
    Kind::ValidatingAdmissionPolicyBinding,
    Kind::MutatingAdmissionPolicy,
    Kind::MutatingAdmissionPolicyBinding,
];

/// Kinds by which admission is configured.
fn is_own(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingAdmissionPolicy
            | Kind::MutatingAdmissionPolicyBinding
            | Kind::ValidatingWebhookConfiguration
            | Kind::MutatingWebhookConfiguration
    )
}

/// A policy, compiled.
#[derive(Debug)]
struct Policy {
    constraints: Match,
    /// What a failure means: that the policy says nothing.
    ignores_failures: bool,
    /// `apiVersion` and `kind` of its parameters.
    params: Option<(String, String)>,
    conditions: Vec<Expression>,
    variables: Vec<(String, Expression)>,
    validations: Vec<Validation>,
    /// What no audit log takes; it may fail all the same.
    annotations: Vec<Expression>,
    mutations: Vec<Mutation>,
    /// It is asked once more when others changed something after it.
    wants_again: bool,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message_expression: Option<Expression>,
    message: String,
    reason: String,
}

#[derive(Debug)]
struct Binding {
    policy: String,
    /// None: as the policy.
    resources: Option<Match>,
    param_ref: Option<params::Reference>,
    denies: bool,
    warns: bool,
}

impl Policy {
    /// Whatever does not compile was refused when it was written.
    fn new(spec: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let expressions = |list: &str, field: &str| -> Vec<Expression> {
            items(&spec[list]).filter_map(|it| expression(&it[field])).collect()
        };
        let variable = |it: &Value| Some((text(&it["name"]), expression(&it["expression"])?));
        let kind = &spec["paramKind"];
        Self {
            constraints: Match::new(&spec["matchConstraints"]),
            ignores_failures: spec["failurePolicy"] == "Ignore",
            params: kind.is_object().then(|| (text(&kind["apiVersion"]), text(&kind["kind"]))),
            conditions: expressions("matchConditions", "expression"),
            variables: items(&spec["variables"]).filter_map(variable).collect(),
            validations: items(&spec["validations"]).filter_map(Validation::new).collect(),
            annotations: expressions("auditAnnotations", "valueExpression"),
            mutations: items(&spec["mutations"]).filter_map(Mutation::new).collect(),
            wants_again: spec["reinvocationPolicy"] == "IfNeeded",
        }
    }
}

impl Validation {
    fn new(validation: &Value) -> Option<Self> {
        let text = |field: &str| validation[field].as_str().unwrap_or_default().trim().to_owned();
        Some(Self {
            expression: expression(&validation["expression"])?,
            message_expression: expression(&validation["messageExpression"]),
            message: text("message"),
            reason: match text("reason") {
                none if none.is_empty() => "Invalid".to_owned(),
                reason => reason,
            },
        })
    }
}

impl Binding {
    fn new(spec: &Value) -> Self {
        let acts = |action: &str| items(&spec["validationActions"]).any(|it| it == action);
        let resources = &spec["matchResources"];
        Self {
            policy: spec["policyName"].as_str().unwrap_or_default().to_owned(),
            resources: resources.is_object().then(|| Match::new(resources)),
            param_ref: params::Reference::new(&spec["paramRef"]),
            denies: acts("Deny"),
            warns: acts("Warn"),
        }
    }
}

fn expression(text: &Value) -> Option<Expression> {
    let text = text.as_str().filter(|text| !text.trim().is_empty())?;
    Expression::parse(text).ok()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests;
