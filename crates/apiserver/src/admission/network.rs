//! NetworkPolicies and Ingresses (`k8s.io/kubernetes/pkg/apis/networking/{v1/defaults.go,validation}`).

use super::causes::Causes;
use super::workload::selector;
use super::{child, items, names, preset};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

type Fields = Map<String, Value>;

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const DIRECTIONS: [(&str, &str, &str); 2] =
    [("ingress", "from", "Ingress"), ("egress", "to", "Egress")];
const NO_PREFIX: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn complete_policy(spec: &mut Fields) {
    preset(spec, "podSelector", || json!({}));
    for (direction, _, _) in DIRECTIONS {
        for rule in items(spec, direction) {
            items(rule, "ports").for_each(|port| preset(port, "protocol", || "TCP".into()));
        }
    }
    if list(spec.get("policyTypes").unwrap_or(&Value::Null)).is_empty() {
        let egress = !list(spec.get("egress").unwrap_or(&Value::Null)).is_empty();
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

pub(super) fn policy(policy: &mut Fields, causes: &mut Causes) {
    let spec = child(policy, "spec");
    selector(&spec["podSelector"], "spec.podSelector", causes);
    for (direction, peers, _) in DIRECTIONS {
        let rules = list(spec.get(direction).unwrap_or(&Value::Null)).iter().enumerate();
        for (index, rule) in rules {
            let path = format!("spec.{direction}[{index}]");
            for (index, port) in list(&rule["ports"]).iter().enumerate() {
                policy_port(port, &format!("{path}.ports[{index}]"), causes);
            }
            for (index, peer) in list(&rule[peers]).iter().enumerate() {
                policy_peer(peer, &format!("{path}.{peers}[{index}]"), causes);
            }
        }
    }
    for (index, kind) in list(&spec["policyTypes"]).iter().enumerate() {
        let field = format!("spec.policyTypes[{index}]");
        causes.one_of(&field, kind.as_str().unwrap_or_default(), &DIRECTIONS.map(|it| it.2));
    }
}

fn policy_port(port: &Value, path: &str, causes: &mut Causes) {
    let protocol = port["protocol"].as_str().unwrap_or_default();
    causes.one_of(&format!("{path}.protocol"), protocol, &PROTOCOLS);
    let (first, last) = (&port["port"], &port["endPort"]);
    let (field, end) = (format!("{path}.port"), format!("{path}.endPort"));
    match first {
        Value::Number(_) => {
            causes.port(&field, first);
            if last.is_null() {
                return;
            }
            if last.as_i64() < first.as_i64() {
                causes.invalid(&end, first, "must be greater than or equal to `port`");
            }
            causes.port(&end, last);
        }
        Value::String(name) => {
            if !last.is_null() {
                causes.invalid(&end, last, "may not be specified when `port` is non-numeric");
            }
            causes.each(&field, first, names::port(name));
        }
        _ if !last.is_null() => {
            causes.invalid(&end, last, "may not be specified when `port` is not specified");
        }
        _ => {}
    }
}

fn policy_peer(peer: &Value, path: &str, causes: &mut Causes) {
    let some = |field: &str| !peer[field].is_null();
    for field in ["podSelector", "namespaceSelector"] {
        selector(&peer[field], &format!("{path}.{field}"), causes);
    }
    if some("ipBlock") {
        block(&peer["ipBlock"], &format!("{path}.ipBlock"), causes);
    }
    let selectors = some("podSelector") || some("namespaceSelector");
    match (selectors, some("ipBlock")) {
        (false, false) => causes.required(path, "must specify a peer"),
        (true, true) => causes.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn block(block: &Value, path: &str, causes: &mut Causes) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let whole = text(&block["cidr"]);
    if whole.is_empty() {
        return causes.required(&format!("{path}.cidr"), "");
    }
    let Ok(whole) = whole.parse::<IpNet>() else {
        return causes.invalid(&format!("{path}.cidr"), &block["cidr"], NO_PREFIX);
    };
    for (index, except) in list(&block["except"]).iter().enumerate() {
        let field = format!("{path}.except[{index}]");
        match text(except).parse::<IpNet>() {
            Err(_) => causes.invalid(&field, except, NO_PREFIX),
            Ok(part) if whole.contains(&part) && part.prefix_len() > whole.prefix_len() => {}
            Ok(_) => causes.invalid(&field, except, "must be a strict subset of `cidr`"),
        }
    }
}

pub(super) fn ingress(ingress: &mut Fields, causes: &mut Causes) {
    preset(child(ingress, "status"), "loadBalancer", || json!({}));
    let none = json!({});
    let spec = ingress.get("spec").unwrap_or(&none);
    let rules = list(&spec["rules"]);
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        causes.invalid("spec", &spec["rules"], detail);
    }
    if !spec["defaultBackend"].is_null() {
        backend(&spec["defaultBackend"], "spec.defaultBackend", causes);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        let name = rule["host"].as_str().unwrap_or_default();
        if !name.is_empty() {
            host(name, &format!("{path}.host"), true, causes);
        }
        let paths = list(&rule["http"]["paths"]);
        if rule["http"].is_object() && paths.is_empty() {
            causes.required(&format!("{path}.http.paths"), "");
        }
        for (index, http) in paths.iter().enumerate() {
            http_path(http, &format!("{path}.http.paths[{index}]"), causes);
        }
    }
    for (index, tls) in list(&spec["tls"]).iter().enumerate() {
        for (number, name) in list(&tls["hosts"]).iter().enumerate() {
            let field = format!("spec.tls[{index}].hosts[{number}]");
            host(name.as_str().unwrap_or_default(), &field, false, causes);
        }
    }
}

/// A DNS name, or a wildcard for one label of it.
fn host(name: &str, field: &str, no_address: bool, causes: &mut Causes) {
    if no_address && name.parse::<IpAddr>().is_ok() {
        causes.invalid(field, &name.into(), "must be a DNS name, not an IP address");
    }
    let rest = if name.contains('*') { name.strip_prefix("*.").unwrap_or("*") } else { name };
    match names::subdomain(rest) {
        Ok(()) => {}
        Err(_) if name.contains('*') => {
            let detail = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
            causes.invalid(field, &name.into(), detail);
        }
        Err(detail) => causes.invalid(field, &name.into(), detail),
    }
}

fn http_path(http: &Value, path: &str, causes: &mut Causes) {
    let asked = http["path"].as_str().unwrap_or_default();
    let field = format!("{path}.path");
    match http["pathType"].as_str() {
        None => {
            return causes.required(&format!("{path}.pathType"), "pathType must be specified");
        }
        Some(kind @ ("Exact" | "Prefix" | "ImplementationSpecific")) => {
            let strict = kind != "ImplementationSpecific";
            if !asked.starts_with('/') && (strict || !asked.is_empty()) {
                causes.invalid(&field, &asked.into(), "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|_| strict) {
                if asked.contains(part) {
                    causes.invalid(&field, &asked.into(), &format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."].into_iter().filter(|_| strict) {
                if asked.ends_with(end) {
                    causes.invalid(&field, &asked.into(), &format!("cannot end with '{end}'"));
                }
            }
        }
        Some(other) => causes.unsupported(&format!("{path}.pathType"), other, &PATH_TYPES),
    }
    backend(&http["backend"], &format!("{path}.backend"), causes);
}

fn backend(backend: &Value, path: &str, causes: &mut Causes) {
    let service = &backend["service"];
    let nothing = Value::from("");
    match (service.is_null(), backend["resource"].is_null()) {
        (true, true) => causes.invalid(path, &nothing, "resource or service backend is required"),
        (false, false) => {
            causes.invalid(path, &nothing, "cannot set both resource and service backends");
        }
        (true, false) => {}
        (false, true) => {
            let (name, field) =
                (service["name"].as_str().unwrap_or_default(), format!("{path}.service.name"));
            match names::label(name) {
                _ if name.is_empty() => causes.required(&field, ""),
                Err(detail) => causes.invalid(&field, &name.into(), detail),
                Ok(()) => {}
            }
            backend_port(&service["port"], path, causes);
        }
    }
}

fn backend_port(port: &Value, path: &str, causes: &mut Causes) {
    let name = port["name"].as_str().unwrap_or_default();
    let number = port["number"].as_i64().unwrap_or(0);
    match (name.is_empty(), number) {
        (true, 0) => causes.required(path, "port name or number is required"),
        (false, 0) => {
            causes.each(&format!("{path}.service.port.name"), &name.into(), names::port(name));
        }
        (true, _) => causes.port(&format!("{path}.service.port.number"), &port["number"]),
        (false, _) => {
            causes.invalid(path, &"".into(), "cannot set both port name & port number");
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
