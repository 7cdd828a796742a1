//! Services.

use super::causes::Causes;
use super::{child, items, names, preset, text};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];

type Fields = Map<String, Value>;

pub(super) fn admit(service: &mut Fields, old: Option<&Value>, causes: &mut Causes) {
    let spec = child(service, "spec");
    preset(spec, "type", || "ClusterIP".into());
    if let Some(old) = old.and_then(|old| old["spec"].as_object()) {
        keep_allocated(spec, old);
        drop_unneeded(spec, old);
    }
    complete(spec);
    check(spec, causes);
    check_cluster_ips(spec, old, causes);
    if old.is_none() {
        preset(child(service, "status"), "loadBalancer", || json!({}));
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

fn is_exposed(spec: &Fields) -> bool {
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
    if !is_exposed(spec) && is_exposed(old) {
        if unchanged(spec, "externalTrafficPolicy") {
            spec.remove("externalTrafficPolicy");
        }
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
    if text(spec, "type") != "LoadBalancer" && unchanged(spec, "allocateLoadBalancerNodePorts") {
        spec.remove("allocateLoadBalancerNodePorts");
    }
    if !has_health_port(spec) && unchanged(spec, "healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
}

fn complete(spec: &mut Fields) {
    preset(spec, "sessionAffinity", || "None".into());
    if text(spec, "sessionAffinity") == "ClientIP" {
        let client = child(child(spec, "sessionAffinityConfig"), "clientIP");
        preset(client, "timeoutSeconds", || 10_800.into());
    } else {
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
    if is_exposed(spec) {
        preset(spec, "externalTrafficPolicy", || "Cluster".into());
    }
    if text(spec, "type") == "LoadBalancer" {
        preset(spec, "allocateLoadBalancerNodePorts", || true.into());
    }
}

fn check(spec: &Fields, causes: &mut Causes) {
    causes.one_of("spec.type", text(spec, "type"), &TYPES);
    causes.one_of("spec.sessionAffinity", text(spec, "sessionAffinity"), &AFFINITIES);
    for (field, needed) in [
        ("internalTrafficPolicy", has_cluster_ip(spec)),
        ("externalTrafficPolicy", is_exposed(spec)),
    ] {
        let path = format!("spec.{field}");
        match spec.get(field).and_then(Value::as_str) {
            Some(policy) if needed => causes.one_of(&path, policy, &POLICIES),
            Some(policy) if field == "externalTrafficPolicy" => {
                causes.invalid(
                    &path,
                    &policy.into(),
                    "may only be set for externally-accessible services",
                );
            }
            _ => {}
        }
    }
    if let Some(seconds) =
        spec.get("sessionAffinityConfig").map(|config| &config["clientIP"]["timeoutSeconds"])
        && !seconds.as_i64().is_some_and(|seconds| (1..=86_400).contains(&seconds))
    {
        let detail = "must be greater than 0 and less than or equal to 86400";
        causes.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, detail);
    }
    if text(spec, "type") == "ExternalName" && text(spec, "externalName").is_empty() {
        causes.required("spec.externalName", "");
    }
    check_ports(spec, causes);
}

fn check_ports(spec: &Fields, causes: &mut Causes) {
    let ports = spec.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if ports.is_empty() && has_cluster_ip(spec) && text(spec, "clusterIP") != "None" {
        causes.required("spec.ports", "");
    }
    let mut names: Vec<&str> = Vec::new();
    let mut pairs: Vec<(&Value, &Value)> = Vec::new();
    let mut node_ports: Vec<(&Value, &Value)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        check_port_name(port, &path, ports.len() > 1, &mut names, causes);
        match &port["port"] {
            Value::Null => causes.required(&format!("{path}.port"), ""),
            number => causes.port(&format!("{path}.port"), number),
        }
        causes.one_of(
            &format!("{path}.protocol"),
            port["protocol"].as_str().unwrap_or_default(),
            &PROTOCOLS,
        );
        match &port["targetPort"] {
            Value::Null => {}
            Value::String(name) => check_port_reference(name, &path, causes),
            number => causes.port(&format!("{path}.targetPort"), number),
        }
        let pair = (&port["port"], &port["protocol"]);
        if pairs.contains(&pair) {
            causes.duplicate(&path, &json!({"port": pair.0, "protocol": pair.1}));
        }
        pairs.push(pair);
        check_node_port(spec, port, &path, &mut node_ports, causes);
    }
}

fn check_node_port<'a>(
    spec: &Fields,
    port: &'a Value,
    path: &str,
    seen: &mut Vec<(&'a Value, &'a Value)>,
    causes: &mut Causes,
) {
    let number = &port["nodePort"];
    if number.as_i64().unwrap_or(0) == 0 {
        return;
    }
    let path = format!("{path}.nodePort");
    if !is_exposed(spec) {
        causes
            .forbidden(&path, &format!("may not be used when `type` is '{}'", text(spec, "type")));
    }
    let own = (number, &port["protocol"]);
    if seen.contains(&own) {
        causes.duplicate(&path, number);
    }
    seen.push(own);
}

fn check_port_name<'a>(
    port: &'a Value,
    path: &str,
    needed: bool,
    seen: &mut Vec<&'a str>,
    causes: &mut Causes,
) {
    let name = port["name"].as_str().unwrap_or_default();
    let field = format!("{path}.name");
    match names::label(name) {
        _ if name.is_empty() && needed => causes.required(&field, ""),
        _ if name.is_empty() => {}
        Err(detail) => causes.invalid(&field, &name.into(), detail),
        Ok(()) if seen.contains(&name) => causes.duplicate(&field, &name.into()),
        Ok(()) => seen.push(name),
    }
}

/// Port names: RFC 6335 §5.1, as the real server reads it.
fn check_port_reference(name: &str, path: &str, causes: &mut Causes) {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let detail = if name.len() > 15 {
        "must be no more than 15 characters"
    } else if !name.chars().all(letter) {
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    } else if !name.contains(|c: char| c.is_ascii_lowercase()) {
        "must contain at least one letter (a-z)"
    } else if name.contains("--") {
        "must not contain consecutive hyphens"
    } else if name.starts_with('-') || name.ends_with('-') {
        "must not begin or end with a hyphen"
    } else {
        return;
    };
    causes.invalid(&format!("{path}.targetPort"), &name.into(), detail);
}

fn check_cluster_ips(spec: &mut Fields, old: Option<&Value>, causes: &mut Causes) {
    let ip = text(spec, "clusterIP").to_owned();
    if !has_cluster_ip(spec) {
        if !ip.is_empty() {
            causes.forbidden("spec.clusterIPs", "may not be used when `type` is 'ExternalName'");
        }
        return;
    }
    let first =
        spec.get("clusterIPs").and_then(|ips| ips[0].as_str()).unwrap_or_default().to_owned();
    match (ip.is_empty(), first.is_empty()) {
        (false, true) => drop(spec.insert("clusterIPs".into(), json!([ip]))),
        (true, false) => drop(spec.insert("clusterIP".into(), first.into())),
        (false, false) if ip != first => {
            causes.invalid(
                "spec.clusterIPs",
                &spec["clusterIPs"],
                "first value must match `clusterIP`",
            );
        }
        _ => {}
    }
    let ip = text(spec, "clusterIP").to_owned();
    if !matches!(ip.as_str(), "" | "None") && ip.parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        causes.invalid("spec.clusterIPs[0]", &ip.as_str().into(), detail);
    }
    let before = old.map(|old| &old["spec"]).filter(|old| old["type"] != "ExternalName");
    let before = before.and_then(|old| old["clusterIP"].as_str()).unwrap_or_default();
    if !before.is_empty() && before != ip {
        let ips = spec.get("clusterIPs").cloned().unwrap_or_default();
        causes.invalid("spec.clusterIPs[0]", &ips, "may not change once set");
    }
}
