//! Policies that say yes or no.
//!
//! Wording: `k8s.io/apiserver/pkg/admission/plugin/policy/validating`.

use super::evaluation::{Evaluation, told};
use super::{Attributes, Binding, Bound, Policy, Validation, params};
use crate::error::Error;
use crate::registry::Registry;
use crate::resources::Resource;
use cel::Value as Cel;

/// The longest message that an expression may make.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// What is against a request.
struct Objection {
    message: String,
    reason: String,
}

impl Objection {
    fn new(message: String) -> Self {
        Self { message, reason: "Invalid".to_owned() }
    }
}

/// Puts a request to all validating policies. The warnings are for the client, whatever the answer is.
pub(crate) fn validate(
    registry: &Registry,
    request: &Attributes<'_>,
) -> (Result<(), Error>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut denied = None;
    for bound in registry.policies.validating.about(registry, request) {
        let Bound { name, policy, binding_name, binding, form } = bound;
        let found = match objections(registry, policy, binding, request, form) {
            Ok(found) => found,
            Err(_why) if policy.ignores_failures => continue,
            Err(why) => {
                let named = why.is_of_binding().then_some(binding_name);
                let objection = Objection::new(why.to_string());
                denied.get_or_insert_with(|| refusal(request, name, named, objection));
                continue;
            }
        };
        for objection in found {
            if binding.warns {
                let message = &objection.message;
                warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding_name}': {message}"
                ));
            }
            if binding.denies && denied.is_none() {
                denied = Some(refusal(request, name, Some(binding_name), objection));
            }
        }
    }
    (denied.map_or(Ok(()), Err), warnings)
}

fn refusal(
    request: &Attributes<'_>,
    policy: &str,
    binding: Option<&str>,
    objection: Objection,
) -> Error {
    let Objection { message, reason } = objection;
    let binding = binding.map(|name| format!(" with binding '{name}'")).unwrap_or_default();
    Error::Policy {
        resource: request.resource,
        name: request.shown_name(),
        why: format!("ValidatingAdmissionPolicy '{policy}'{binding} denied request: {message}"),
        reason,
    }
}

/// What a policy has against a request, as this binding wants to be asked; an error is one of the configuration.
fn objections(
    registry: &Registry,
    policy: &Policy,
    binding: &Binding,
    request: &Attributes<'_>,
    form: &'static Resource,
) -> Result<Vec<Objection>, params::Misconfigured> {
    let params =
        params::collect(registry, policy.params.as_ref(), binding.param_ref.as_ref(), request)?;
    let mut objections = Vec::new();
    for param in params {
        let mut evaluation =
            Evaluation::new(registry, policy, (request, request.user), form, param.as_ref());
        match evaluation.holds() {
            Ok(true) => judge(policy, &mut evaluation, &mut objections),
            Ok(false) => {}
            Err(_why) if policy.ignores_failures => {}
            Err(why) => objections.push(Objection::new(why)),
        }
    }
    Ok(objections)
}

fn judge(policy: &Policy, evaluation: &mut Evaluation<'_>, objections: &mut Vec<Objection>) {
    let failed = |objections: &mut Vec<Objection>, why: String| {
        if !policy.ignores_failures {
            objections.push(Objection::new(why));
        }
    };
    for validation in &policy.validations {
        match evaluation.evaluate(&validation.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, evaluation);
                objections.push(Objection { message, reason: validation.reason.clone() });
            }
            Err(fault) => failed(objections, told(&validation.expression, &fault)),
        }
    }
    for annotation in &policy.annotations {
        match evaluation.evaluate(annotation) {
            Err(fault) => failed(objections, told(annotation, &fault)),
            Ok(_published_nowhere) => {}
        }
    }
}

fn message(validation: &Validation, evaluation: &mut Evaluation<'_>) -> String {
    let made = validation.message_expression.as_ref().and_then(|expression| {
        let Ok(Cel::String(made)) = evaluation.evaluate(expression) else { return None };
        let made = made.trim();
        let fits = !made.is_empty() && made.len() <= LONGEST_MESSAGE && !made.contains('\n');
        fits.then(|| made.to_owned())
    });
    match (made, validation.message.as_str()) {
        (Some(made), _) => made,
        (None, "") => format!("failed expression: {}", validation.expression.text().trim()),
        (None, message) => message.to_owned(),
    }
}
