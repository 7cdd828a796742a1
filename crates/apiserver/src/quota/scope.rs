//! Which objects a quota is about.

use super::{Item, containers, usage};
use crate::resources::Kind;
use serde_json::{Value, json};

/// Whether a quota with these scopes (`spec`) is about an object; only pods and claims have any.
pub(super) fn holds(item: Item<'_>, spec: &Value) -> bool {
    let names = spec["scopes"].as_array().into_iter().flatten();
    let named = names.map(|name| json!({"scopeName": name, "operator": "Exists"}));
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    named.chain(selected.cloned()).all(|it| is_within(item, &it))
}

fn is_within(item: Item<'_>, scope: &Value) -> bool {
    let (spec, name) = (&item.object["spec"], scope["scopeName"].as_str().unwrap_or_default());
    match (item.resource.kind, name) {
        (Kind::Pod, "Terminating") => ends(item.object),
        (Kind::Pod, "NotTerminating") => !ends(item.object),
        (Kind::Pod, "BestEffort") => is_modest(spec),
        (Kind::Pod, "NotBestEffort") => !is_modest(spec),
        (Kind::Pod, "PriorityClass") => selects(scope, &spec["priorityClassName"]),
        (Kind::Pod, "CrossNamespacePodAffinity") => looks_abroad(&spec["affinity"]),
        (Kind::PersistentVolumeClaim, "VolumeAttributesClass") => {
            selects(scope, &spec["volumeAttributesClassName"])
        }
        _ => false,
    }
}

/// Whether a pod is over after some time by itself.
pub(super) fn ends(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

/// It is promised nothing (quality of service `BestEffort`).
fn is_modest(spec: &Value) -> bool {
    !usage::is_said_for_pod(spec) && containers(spec).all(|it| usage::is_modest(&it["resources"]))
}

/// Whether a class is one of those that a scope selects.
fn selects(scope: &Value, class: &Value) -> bool {
    let class = class.as_str().filter(|class| !class.is_empty());
    let values = scope["values"].as_array().into_iter().flatten();
    let among = |class: &str| values.clone().any(|value| value == class);
    match scope["operator"].as_str().unwrap_or_default() {
        "In" => class.is_some_and(among),
        "NotIn" => !class.is_some_and(among),
        "DoesNotExist" => class.is_none(),
        _ => class.is_some(),
    }
}

/// Whether a pod wants to be near or far from pods of other namespaces.
fn looks_abroad(affinity: &Value) -> bool {
    let abroad = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
            || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |list: &str| affinity[*kind][list].as_array().cloned().unwrap_or_default();
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(abroad)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|it| abroad(&it["podAffinityTerm"]))
    })
}
