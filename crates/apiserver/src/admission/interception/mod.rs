//! Admission policies, their bindings, and configurations of webhooks: defaults and validation
//! (`k8s.io/kubernetes/pkg/apis/admissionregistration`).

mod check;
mod expressions;
mod webhook;

use super::causes::Causes;
use super::{child, items, preset};
use crate::resources::Kind;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

pub(super) fn complete(kind: Kind, fields: &mut Fields) {
    match kind {
        Kind::ValidatingAdmissionPolicy | Kind::MutatingAdmissionPolicy => {
            let spec = child(fields, "spec");
            preset(spec, "failurePolicy", || "Fail".into());
            complete_match(spec, "matchConstraints");
        }
        Kind::ValidatingAdmissionPolicyBinding | Kind::MutatingAdmissionPolicyBinding => {
            complete_match(child(fields, "spec"), "matchResources");
        }
        _ => {
            let mutates = kind == Kind::MutatingWebhookConfiguration;
            items(fields, "webhooks").for_each(|webhook| complete_webhook(webhook, mutates));
        }
    }
}

fn complete_match(spec: &mut Fields, field: &str) {
    let Some(resources) = spec.get_mut(field).and_then(Value::as_object_mut) else { return };
    preset(resources, "matchPolicy", || "Equivalent".into());
    preset(resources, "namespaceSelector", || json!({}));
    preset(resources, "objectSelector", || json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        items(resources, rules).for_each(|rule| preset(rule, "scope", || "*".into()));
    }
}

fn complete_webhook(webhook: &mut Fields, mutates: bool) {
    preset(webhook, "failurePolicy", || "Fail".into());
    preset(webhook, "matchPolicy", || "Equivalent".into());
    preset(webhook, "namespaceSelector", || json!({}));
    preset(webhook, "objectSelector", || json!({}));
    preset(webhook, "timeoutSeconds", || 10.into());
    if mutates {
        preset(webhook, "reinvocationPolicy", || "Never".into());
    }
    items(webhook, "rules").for_each(|rule| preset(rule, "scope", || "*".into()));
    let service = webhook.get_mut("clientConfig").and_then(|it| it.get_mut("service"));
    if let Some(service) = service.and_then(Value::as_object_mut) {
        preset(service, "port", || 443.into());
    }
}

pub(super) fn check(kind: Kind, fields: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let spec = fields.get("spec").unwrap_or(&Value::Null);
    let name = fields["metadata"]["name"].as_str().unwrap_or_default();
    let old = old.map(|old| &old["spec"]);
    match kind {
        Kind::ValidatingAdmissionPolicy => check::validating(spec, name, old, causes),
        Kind::MutatingAdmissionPolicy => check::mutating(spec, old, causes),
        Kind::ValidatingAdmissionPolicyBinding => {
            check::binding(spec, causes);
            check::actions(&spec["validationActions"], causes);
        }
        Kind::MutatingAdmissionPolicyBinding => {
            check::binding(spec, causes);
            check::no_deletions(&spec["matchResources"], "spec.matchResources", causes);
        }
        _ => {
            let mutates = kind == Kind::MutatingWebhookConfiguration;
            webhook::check(fields.get("webhooks").unwrap_or(&Value::Null), mutates, causes);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
