//! Roles and bindings (`k8s.io/kubernetes/pkg/apis/rbac/{v1/defaults.go,validation}`).

use super::causes::Causes;
use super::{child, items, preset, text};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Users and groups are of this API, accounts of the core group.
pub(super) fn complete_binding(binding: &mut Fields) {
    for subject in items(binding, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            preset(subject, "apiGroup", || GROUP.into());
        }
    }
    preset(child(binding, "roleRef"), "apiGroup", || GROUP.into());
}

pub(super) fn role(role: &Fields, namespaced: bool, causes: &mut Causes) {
    let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    for (index, rule) in rules.enumerate() {
        let path = |field: &str| format!("rules[{index}].{field}");
        let some = |field: &str| rule[field].as_array().is_some_and(|list| !list.is_empty());
        if !some("verbs") {
            causes.required(&path("verbs"), "verbs must contain at least one value");
        }
        if some("nonResourceURLs") {
            let field = path("nonResourceURLs");
            let urls = &rule["nonResourceURLs"];
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                causes.invalid(&field, urls, detail);
            } else if ["apiGroups", "resources", "resourceNames"].into_iter().any(some) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                causes.invalid(&field, urls, detail);
            }
            continue;
        }
        if !some("apiGroups") {
            let detail = "resource rules must supply at least one api group";
            causes.required(&path("apiGroups"), detail);
        }
        if !some("resources") {
            let detail = "resource rules must supply at least one resource";
            causes.required(&path("resources"), detail);
        }
    }
}

pub(super) fn binding(
    binding: &Fields,
    namespaced: bool,
    old: Option<&Value>,
    causes: &mut Causes,
) {
    let reference = binding.get("roleRef").unwrap_or(&Value::Null);
    let of = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    if old.is_some_and(|old| old["roleRef"] != *reference) {
        let shown = format!(
            r#"{{"APIGroup":{},"Kind":{},"Name":{}}}"#,
            reference["apiGroup"], reference["kind"], reference["name"]
        );
        causes.invalid_shown("roleRef", &shown, "cannot change roleRef");
    }
    causes.one_of("roleRef.apiGroup", &of(reference, "apiGroup"), &[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    causes.one_of("roleRef.kind", &of(reference, "kind"), kinds);
    if of(reference, "name").is_empty() {
        causes.required("roleRef.name", "");
    }
    let subjects = binding.get("subjects").and_then(Value::as_array).into_iter().flatten();
    for (index, subject) in subjects.enumerate() {
        let path = |field: &str| format!("subjects[{index}].{field}");
        if of(subject, "name").is_empty() {
            causes.required(&path("name"), "");
        }
        let kind = of(subject, "kind");
        causes.one_of(&path("kind"), &kind, &["ServiceAccount", "User", "Group"]);
        if kind == "ServiceAccount" && !namespaced && of(subject, "namespace").is_empty() {
            causes.required(&path("namespace"), "");
        }
    }
}
