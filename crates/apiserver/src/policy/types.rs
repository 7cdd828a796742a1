//! Whether the expressions of a policy fit the kinds that it is about: what they say otherwise, the policy's status tells.
//!
//! `k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus`, by which nothing is refused.

use super::items;
use crate::expression::check::{Checker, Type};
use crate::resources::{Custom, Resource, served};
use serde_json::{Value, json};

/// The most kinds that are looked at.
const LIMIT: usize = 10;

/// `status.typeChecking`
pub(crate) fn type_checking(spec: &Value, customs: &[Custom]) -> Value {
    let kinds = kinds(spec, customs);
    let mut warnings = Vec::new();
    for (index, validation) in items(&spec["validations"]).enumerate() {
        for field in ["expression", "messageExpression"] {
            let Some(text) = validation[field].as_str().filter(|text| !text.is_empty()) else {
                continue;
            };
            let check = |kind: &&'static Resource| warning(spec, customs, kind, text);
            let found: Vec<String> = kinds.iter().filter_map(check).collect();
            if !found.is_empty() {
                let place = format!("spec.validations[{index}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": found.join("\n")}));
            }
        }
    }
    if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) }
}

/// What is wrong with a text if it is about objects of this kind.
fn warning(spec: &Value, customs: &[Custom], kind: &Resource, text: &str) -> Option<String> {
    let params = &spec["paramKind"];
    let mut checker = Checker::of_admission(params.is_object(), true);
    let object = Type::of_schema(kind.root()?);
    checker.declare("object", object.clone());
    checker.declare("oldObject", object);
    let is_param = |it: &&Resource| {
        params["kind"] == it.name && params["apiVersion"] == it.api_version().as_str()
    };
    if let Some(root) = served(customs).find(is_param).and_then(Resource::root) {
        checker.declare("params", Type::of_schema(root));
    }
    for variable in items(&spec["variables"]) {
        let made = variable["expression"].as_str().unwrap_or_default();
        let name = variable["name"].as_str().unwrap_or_default();
        let found = checker.check(made).unwrap_or(Type::Dyn);
        checker.declare(&format!("variables.{name}"), found);
    }
    let why = checker.check(text).err()?;
    let group = if kind.group.is_empty() { "/" } else { "" };
    Some(format!("{group}{}, Kind={}: {why}\n", kind.api_version(), kind.name))
}

/// The kinds that rules name, one by one.
fn kinds(spec: &Value, customs: &[Custom]) -> Vec<&'static Resource> {
    let mut found = Vec::new();
    for rule in items(&spec["matchConstraints"]["resourceRules"]) {
        let has = |list: &str, wanted: &str| items(&rule[list]).any(|it| it == wanted);
        let asked = served(customs).filter(|it| {
            has("apiGroups", it.group)
                && has("apiVersions", it.version)
                && has("resources", it.plural)
        });
        found.extend(asked);
    }
    found.sort_by_key(|it| (it.group, it.version, it.name));
    found.dedup_by_key(|it| (it.group, it.version, it.name));
    found.truncate(LIMIT);
    found
}
