//! Virtual IPs: what the structural schema of their CustomResourceDefinition would say.

use super::causes::Causes;
use super::{child, items, preset, text};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

const ALGORITHMS: [&str; 2] = ["RoundRobin", "LeastConnections"];

pub(super) fn admit(vip: &mut Map<String, Value>, causes: &mut Causes) {
    let spec = child(vip, "spec");
    preset(spec, "nodeSelector", || json!({}));
    let vrrp = child(spec, "vrrp");
    preset(vrrp, "advertisementInterval", || "100ms".into());
    preset(vrrp, "preempt", || true.into());
    for listener in items(spec, "listeners") {
        preset(listener, "protocol", || "TCP".into());
        preset(listener, "algorithm", || "RoundRobin".into());
    }
    check_addresses(spec, causes);
    check_router(spec, causes);
    check_listeners(spec, causes);
}

fn check_addresses(spec: &Map<String, Value>, causes: &mut Causes) {
    let addresses = spec.get("addresses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if addresses.is_empty() {
        causes.required("spec.addresses", "");
    }
    for (index, address) in addresses.iter().enumerate() {
        if address.as_str().is_none_or(|text| text.parse::<IpAddr>().is_err()) {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.invalid(&format!("spec.addresses[{index}]"), address, detail);
        }
    }
}

/// RFC 9568 §5.2.3: 1–255.
fn check_router(spec: &Map<String, Value>, causes: &mut Causes) {
    let Some(router) = spec["vrrp"].get("virtualRouterId") else { return };
    if !router.as_u64().is_some_and(|id| (1..=255).contains(&id)) {
        causes.invalid("spec.vrrp.virtualRouterId", router, "must be between 1 and 255, inclusive");
    }
}

fn check_listeners(spec: &Map<String, Value>, causes: &mut Causes) {
    let listeners = spec.get("listeners").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut seen: Vec<(&str, &Value)> = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let Some(listener) = listener.as_object() else { continue };
        let path = format!("spec.listeners[{index}]");
        match listener.get("port") {
            None => causes.required(&format!("{path}.port"), ""),
            Some(port) => {
                causes.port(&format!("{path}.port"), port);
                let own = (text(listener, "protocol"), port);
                if seen.contains(&own) {
                    causes.duplicate(&format!("{path}.port"), port);
                }
                seen.push(own);
            }
        }
        causes.one_of(&format!("{path}.protocol"), text(listener, "protocol"), &["TCP"]);
        causes.one_of(&format!("{path}.algorithm"), text(listener, "algorithm"), &ALGORITHMS);
    }
}
