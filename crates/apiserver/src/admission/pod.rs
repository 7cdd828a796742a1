//! Pods, and the pod templates of workloads.

mod change;
mod check;
mod container;
mod defaults;
mod guests;
mod resize;
mod resources;

pub(super) use check::check;
pub(super) use defaults::{complete, complete_pod};
pub(super) use guests::check as check_guests;
pub(super) use resize::check as check_resize;

use super::causes::Causes;
use super::{child, preset};
use serde_json::{Map, Value, json};

const LISTS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn admit(pod: &mut Map<String, Value>, old: Option<&Value>, causes: &mut Causes) {
    let spec = child(pod, "spec");
    defaults::add(spec);
    check(spec, "spec", true, causes);
    if let Some(old) = old.and_then(|old| old["spec"].as_object()) {
        change::check(spec, old, causes);
    }
    let quality = quality(spec);
    if old.is_none() && !check::list(spec, guests::FIELD).is_empty() {
        causes.forbidden("spec.ephemeralContainers", "cannot be set on create");
    }
    if old.is_none() {
        let status = child(pod, "status");
        preset(status, "phase", || "Pending".into());
        preset(status, "qosClass", || quality.into());
    }
}

/// Completes and checks the addresses: the first one stands in `podIP` as well, which has the last word.
pub(super) fn admit_status(pod: &mut Map<String, Value>, causes: &mut Causes) {
    if let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) {
        agree_on_addresses(status);
    }
    let ips = pod.get("status").and_then(|status| status["podIPs"].as_array());
    for (index, ip) in ips.into_iter().flatten().enumerate() {
        super::service::check_syntax(&ip["ip"], &format!("status.podIPs[{index}]"), causes);
    }
}

fn agree_on_addresses(status: &mut Map<String, Value>) {
    let first = status.get("podIPs").map_or(Value::Null, |ips| ips[0]["ip"].clone());
    match status.get("podIP").filter(|ip| ip.as_str().is_some_and(|ip| !ip.is_empty())) {
        Some(ip) if *ip != first => {
            let ips = json!([{"ip": ip}]);
            status.insert("podIPs".into(), ips);
        }
        None if first.is_string() => {
            status.insert("podIP".into(), first);
        }
        _ => {}
    }
}

/// `status.qosClass`
fn quality(spec: &Map<String, Value>) -> &'static str {
    let containers = || {
        LISTS
            .iter()
            .flat_map(|list| spec.get(*list).and_then(Value::as_array).into_iter().flatten())
    };
    let part =
        |c: &Value, part: &str| c["resources"][part].as_object().cloned().unwrap_or_default();
    let guaranteed = |c: &Value| {
        let (limits, requests) = (part(c, "limits"), part(c, "requests"));
        ["cpu", "memory"].iter().all(|what| limits.contains_key(*what))
            && requests.iter().all(|(what, amount)| limits.get(what) == Some(amount))
    };
    if containers().all(|c| part(c, "limits").is_empty() && part(c, "requests").is_empty()) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
