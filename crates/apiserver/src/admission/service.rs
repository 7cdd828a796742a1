//! Services.

mod addresses;
mod check;

pub(super) use addresses::{check_endpoint, check_syntax};

use super::causes::Causes;
use super::{child, items, preset, text};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

pub(super) fn admit(service: &mut Fields, old: Option<&Value>, causes: &mut Causes) {
    let spec = child(service, "spec");
    if let Some(old) = old.and_then(|old| old["spec"].as_object()) {
        keep_allocated(spec, old);
        drop_unneeded(spec, old);
    }
    complete(spec);
    let old = old.map(|old| &old["spec"]);
    addresses::synchronise(spec, old);
    // The real server gives addresses before it looks at anything else.
    let mut first = Causes::default();
    addresses::check(spec, &mut first);
    if causes.told_first(first) {
        return;
    }
    if let Some(old) = old.and_then(Value::as_object) {
        addresses::check_change(spec, old, causes);
        check::change(spec, old, causes);
    }
    check::check(spec, old, causes);
    let old = old.is_some();
    let is_balancer = text(child(service, "spec"), "type") == "LoadBalancer";
    let status = child(service, "status");
    if old && !is_balancer {
        status.insert("loadBalancer".into(), json!({}));
    }
    preset(status, "loadBalancer", || json!({}));
}

/// The part of a balancer that somebody else reports.
pub(super) fn admit_status(service: &mut Fields, causes: &mut Causes) {
    let balancer = child(child(service, "status"), "loadBalancer");
    for (index, ingress) in items(balancer, "ingress").enumerate() {
        let path = format!("status.loadBalancer.ingress[{index}]");
        if let Some(ip) = ingress.get("ip").cloned() {
            preset(ingress, "ipMode", || "VIP".into());
            check_syntax(&ip, &format!("{path}.ip"), causes);
        }
        if ingress.contains_key("ipMode") {
            causes.one_of(&format!("{path}.ipMode"), text(ingress, "ipMode"), &["Proxy", "VIP"]);
        }
    }
}

pub(super) fn has_cluster_ip(spec: &Fields) -> bool {
    text(spec, "type") != "ExternalName"
}

pub(super) fn has_node_ports(spec: &Fields) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

/// Only a balancer with policy Local has a port for its health checks.
pub(super) fn has_health_port(spec: &Fields) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

pub(super) fn is_exposed(spec: &Fields) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

/// A replacement that does not mention what was allocated keeps it.
fn keep_allocated(spec: &mut Fields, old: &Fields) {
    if has_cluster_ip(spec) && has_cluster_ip(old) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.get(field) {
                preset(spec, field, || value.clone());
            }
        }
    }
    if is_exposed(spec) && is_exposed(old) {
        let ports = old.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for port in items(spec, "ports") {
            let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let own = (port.get("port").cloned(), protocol(&Value::Object(port.clone())));
            let same = ports.iter().find(|old| (old.get("port").cloned(), protocol(old)) == own);
            if let Some(node_port) = same.and_then(|same| same.get("nodePort")) {
                preset(port, "nodePort", || node_port.clone());
            }
        }
    }
    if has_health_port(spec)
        && let Some(port) = old.get("healthCheckNodePort")
    {
        preset(spec, "healthCheckNodePort", || port.clone());
    }
}

/// A change of type takes along what only the old type had, unless it was changed in the same breath.
fn drop_unneeded(spec: &mut Fields, old: &Fields) {
    let unchanged = |spec: &Fields, field: &str| spec.get(field) == old.get(field);
    if !has_cluster_ip(spec) && has_cluster_ip(old) {
        for field in
            ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
        {
            if unchanged(spec, field) {
                spec.remove(field);
            }
        }
    }
    let accessible = check::is_accessible;
    if !accessible(spec) && accessible(old) && unchanged(spec, "externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
    if !is_exposed(spec) && is_exposed(old) {
        let ports = old.get("ports").cloned().unwrap_or_default();
        let known = |node_port: &Value| {
            ports.as_array().into_iter().flatten().any(|old| old["nodePort"] == *node_port)
        };
        for port in items(spec, "ports") {
            if port.get("nodePort").is_some_and(known) {
                port.remove("nodePort");
            }
        }
    }
    if text(spec, "type") != "LoadBalancer" && text(old, "type") == "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(spec, field) {
                spec.remove(field);
            }
        }
    }
    if !has_health_port(spec) && unchanged(spec, "healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
}

/// Fills in the spec's defaults.
pub(super) fn complete(spec: &mut Fields) {
    preset(spec, "type", || "ClusterIP".into());
    preset(spec, "sessionAffinity", || "None".into());
    if text(spec, "sessionAffinity") == "ClientIP" {
        let client = child(child(spec, "sessionAffinityConfig"), "clientIP");
        preset(client, "timeoutSeconds", || 10_800.into());
    } else if text(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    }
    for port in items(spec, "ports") {
        preset(port, "protocol", || "TCP".into());
        if matches!(port.get("targetPort"), Some(Value::String(name)) if name.is_empty()) {
            port.remove("targetPort");
        }
        if port.get("targetPort").is_some_and(|target| *target == 0) {
            port.remove("targetPort");
        }
        if let Some(number) = port.get("port").cloned() {
            preset(port, "targetPort", || number);
        }
    }
    if has_cluster_ip(spec) {
        preset(spec, "internalTrafficPolicy", || "Cluster".into());
    }
    if check::is_accessible(spec) {
        preset(spec, "externalTrafficPolicy", || "Cluster".into());
    }
    if text(spec, "type") == "LoadBalancer" {
        preset(spec, "allocateLoadBalancerNodePorts", || true.into());
    }
}
