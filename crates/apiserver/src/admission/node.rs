//! Nodes (`k8s.io/kubernetes/pkg/apis/core/validation`).

use super::causes::Causes;
use super::{child, names};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn admit(node: &mut Fields, old: Option<&Value>, causes: &mut Causes) {
    let spec = child(node, "spec");
    synchronise(spec);
    if let Some(old) = old {
        let before = &old["spec"];
        let cidrs = spec.get("podCIDRs").unwrap_or(&Value::Null);
        if !list(&before["podCIDRs"]).is_empty() && *cidrs != before["podCIDRs"] {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            causes.forbidden("spec.podCIDRs", detail);
        }
        let provider = &before["providerID"];
        if !provider.is_null() && spec.get("providerID") != Some(provider) {
            let detail = "node updates may not change providerID except from \"\" to valid";
            causes.forbidden("spec.providerID", detail);
        }
    }
    let taints = list(spec.get("taints").unwrap_or(&Value::Null));
    for (index, taint) in taints.iter().enumerate() {
        // The real server names this field so.
        check_taint(taint, &taints[..index], &format!("metadata.taints[{index}]"), causes);
    }
    if old.is_none() {
        check_cidrs(spec, causes);
        repel(spec);
    }
}

/// A node takes pods once somebody has seen that it is ready (admission plugin `TaintNodesByCondition`).
fn repel(spec: &mut Fields) {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let same = |it: &Value| it["key"] == taint["key"] && it["effect"] == taint["effect"];
    if let Value::Array(taints) = spec.entry("taints").or_insert_with(|| json!([]))
        && !taints.iter().any(same)
    {
        taints.push(taint);
    }
}

/// Whoever gives one of `podCIDR` and `podCIDRs` means both.
fn synchronise(spec: &mut Fields) {
    let first = spec.get("podCIDRs").and_then(|cidrs| cidrs.get(0)).cloned();
    match (spec.get("podCIDR").cloned(), first) {
        (Some(one), None) => drop(spec.insert("podCIDRs".into(), json!([one]))),
        (None, Some(first)) => drop(spec.insert("podCIDR".into(), first)),
        _ => {}
    }
}

fn check_taint(taint: &Value, before: &[Value], path: &str, causes: &mut Causes) {
    let text = |field: &str| taint[field].as_str().unwrap_or_default();
    let (key, value, effect) = (text("key"), text("value"), text("effect"));
    causes.each(&format!("{path}.key"), &key.into(), names::qualified(key));
    let faults = names::label_value(value);
    if !faults.is_empty() {
        causes.invalid(&format!("{path}.value"), &value.into(), &faults.join(";"));
    }
    if effect.is_empty() {
        causes.required(&format!("{path}.effect"), "");
    } else {
        causes.one_of(&format!("{path}.effect"), effect, &EFFECTS);
    }
    if before.iter().any(|other| other["key"] == key && other["effect"] == effect) {
        causes.duplicate(path, taint);
    }
}

fn check_cidrs(spec: &Fields, causes: &mut Causes) {
    let none = Value::Null;
    let cidrs = spec.get("podCIDRs").unwrap_or(&none);
    let parsed: Vec<Option<IpNet>> =
        list(cidrs).iter().map(|cidr| cidr.as_str()?.parse().ok()).collect();
    for (index, cidr) in list(cidrs).iter().enumerate() {
        if parsed[index].is_none() {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            causes.invalid(&format!("spec.podCIDRs[{index}]"), cidr, detail);
        }
    }
    let of_v4 = parsed.iter().flatten().filter(|cidr| matches!(cidr, IpNet::V4(_))).count();
    if parsed.len() > 1 && (parsed.len() != 2 || of_v4 != 1) {
        let detail = "may specify no more than one CIDR for each IP family";
        causes.invalid("spec.podCIDRs", cidrs, detail);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
