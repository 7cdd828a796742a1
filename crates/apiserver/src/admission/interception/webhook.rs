//! What is wrong with a webhook.

use super::check::{self, FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES};
use super::expressions::Expressions;
use super::{list, text};
use crate::admission::causes::Causes;
use crate::admission::names;
use crate::admission::workload::selector;
use serde_json::Value;

const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

pub(super) fn check(webhooks: &Value, mutates: bool, causes: &mut Causes) {
    let all = list(webhooks);
    for (index, webhook) in all.iter().enumerate() {
        let path = format!("webhooks[{index}]");
        check_one(webhook, &path, mutates, causes);
        check_versions(&webhook["admissionReviewVersions"], &path, causes);
        let is_same = |other: &Value| other["name"] == webhook["name"];
        if !text(webhook, "name").is_empty() && all[..index].iter().any(is_same) {
            causes.duplicate(&format!("{path}.name"), &webhook["name"]);
        }
    }
}

fn check_one(webhook: &Value, path: &str, mutates: bool, causes: &mut Causes) {
    let at = |field: &str| format!("{path}.{field}");
    let name = text(webhook, "name");
    if name.is_empty() {
        causes.required(&at("name"), "");
    } else if let Err(detail) = names::subdomain(name) {
        causes.invalid(&at("name"), &name.into(), detail);
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        causes.invalid(&at("name"), &name.into(), detail);
    }
    for (index, rule) in list(&webhook["rules"]).iter().enumerate() {
        check::rule(rule, &format!("{path}.rules[{index}]"), causes);
    }
    causes.one_of(&at("failurePolicy"), text(webhook, "failurePolicy"), &FAILURE_POLICIES);
    causes.one_of(&at("matchPolicy"), text(webhook, "matchPolicy"), &MATCH_POLICIES);
    match webhook["sideEffects"].as_str() {
        None => causes.required(&at("sideEffects"), "must specify one of None, NoneOnDryRun"),
        Some(effects) => causes.one_of(&at("sideEffects"), effects, &SIDE_EFFECTS),
    }
    let timeout = &webhook["timeoutSeconds"];
    if timeout.as_i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        causes.invalid(&at("timeoutSeconds"), timeout, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        selector(&webhook[field], &at(field), causes);
    }
    if mutates {
        let policy = text(webhook, "reinvocationPolicy");
        causes.one_of(&at("reinvocationPolicy"), policy, &REINVOCATION_POLICIES);
    }
    check_client(&webhook["clientConfig"], &at("clientConfig"), causes);
    let conditions = &webhook["matchConditions"];
    Expressions::new(false).conditions(conditions, &at("matchConditions"), causes);
}

fn check_versions(versions: &Value, path: &str, causes: &mut Causes) {
    let (all, path) = (list(versions), format!("{path}.admissionReviewVersions"));
    if all.is_empty() {
        return causes.required(&path, "must specify one of v1, v1beta1");
    }
    for (index, version) in all.iter().enumerate() {
        if all[..index].contains(version) {
            causes.invalid(&format!("{path}[{index}]"), version, "duplicate version");
        }
    }
    if !all.iter().filter_map(Value::as_str).any(|version| VERSIONS.contains(&version)) {
        causes.invalid(&path, versions, "must include at least one of v1, v1beta1");
    }
}

fn check_client(client: &Value, path: &str, causes: &mut Causes) {
    match (client["url"].as_str(), client["service"].is_object()) {
        (None, false) | (Some(_), true) => {
            causes.required(path, "exactly one of url or service is required");
        }
        (Some(url), _) => check_url(url, &format!("{path}.url"), causes),
        (None, true) => check_service(&client["service"], &format!("{path}.service"), causes),
    }
}

fn check_url(url: &str, path: &str, causes: &mut Causes) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        causes.invalid(path, &scheme.into(), &detail);
    }
    if host.is_empty() || scheme.is_empty() {
        causes.invalid(path, &"".into(), &format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = host.split_once('@') {
        causes.invalid(path, &user.into(), "user information is not permitted in the URL");
    }
    if let Some((_, fragment)) = url.split_once('#') {
        causes.invalid(path, &fragment.into(), "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = url.split_once('?') {
        causes.invalid(path, &query.into(), "query parameters are not permitted in the URL");
    }
}

fn check_service(service: &Value, path: &str, causes: &mut Causes) {
    for field in ["name", "namespace"] {
        if text(service, field).is_empty() {
            causes.required(&format!("{path}.{field}"), "");
        }
    }
    let port = &service["port"];
    if !port.as_i64().is_some_and(|port| (1..=65_535).contains(&port)) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        causes.invalid(&format!("{path}.port"), port, detail);
    }
    let way = text(service, "path");
    if !way.is_empty() && !way.starts_with('/') {
        causes.invalid(&format!("{path}.path"), &way.into(), "must start with a '/'");
    }
}
