//! What is wrong with a Service, in the order in which the real server says it
//! (`k8s.io/kubernetes/pkg/apis/core/validation`).

use super::{Fields, addresses, has_health_port, is_exposed};
use crate::admission::causes::Causes;
use crate::admission::{metadata, names, text};
use serde_json::Value;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const FOR_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn check(spec: &Fields, old: Option<&Value>, causes: &mut Causes) {
    if ports(spec).is_empty() && !is_headless(spec) && text(spec, "type") != "ExternalName" {
        causes.required("spec.ports", "");
    }
    by_type(spec, causes);
    check_ports(spec, causes);
    metadata::labels(spec.get("selector").unwrap_or(&Value::Null), "spec.selector", causes);
    affinity(spec, causes);
    addresses::check_external(spec, old, causes);
    causes.one_of("spec.type", text(spec, "type"), &TYPES);
    check_numbers(spec, old.is_none(), causes);
    balancer(spec, causes);
    policies(spec, causes);
}

/// What may not change while the type stays.
pub(super) fn change(spec: &Fields, old: &Fields, causes: &mut Causes) {
    let balancers = text(spec, "type") == "LoadBalancer" && text(old, "type") == "LoadBalancer";
    let class = spec.get("loadBalancerClass");
    if balancers && class != old.get("loadBalancerClass") {
        let class = class.unwrap_or(&Value::Null);
        causes.invalid("spec.loadBalancerClass", class, "may not change once set");
    }
    class_check(spec, causes);
    let port = |spec: &Fields| spec.get("healthCheckNodePort").cloned();
    if has_health_port(spec) && has_health_port(old) && port(spec) != port(old) {
        causes.forbidden("spec.healthCheckNodePort", "field is immutable");
    }
}

fn by_type(spec: &Fields, causes: &mut Causes) {
    let kind = text(spec, "type");
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            causes.invalid("spec.clusterIPs[0]", &"None".into(), &detail);
        }
        "ExternalName" => {
            let some = |field: &str| match spec.get(field) {
                Some(Value::Array(list)) => !list.is_empty(),
                value => value.is_some(),
            };
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if some(field) {
                    let path = format!("spec.{field}");
                    causes.forbidden(&path, "may not be set for ExternalName services");
                }
            }
            let name = text(spec, "externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            match names::subdomain(name) {
                _ if name.is_empty() => causes.required("spec.externalName", ""),
                Err(detail) => causes.invalid("spec.externalName", &name.into(), detail),
                Ok(()) => {}
            }
        }
        _ => {}
    }
}

fn check_ports(spec: &Fields, causes: &mut Causes) {
    let ports = ports(spec);
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        check_name(port, &format!("{path}.name"), ports.len() > 1, &mut seen, causes);
        causes.port(&format!("{path}.port"), &number(port, "port"));
        causes.one_of(
            &format!("{path}.protocol"),
            port["protocol"].as_str().unwrap_or_default(),
            &PROTOCOLS,
        );
        let field = format!("{path}.targetPort");
        match &port["targetPort"] {
            Value::Null => causes.port(&field, &0.into()),
            Value::String(name) => causes.each(&field, &name.as_str().into(), names::port(name)),
            number => causes.port(&field, number),
        }
        if let Some(protocol) = port["appProtocol"].as_str() {
            let field = format!("{path}.appProtocol");
            causes.each(&field, &protocol.into(), names::qualified(protocol));
        }
    }
}

fn check_name<'a>(
    port: &'a Value,
    field: &str,
    needed: bool,
    seen: &mut Vec<&'a str>,
    causes: &mut Causes,
) {
    let name = port["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        if needed {
            causes.required(field, "");
        }
        return;
    }
    if let Err(detail) = names::label(name) {
        causes.invalid(field, &name.into(), detail);
    }
    if seen.contains(&name) {
        causes.duplicate(field, &name.into());
    }
    seen.push(name);
}

fn affinity(spec: &Fields, causes: &mut Causes) {
    causes.one_of("spec.sessionAffinity", text(spec, "sessionAffinity"), &AFFINITIES);
    if text(spec, "sessionAffinity") != "ClientIP" {
        return;
    }
    let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if !seconds.as_i64().is_some_and(|seconds| (1..=86_400).contains(&seconds)) {
        let detail = "must be greater than 0 and less than 86400";
        causes.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, detail);
    }
}

/// Node ports where there are none, and numbers that come twice.
fn check_numbers(spec: &Fields, new: bool, causes: &mut Causes) {
    let ports = ports(spec);
    let with_number = || {
        let numbered = ports.iter().enumerate();
        numbered.filter(|(_, port)| port["nodePort"].as_i64().unwrap_or(0) != 0)
    };
    let path = |index: usize| format!("spec.ports[{index}]");
    if text(spec, "type") == "ClusterIP" {
        for (index, _) in with_number() {
            let detail = "may not be used when `type` is 'ClusterIP'";
            causes.forbidden(&format!("{}.nodePort", path(index)), detail);
        }
    }
    let mut seen: Vec<(&Value, &Value)> = Vec::new();
    for (index, port) in with_number() {
        let own = (&port["nodePort"], &port["protocol"]);
        if seen.contains(&own) {
            let field = format!("{}.nodePort", path(index));
            match new {
                // Of a new service ports are given out before anybody looks.
                true => causes.invalid(&field, own.0, "provided port is already allocated"),
                false => causes.duplicate(&field, own.0),
            }
        }
        seen.push(own);
    }
    let mut seen: Vec<(&Value, &Value)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let own = (&port["port"], &port["protocol"]);
        if seen.contains(&own) {
            // As Go prints what it compares.
            let shown = format!(
                r#"{{"Name":"","Protocol":{},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                own.1, own.0
            );
            causes.duplicate_shown(&path(index), &shown);
        }
        seen.push(own);
    }
}

fn balancer(spec: &Fields, causes: &mut Causes) {
    let is_balancer = text(spec, "type") == "LoadBalancer";
    let ranges = spec.get("loadBalancerSourceRanges").and_then(Value::as_array);
    if let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) {
        // The real server writes this field's name so.
        if !is_balancer {
            causes.forbidden("spec.LoadBalancerSourceRanges", FOR_BALANCERS);
        }
        for (index, range) in ranges.iter().enumerate() {
            let text = range.as_str().unwrap_or_default().trim();
            if text.parse::<ipnet::IpNet>().is_err() {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                let field = format!("spec.LoadBalancerSourceRanges[{index}]");
                causes.invalid(&field, &text.into(), detail);
            }
        }
    }
    if spec.contains_key("allocateLoadBalancerNodePorts") && !is_balancer {
        causes.forbidden("spec.allocateLoadBalancerNodePorts", FOR_BALANCERS);
    }
    class_check(spec, causes);
}

fn class_check(spec: &Fields, causes: &mut Causes) {
    let Some(class) = spec.get("loadBalancerClass") else { return };
    if text(spec, "type") == "LoadBalancer" {
        let details = names::qualified(class.as_str().unwrap_or_default());
        causes.each("spec.loadBalancerClass", class, details);
    } else {
        causes.forbidden("spec.loadBalancerClass", FOR_BALANCERS);
    }
}

fn policies(spec: &Fields, causes: &mut Causes) {
    const EXTERNAL: &str = "spec.externalTrafficPolicy";
    let external = text(spec, "externalTrafficPolicy");
    if is_accessible(spec) {
        causes.one_of(EXTERNAL, external, &POLICIES);
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        causes.invalid(EXTERNAL, &external.into(), detail);
    }
    let port = spec.get("healthCheckNodePort").filter(|port| **port != 0);
    if let Some(port) = port {
        if has_health_port(spec) {
            causes.port("spec.healthCheckNodePort", port);
        } else {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            causes.invalid("spec.healthCheckNodePort", port, detail);
        }
    }
    if let Some(internal) = spec.get("internalTrafficPolicy").and_then(Value::as_str) {
        causes.one_of("spec.internalTrafficPolicy", internal, &POLICIES);
    }
    if let Some(distribution) = spec.get("trafficDistribution").and_then(Value::as_str) {
        causes.one_of("spec.trafficDistribution", distribution, &DISTRIBUTIONS);
    }
}

/// Whether anybody outside of the cluster can come in.
pub(super) fn is_accessible(spec: &Fields) -> bool {
    let some = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    is_exposed(spec) || some && text(spec, "type") == "ClusterIP"
}

pub(super) fn is_headless(spec: &Fields) -> bool {
    let first = spec.get("clusterIPs").and_then(|it| it[0].as_str());
    spec.get("clusterIPs").and_then(Value::as_array).is_some_and(|it| it.len() == 1)
        && first == Some("None")
}

fn ports(spec: &Fields) -> &[Value] {
    spec.get("ports").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A missing number is 0.
fn number(port: &Value, field: &str) -> Value {
    port.get(field).cloned().unwrap_or_else(|| 0.into())
}
