//! Cells of services and their endpoints.

use super::{items, joined, pairs, shortened, text_or_none, texts};
use serde_json::Value;

pub(crate) fn external_ip(service: &Value) -> Value {
    let ingress = items(&service["status"]["loadBalancer"]["ingress"]);
    let balanced = ingress
        .filter_map(|i| i["ip"].as_str().or_else(|| i["hostname"].as_str()))
        .map(str::to_owned);
    let all: Vec<String> = balanced.chain(texts(&service["spec"]["externalIPs"])).collect();
    match service["spec"]["type"].as_str() {
        Some("ExternalName") => {
            text_or_none(service["spec"]["externalName"].as_str().unwrap_or_default())
        }
        Some("LoadBalancer") if all.is_empty() => "<pending>".into(),
        _ => joined(all.into_iter()),
    }
}

pub(crate) fn ports(service: &Value) -> Value {
    joined(items(&service["spec"]["ports"]).map(|port| {
        let node_port = match port["nodePort"].as_u64() {
            Some(node_port) if node_port > 0 => format!(":{node_port}"),
            _ => String::new(),
        };
        format!("{}{node_port}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
    }))
}

pub(crate) fn selector(service: &Value) -> Value {
    pairs(&service["spec"]["selector"])
}

pub(crate) fn endpoints(endpoints: &Value) -> Value {
    let of_subset = |subset: &Value| -> Vec<String> {
        let ports: Vec<String> =
            items(&subset["ports"]).map(|port| port["port"].to_string()).collect();
        let addresses = items(&subset["addresses"]).filter_map(|address| address["ip"].as_str());
        addresses.flat_map(|ip| ports.iter().map(move |port| format!("{ip}:{port}"))).collect()
    };
    shortened(items(&endpoints["subsets"]).flat_map(of_subset).collect())
}

pub(crate) fn slice_ports(slice: &Value) -> Value {
    let ports = items(&slice["ports"])
        .map(|port| port["port"].as_u64().map_or("*".into(), |port| port.to_string()));
    let ports: Vec<String> = ports.collect();
    if ports.is_empty() { "<unset>".into() } else { shortened(ports) }
}

pub(crate) fn slice_endpoints(slice: &Value) -> Value {
    let all: Vec<String> =
        items(&slice["endpoints"]).flat_map(|endpoint| texts(&endpoint["addresses"])).collect();
    if all.is_empty() { "<unset>".into() } else { shortened(all) }
}
