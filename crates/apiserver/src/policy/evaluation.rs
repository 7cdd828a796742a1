//! What the expressions of a policy see of a request.

use super::{Attributes, Policy};
use crate::access::User;
use crate::expression::{Expression, Fault, Scope};
use crate::registry::Registry;
use crate::resources::{Kind, Resource};
use crate::rights::{self, Question};
use crate::store::Key;
use cel::Value as Cel;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A request put to one policy, with one parameter.
pub(super) struct Evaluation<'a> {
    scope: Scope,
    policy: &'a Policy,
    registry: &'a Registry,
    user: &'a User,
    defined: BTreeSet<usize>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        policy: &'a Policy,
        (request, user): (&Attributes<'_>, &'a User),
        form: &'static Resource,
        params: Option<&Value>,
    ) -> Self {
        let mut scope = Scope::new();
        let (object, old) = request.in_form(form);
        scope.set("object", &object.unwrap_or_default());
        scope.set("oldObject", &old.unwrap_or_default());
        scope.set("request", &request.request(form));
        scope.set("namespaceObject", &namespace(registry, request));
        if policy.params.is_some() {
            scope.set("params", params.unwrap_or(&Value::Null));
        }
        scope.set_authorizer(&question(request));
        Self { scope, policy, registry, user, defined: BTreeSet::new() }
    }

    pub(super) fn evaluate(&mut self, expression: &Expression) -> Result<Cel, Fault> {
        self.define_for(expression);
        self.value(expression)
    }

    /// With answers to all that it asks about rights.
    fn value(&mut self, expression: &Expression) -> Result<Cel, Fault> {
        let (store, user) = (&self.registry.store, self.user);
        let mut judge = |account: Option<&str>, question: &Question| {
            let account = account.map(User::of_account);
            rights::judge(store, account.as_ref().unwrap_or(user), question)
        };
        loop {
            let found = self.scope.evaluate(expression);
            if !self.scope.answer(&mut judge) {
                return found;
            }
        }
    }

    /// Whether the policy's conditions hold; the first that does not decides, even where others fail.
    pub(super) fn holds(&mut self) -> Result<bool, String> {
        let mut faults = Vec::new();
        for condition in &self.policy.conditions {
            match self.value(condition) {
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(fault) => faults.push(told(condition, &fault)),
            }
        }
        match &faults[..] {
            [] => Ok(true),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }

    /// Variables that an expression uses, and those that they use, the first of them first.
    fn define_for(&mut self, expression: &Expression) {
        let policy = self.policy;
        for name in expression.fields_of("variables") {
            let at = policy.variables.iter().position(|(own, _)| *own == name);
            let Some(at) = at.filter(|at| !self.defined.contains(at)) else { continue };
            // Marked before those below, so that none can need itself.
            self.defined.insert(at);
            let (name, variable) = &policy.variables[at];
            self.define_for(variable);
            let name = format!("variables.{name}");
            match self.value(variable) {
                Ok(value) => self.scope.put(&name, value),
                Err(fault) => self.scope.fail(&name, &fault),
            }
        }
    }
}

/// An expression that has no value, as decisions tell it.
pub(super) fn told(expression: &Expression, fault: &Fault) -> String {
    match fault {
        Fault::Budget => fault.to_string(),
        Fault::Limit | Fault::Error(_) => {
            format!("expression '{}' resulted in error: {fault}", expression.text())
        }
    }
}

/// What the request itself wants, as roles see it.
fn question(request: &Attributes<'_>) -> Question {
    let verb = request.operation.name().to_lowercase();
    Question {
        subresource: request.subresource.to_owned(),
        namespace: request.namespace.clone().into_owned(),
        name: request.name.clone().into_owned(),
        ..Question::about(&verb, request.resource.group, request.resource.plural)
    }
}

/// What policies may know of a namespace.
fn namespace(registry: &Registry, request: &Attributes<'_>) -> Value {
    if request.namespace.is_empty() || request.resource.kind == Kind::Namespace {
        return Value::Null;
    }
    let key = Key::new("", &request.namespace);
    let Some(namespace) = registry.store.get(Kind::Namespace, &key) else { return Value::Null };
    let mut metadata = Map::new();
    for field in [
        "name",
        "generateName",
        "labels",
        "annotations",
        "uid",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "resourceVersion",
        "finalizers",
    ] {
        if let Some(value) = namespace.value["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let part = |field: &str| namespace.value.get(field).cloned().unwrap_or_default();
    serde_json::json!({"metadata": metadata, "spec": part("spec"), "status": part("status")})
}
