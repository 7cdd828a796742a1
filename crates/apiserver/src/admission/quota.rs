//! Quotas and ranges of limits (`k8s.io/kubernetes/pkg/apis/core/validation`).

use super::causes::Causes;
use super::{child, items, names, preset};
use crate::quantity::Quantity;
use crate::quota::amounts;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// What there are whole numbers of.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const MEASURED: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const CONTRARY: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const CONFLICT: &str = "conflicting scopes";

pub(super) fn quota(quota: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let none = json!({});
    let spec = quota.get("spec").unwrap_or(&none);
    for (name, amount) in spec["hard"].as_object().into_iter().flatten() {
        check_amount(name, amount, &format!("spec.hard[{name}]"), causes);
    }
    let scopes = strings(&spec["scopes"]);
    check_scopes(spec, &scopes, causes);
    check_selector(spec, causes);
    let before = old.map(|old| strings(&old["spec"]["scopes"]));
    let sorted = |list: &[&str]| {
        let mut list: Vec<String> = list.iter().map(|it| (*it).to_owned()).collect();
        list.sort_unstable();
        list
    };
    if before.is_some_and(|before| sorted(&before) != sorted(&scopes)) {
        causes.invalid("spec.scopes", &spec["scopes"], "field is immutable");
    }
}

fn check_amount(name: &str, amount: &Value, path: &str, causes: &mut Causes) {
    let faults = names::qualified(name);
    if !name.contains('/') && !is_standard(name) {
        if !faults.is_empty() {
            causes.each(path, &name.into(), faults);
        } else if !is_known(name) {
            let detail = "must be a standard resource type or fully qualified";
            causes.invalid(path, &name.into(), detail);
        }
        causes.invalid(path, &name.into(), "must be a standard resource for quota");
    } else {
        causes.each(path, &name.into(), faults);
    }
    let Some(quantity) = Quantity::of(amount) else { return };
    let shown = Value::from(quantity.to_string());
    if quantity.is_negative() {
        causes.invalid(path, &shown, "must be greater than or equal to 0");
    }
    let extended =
        name.contains('/') && !name.starts_with("requests.") && !name.contains("kubernetes.io/");
    if !quantity.is_whole() && (COUNTED.contains(&name) || extended && !name.starts_with("count/"))
    {
        causes.invalid(path, &shown, "must be an integer");
    }
}

fn is_standard(name: &str) -> bool {
    let huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
    huge || COUNTED.contains(&name) || MEASURED.contains(&name)
}

/// Of any object there may be an amount of it.
fn is_known(name: &str) -> bool {
    name == "storage" || is_standard(name)
}

fn check_scopes(spec: &Value, scopes: &[&str], causes: &mut Causes) {
    const FIELD: &str = "spec.scopes";
    let shown = &spec["scopes"];
    for scope in scopes {
        if !SCOPES.contains(scope) {
            causes.invalid(FIELD, shown, "unsupported scope");
        }
        for _ in unfit(spec, scope) {
            causes.invalid(FIELD, shown, "unsupported scope applied to resource");
        }
    }
    for _ in CONTRARY.iter().filter(|pair| pair.iter().all(|it| scopes.contains(it))) {
        causes.invalid(FIELD, shown, CONFLICT);
    }
}

/// The standard resources of a quota that a scope says nothing about.
fn unfit<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a String> {
    const COMPUTE: [&str; 6] =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let fits = move |name: &str| match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        _ if SCOPES.contains(&scope) => name == "pods" || COMPUTE.contains(&name),
        _ => true,
    };
    let hard = spec["hard"].as_object().into_iter().flatten().map(|(name, _)| name);
    hard.filter(move |name| is_standard(name) && !fits(name))
}

fn check_selector(spec: &Value, causes: &mut Causes) {
    const FIELD: &str = "spec.scopeSelector.matchExpressions";
    let all = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    for it in all.clone() {
        let text = |field: &str| it[field].as_str().unwrap_or_default();
        let (scope, operator) = (text("scopeName"), text("operator"));
        let values = strings(&it["values"]);
        if !SCOPES.contains(&scope) {
            causes.invalid(&format!("{FIELD}.scopeName"), &scope.into(), "unsupported scope");
        }
        for _ in unfit(spec, scope) {
            let shown = shown_selector(&spec["scopeSelector"]);
            causes.invalid_shown(FIELD, &shown, "unsupported scope applied to resource");
        }
        let field = format!("{FIELD}.operator");
        if SCOPES.contains(&scope) && !scope.ends_with("Class") && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            causes.invalid(&field, &operator.into(), detail);
        }
        let path = format!("{FIELD}.values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                causes.required(&path, detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                causes.invalid(&path, &it["values"], detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => causes.invalid(&field, &operator.into(), "not a valid selector operator"),
        }
    }
    let named = |scope: &str| all.clone().any(|it| it["scopeName"] == *scope);
    for _ in CONTRARY.iter().filter(|pair| pair.iter().all(|it| named(it))) {
        causes.invalid("spec.scopes", &spec["scopes"], CONFLICT);
    }
}

/// As Go writes it, whose types have these names.
fn shown_selector(selector: &Value) -> String {
    let all = selector["matchExpressions"].as_array().into_iter().flatten();
    let one = |it: &Value| {
        format!(
            r#"{{"ScopeName":{},"Operator":{},"Values":{}}}"#,
            it["scopeName"], it["operator"], it["values"]
        )
    };
    format!(r#"{{"MatchExpressions":[{}]}}"#, all.map(one).collect::<Vec<_>>().join(","))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What a range for containers means where it says nothing.
pub(super) fn complete_range(spec: &mut Fields) {
    for limit in items(spec, "limits").filter(|it| it.get("type") == Some(&"Container".into())) {
        for (field, source) in
            [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
        {
            let source = limit.get(source).and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, amount) in source {
                preset(child(limit, field), &name, || amount);
            }
        }
    }
}

pub(super) fn range(spec: &Value, causes: &mut Causes) {
    let limits = spec["limits"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, limit) in limits.iter().enumerate() {
        let path = format!("spec.limits[{index}]");
        let kind = limit["type"].as_str().unwrap_or_default();
        check_type(kind, &format!("{path}.type"), causes);
        if limits[..index].iter().any(|it| it["type"] == kind) {
            causes.duplicate(&format!("{path}.type"), &kind.into());
        }
        check_names(limit, kind, &path, causes);
        check_order(limit, &path, causes);
    }
}

fn check_type(kind: &str, path: &str, causes: &mut Causes) {
    let faults = names::qualified(kind);
    if !faults.is_empty() {
        causes.each(path, &kind.into(), faults);
    } else if !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind)
    {
        let detail = "must be a standard limit type or fully qualified";
        causes.invalid(path, &kind.into(), detail);
    }
}

fn check_names(limit: &Value, kind: &str, path: &str, causes: &mut Causes) {
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let list = limit[field].as_object();
        if kind == "Pod" && field.starts_with("default") {
            if list.is_some_and(|it| !it.is_empty()) {
                let detail = "may not be specified when `type` is 'Pod'";
                causes.forbidden(&format!("{path}.{field}"), detail);
            }
            continue;
        }
        for (name, _) in list.into_iter().flatten() {
            check_name(name, kind, &format!("{path}.{field}[{name}]"), causes);
        }
        let storage = |field: &str| !limit[field]["storage"].is_null();
        if field == "defaultRequest"
            && kind == "PersistentVolumeClaim"
            && !storage("min")
            && !storage("max")
        {
            let detail =
                "either minimum or maximum storage value is required, but neither was provided";
            causes.required(&format!("{path}.limits"), detail);
        }
    }
}

fn check_name(name: &str, kind: &str, path: &str, causes: &mut Causes) {
    let faults = names::qualified(name);
    if !faults.is_empty() {
        return causes.each(path, &name.into(), faults);
    }
    if name.contains('/') {
        return;
    }
    if !is_known(name) {
        let detail = "must be a standard resource type or fully qualified";
        causes.invalid(path, &name.into(), detail);
    }
    let container =
        ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
    if ["Pod", "Container"].contains(&kind) && !container {
        causes.invalid(path, &name.into(), "must be a standard resource for containers");
    }
}

/// Least, usual and most follow on each other.
fn check_order(limit: &Value, path: &str, causes: &mut Causes) {
    const PAIRS: [(&str, &str, &str, bool); 6] = [
        ("min", "max", "min value A is greater than max value B", true),
        ("min", "defaultRequest", "min value A is greater than default request value B", false),
        ("defaultRequest", "max", "default request value A is greater than max value B", true),
        (
            "defaultRequest",
            "default",
            "default request value A is greater than default limit value B",
            true,
        ),
        ("min", "default", "min value A is greater than default value B", true),
        ("default", "max", "default value A is greater than max value B", false),
    ];
    for (less, more, words, shows_less) in PAIRS {
        let (low, high) = (amounts(&limit[less]), amounts(&limit[more]));
        for (name, a) in low {
            let Some(b) = high.get(&name).filter(|b| a > **b) else { continue };
            let field = match (less, more) {
                ("min", "max") => "min",
                (_, "defaultRequest") | ("defaultRequest", _) => "defaultRequest",
                _ => "default",
            };
            let detail = words
                .replace("value A", &format!("value {a}"))
                .replace("value B", &format!("value {b}"));
            let shown = if shows_less { a } else { *b }.to_string();
            causes.invalid(&format!("{path}.{field}[{name}]"), &shown.into(), &detail);
        }
    }
    check_ratio(limit, path, causes);
}

fn check_ratio(limit: &Value, path: &str, causes: &mut Causes) {
    let (least, most) = (amounts(&limit["min"]), amounts(&limit["max"]));
    for (name, ratio) in amounts(&limit["maxLimitRequestRatio"]) {
        let field = format!("{path}.maxLimitRequestRatio[{name}]");
        let one = Quantity::count(1);
        if ratio < one {
            causes.invalid(
                &field,
                &ratio.to_string().into(),
                &format!("ratio {ratio} is less than 1"),
            );
        }
        if let (Some(least), Some(most)) = (least.get(&name), most.get(&name)) {
            let bound = most.ratio(*least);
            if ratio.ratio(one) > bound {
                let detail = format!("ratio {ratio} is greater than max/min = {bound:.6}");
                causes.invalid(&field, &ratio.to_string().into(), &detail);
            }
        }
    }
}
