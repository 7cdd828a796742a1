//! What is wrong with a policy, a binding, or a rule.

use super::expressions::Expressions;
use super::{list, text};
use crate::admission::causes::Causes;
use crate::admission::names;
use crate::admission::workload::selector;
use serde_json::Value;

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTABLE_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

pub(super) fn validating(spec: &Value, name: &str, old: Option<&Value>, causes: &mut Causes) {
    let expressions = begin(spec, old, causes);
    let (validations, annotations) = (list(&spec["validations"]), list(&spec["auditAnnotations"]));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        causes.required("spec.validations", detail);
        causes.required("spec.auditAnnotations", detail);
    }
    for (index, validation) in validations.iter().enumerate() {
        let path = format!("spec.validations[{index}]");
        expressions.validation(validation, &path, causes);
        check_message(text(validation, "message"), &path, causes);
        if let Some(reason) = validation["reason"].as_str() {
            causes.one_of(&format!("{path}.reason"), reason, &REASONS);
        }
    }
    for (index, annotation) in annotations.iter().enumerate() {
        let path = format!("spec.auditAnnotations[{index}]");
        let key = text(annotation, "key");
        let whole: Value = format!("{name}/{key}").into();
        let faults = names::qualified(whole.as_str().unwrap_or_default());
        causes.each(&format!("{path}.key"), &whole, faults);
        expressions.annotation(annotation, &path, causes);
        if annotations[..index].iter().any(|other| other["key"] == annotation["key"]) {
            causes.duplicate(&format!("{path}.key"), &annotation["key"]);
        }
    }
}

pub(super) fn mutating(spec: &Value, old: Option<&Value>, causes: &mut Causes) {
    let mut expressions = begin(spec, old, causes);
    let mutations = list(&spec["mutations"]);
    if mutations.is_empty() {
        causes.required("spec.mutations", "mutations must contain at least one item");
    }
    for (index, mutation) in mutations.iter().enumerate() {
        expressions.mutation(mutation, &format!("spec.mutations[{index}]"), causes);
    }
    match text(spec, "reinvocationPolicy") {
        "" => causes.required("spec.reinvocationPolicy", ""),
        policy => causes.one_of("spec.reinvocationPolicy", policy, &REINVOCATION_POLICIES),
    }
}

/// What both sorts of policies have.
fn begin(spec: &Value, old: Option<&Value>, causes: &mut Causes) -> Expressions {
    causes.one_of("spec.failurePolicy", text(spec, "failurePolicy"), &FAILURE_POLICIES);
    let params = &spec["paramKind"];
    if params.is_object() {
        param_kind(params, causes);
    }
    let constraints = &spec["matchConstraints"];
    if constraints.is_object() {
        resources(constraints, "spec.matchConstraints", causes);
        if list(&constraints["resourceRules"]).is_empty() {
            causes.required("spec.matchConstraints.resourceRules", "");
        }
        if spec.get("mutations").is_some() {
            no_deletions(constraints, "spec.matchConstraints", causes);
        }
    } else {
        causes.required("spec.matchConstraints", "");
    }
    let mut expressions = Expressions::new(params.is_object());
    let same = |field: &str| old.is_some_and(|old| old[field] == spec[field]);
    if !(same("paramKind") && same("matchConditions")) {
        expressions.conditions(&spec["matchConditions"], "spec.matchConditions", causes);
    }
    for (index, variable) in list(&spec["variables"]).iter().enumerate() {
        expressions.variable(variable, &format!("spec.variables[{index}]"), causes);
    }
    expressions
}

fn check_message(message: &str, path: &str, causes: &mut Causes) {
    let (field, value) = (format!("{path}.message"), message.into());
    let trimmed = message.trim();
    if !message.is_empty() && trimmed.is_empty() {
        causes.invalid(&field, &value, "must be non-empty if specified");
    } else if trimmed.contains(['\n', '\r']) {
        causes.invalid(&field, &value, "must not contain line breaks");
    }
}

fn param_kind(params: &Value, causes: &mut Causes) {
    let (version, kind) = (text(params, "apiVersion"), text(params, "kind"));
    let field = "spec.paramKind.apiVersion";
    match version.split('/').collect::<Vec<_>>()[..] {
        [""] => causes.required(field, ""),
        [_] => {}
        [group, version] => {
            if let Err(detail) = names::subdomain(group) {
                causes.invalid(field, &group.into(), detail);
            }
            if !is_label_1035(version) {
                causes.invalid(field, &version.into(), LABEL_1035);
            }
        }
        _ => {
            let detail = format!("unexpected GroupVersion string: {version}");
            causes.invalid(field, &version.into(), &detail);
        }
    }
    if kind.is_empty() {
        causes.required("spec.paramKind.kind", "");
    } else if !is_label_1035(&kind.to_lowercase()) {
        let detail = format!("may have mixed case, but should otherwise match: {LABEL_1035}");
        causes.invalid("spec.paramKind.kind", &kind.into(), &detail);
    }
}

fn is_label_1035(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.len() < 64
        && text.chars().all(good)
}

fn resources(resources: &Value, path: &str, causes: &mut Causes) {
    causes.one_of(&format!("{path}.matchPolicy"), text(resources, "matchPolicy"), &MATCH_POLICIES);
    for field in ["namespaceSelector", "objectSelector"] {
        selector(&resources[field], &format!("{path}.{field}"), causes);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, one) in list(&resources[field]).iter().enumerate() {
            let path = format!("{path}.{field}[{index}]");
            let named = list(&one["resourceNames"]);
            for (index, name) in named.iter().enumerate() {
                if named[..index].contains(name) {
                    causes.duplicate(&format!("{path}.resourceNames[{index}]"), name);
                }
            }
            rule(one, &path, causes);
        }
    }
}

/// Only what comes or changes can be changed.
pub(super) fn no_deletions(resources: &Value, path: &str, causes: &mut Causes) {
    let operations =
        list(&resources["resourceRules"]).iter().flat_map(|it| list(&it["operations"]));
    for operation in operations.filter_map(Value::as_str) {
        causes.one_of(&format!("{path}.resourceRules.operations"), operation, &MUTABLE_OPERATIONS);
    }
}

/// `RuleWithOperations`
pub(super) fn rule(rule: &Value, path: &str, causes: &mut Causes) {
    let operations = list(&rule["operations"]);
    alone(rule, path, "operations", "operations", causes);
    for (index, operation) in operations.iter().enumerate() {
        let operation = operation.as_str().unwrap_or_default();
        causes.one_of(&format!("{path}.operations[{index}]"), operation, &OPERATIONS);
    }
    alone(rule, path, "apiGroups", "API groups", causes);
    alone(rule, path, "apiVersions", "API versions", causes);
    for (index, version) in list(&rule["apiVersions"]).iter().enumerate() {
        if version == "" {
            causes.required(&format!("{path}.apiVersions[{index}]"), "");
        }
    }
    asked_resources(&rule["resources"], &format!("{path}.resources"), causes);
    if let Some(scope) = rule["scope"].as_str() {
        causes.one_of(&format!("{path}.scope"), scope, &SCOPES);
    }
}

/// A list that is not empty, in which what stands for all stands alone.
fn alone(rule: &Value, path: &str, field: &str, words: &str, causes: &mut Causes) {
    let (all, path) = (list(&rule[field]), format!("{path}.{field}"));
    if all.is_empty() {
        causes.required(&path, "");
    }
    if all.len() > 1 && all.iter().any(|it| it == "*") {
        let detail = format!("if '*' is present, must not specify other {words}");
        causes.invalid(&path, &rule[field], &detail);
    }
}

fn asked_resources(resources: &Value, path: &str, causes: &mut Causes) {
    let all = list(resources);
    if all.is_empty() {
        causes.required(path, "");
    }
    let (mut whole, mut anywhere) = (Vec::new(), Vec::new());
    let mut ends_plain = false;
    for (index, resource) in all.iter().enumerate() {
        let (resource, path) = (resource.as_str().unwrap_or_default(), format!("{path}[{index}]"));
        let Some((name, part)) = resource.split_once('/') else {
            if resource.is_empty() {
                causes.required(&path, "");
            } else {
                ends_plain = resource != "*";
            }
            continue;
        };
        if whole.contains(&name) {
            let detail = format!("if '{name}/*' is present, must not specify {resource}");
            causes.invalid(&path, &resource.into(), &detail);
        }
        if anywhere.contains(&part) {
            let detail = format!("if '*/{part}' is present, must not specify {resource}");
            causes.invalid(&path, &resource.into(), &detail);
        }
        if part == "*" {
            whole.push(name);
        }
        if name == "*" {
            anywhere.push(part);
        }
    }
    if all.len() > 1 && all.iter().any(|it| it == "*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        causes.invalid(path, resources, detail);
    }
    if all.iter().any(|it| it == "*") && ends_plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        causes.invalid(path, resources, detail);
    }
}

pub(super) fn binding(spec: &Value, causes: &mut Causes) {
    match text(spec, "policyName") {
        "" => causes.required("spec.policyName", ""),
        name => {
            if let Err(detail) = names::subdomain(name) {
                causes.invalid("spec.policyName", &name.into(), detail);
            }
        }
    }
    if spec["paramRef"].is_object() {
        param_ref(&spec["paramRef"], causes);
    }
    if spec["matchResources"].is_object() {
        resources(&spec["matchResources"], "spec.matchResources", causes);
    }
}

fn param_ref(reference: &Value, causes: &mut Causes) {
    let (path, both) = ("spec.paramRef", "name and selector are mutually exclusive");
    let is_named = !text(reference, "name").is_empty();
    let selects = reference["selector"].is_object();
    if is_named && selects {
        causes.forbidden(&format!("{path}.name"), both);
    }
    if selects {
        selector(&reference["selector"], &format!("{path}.selector"), causes);
    }
    if is_named && selects {
        causes.forbidden(&format!("{path}.selector"), both);
    }
    if !is_named && !selects {
        causes.required(path, "one of name or selector must be specified");
    }
    let field = format!("{path}.parameterNotFoundAction");
    match text(reference, "parameterNotFoundAction") {
        "" => causes.required(&field, ""),
        action => causes.one_of(&field, action, &["Deny", "Allow"]),
    }
}

pub(super) fn actions(actions: &Value, causes: &mut Causes) {
    let (all, path) = (list(actions), "spec.validationActions");
    for (index, action) in all.iter().enumerate() {
        let path = format!("{path}[{index}]");
        causes.one_of(&path, action.as_str().unwrap_or_default(), &ACTIONS);
        if all[..index].contains(action) {
            causes.duplicate(&path, action);
        }
    }
    let has = |wanted: &str| all.iter().any(|it| it == wanted);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        causes.invalid(path, actions, detail);
    }
    if all.is_empty() {
        causes.required(path, "at least one validation action is required");
    }
}
