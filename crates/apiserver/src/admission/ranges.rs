//! Ranges of service addresses, and addresses (`k8s.io/kubernetes/pkg/apis/networking/validation`).

use super::causes::Causes;
use ipnet::IpNet;
use serde_json::Value;

pub(super) fn range(spec: &Value, old: Option<&Value>, causes: &mut Causes) {
    const PATH: &str = "spec.cidrs";
    let list = |spec: &Value| spec["cidrs"].as_array().cloned().unwrap_or_default();
    let (cidrs, before) = (list(spec), old.map(|old| list(&old["spec"])));
    if let Some(before) = before {
        let kept = before.iter().zip(&cidrs).enumerate();
        for (index, (_, new)) in kept.filter(|(_, (old, new))| old != new) {
            causes.invalid(&format!("{PATH}[{index}]"), new, "field is immutable");
        }
        return;
    }
    if cidrs.is_empty() {
        return causes.required(PATH, "at least one CIDR required");
    }
    let parsed: Vec<Option<IpNet>> = cidrs.iter().map(|cidr| cidr.as_str()?.parse().ok()).collect();
    let of_v4 = parsed.iter().flatten().filter(|net| matches!(net, IpNet::V4(_))).count();
    if cidrs.len() > 2 || cidrs.len() == 2 && parsed.iter().all(Option::is_some) && of_v4 != 1 {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        causes.invalid(PATH, &spec["cidrs"], detail);
    }
    for (index, (shown, net)) in cidrs.iter().zip(parsed).enumerate() {
        let detail = match net {
            None => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            Some(net) if net.trunc() != net => "must not have bits set beyond the prefix length",
            Some(_) => continue,
        };
        causes.invalid(&format!("{PATH}[{index}]"), shown, detail);
    }
}

pub(super) fn address(spec: &Value, causes: &mut Causes) {
    let parent = &spec["parentRef"];
    if parent.is_null() {
        return causes.required("spec.parentRef", "");
    }
    for field in ["resource", "name"] {
        if parent[field].as_str().is_none_or(str::is_empty) {
            causes.required(&format!("spec.parentRef.{field}"), "");
        }
    }
}

/// How long and how often (`pkg/apis/coordination/validation`).
pub(super) fn lease(spec: &Value, causes: &mut Causes) {
    let seconds = &spec["leaseDurationSeconds"];
    if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
        causes.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
    }
    causes.not_negative("spec.leaseTransitions", &spec["leaseTransitions"]);
}
