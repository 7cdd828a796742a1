//! EndpointSlices and Endpoints (`k8s.io/kubernetes/pkg/apis/{discovery,core}/validation`).

use super::causes::Causes;
use super::service::check_endpoint;
use super::{items, names, preset, text};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

type Fields = Map<String, Value>;

const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// Of one slice, of one endpoint.
const ENDPOINTS: usize = 1000;
const ADDRESSES: usize = 100;

pub(super) fn complete_slice(slice: &mut Fields) {
    preset(slice, "endpoints", || Value::Null);
    items(slice, "endpoints").for_each(|endpoint| preset(endpoint, "conditions", || json!({})));
    preset(slice, "ports", || Value::Null);
    for port in items(slice, "ports") {
        preset(port, "name", || "".into());
        preset(port, "protocol", || "TCP".into());
    }
}

pub(super) fn slice(slice: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let kind = text(slice, "addressType");
    if kind.is_empty() {
        causes.required("addressType", "");
    } else {
        causes.one_of("addressType", kind, &TYPES);
    }
    check_ports(slice, causes);
    // What was good enough before is not looked at again.
    let same = old.is_some_and(|old| old["endpoints"] == slice["endpoints"]);
    let endpoints = slice["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    if !same && endpoints.len() > ENDPOINTS {
        causes.too_many("endpoints", endpoints.len(), ENDPOINTS);
    } else if !same {
        for (index, endpoint) in endpoints.iter().enumerate() {
            check_one(endpoint, kind, &format!("endpoints[{index}]"), causes);
        }
    }
    if old.is_some_and(|old| old["addressType"] != kind) {
        causes.invalid("addressType", &kind.into(), "field is immutable");
    }
}

fn check_ports(slice: &Fields, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (index, port) in list(&slice["ports"]).iter().enumerate() {
        let path = format!("ports[{index}]");
        let text = |field: &str| port[field].as_str().unwrap_or_default();
        let (name, field) = (text("name"), format!("{path}.name"));
        if let (false, Err(detail)) = (name.is_empty(), names::label(name)) {
            causes.invalid(&field, &name.into(), detail);
        }
        if seen.contains(&name) {
            causes.duplicate(&field, &name.into());
        }
        seen.push(name);
        causes.one_of(&format!("{path}.protocol"), text("protocol"), &PROTOCOLS);
        if let Some(protocol) = port["appProtocol"].as_str() {
            let field = format!("{path}.appProtocol");
            causes.each(&field, &protocol.into(), names::qualified(protocol));
        }
    }
}

fn check_one(endpoint: &Value, kind: &str, path: &str, causes: &mut Causes) {
    let field = format!("{path}.addresses");
    let addresses = list(&endpoint["addresses"]);
    match addresses.len() {
        0 => causes.required(&field, "must contain at least 1 address"),
        1..=ADDRESSES => {}
        many => causes.too_many(&field, many, ADDRESSES),
    }
    for (index, address) in addresses.iter().enumerate() {
        check_address(address, kind, &field, index, causes);
    }
    for (name, rule) in [
        ("nodeName", names::subdomain as fn(&str) -> Result<(), &'static str>),
        ("hostname", names::label),
    ] {
        if let Some(Err(detail)) = endpoint[name].as_str().map(rule) {
            causes.invalid(&format!("{path}.{name}"), &endpoint[name], detail);
        }
    }
}

fn check_address(shown: &Value, kind: &str, list: &str, index: usize, causes: &mut Causes) {
    let path = format!("{list}[{index}]");
    let address = shown.as_str().unwrap_or_default();
    let (wanted_v4, parsed) = match kind {
        "IPv4" => (true, address.parse()),
        "IPv6" => (false, address.parse()),
        "FQDN" => {
            if let Err(detail) = names::subdomain(address) {
                causes.invalid(&path, shown, detail);
            }
            return;
        }
        _ => return,
    };
    match parsed {
        Err(_) => causes.invalid(&path, shown, NO_ADDRESS),
        Ok(parsed) => {
            let parsed: IpAddr = parsed;
            if parsed.is_ipv4() != wanted_v4 {
                causes.invalid(list, shown, &format!("must be an {kind} address"));
            }
            check_endpoint(parsed, shown, &path, causes);
        }
    }
}

pub(super) fn complete_endpoints(endpoints: &mut Fields) {
    for subset in items(endpoints, "subsets") {
        items(subset, "ports").for_each(|port| preset(port, "protocol", || "TCP".into()));
    }
}

pub(super) fn endpoints(endpoints: &Fields, causes: &mut Causes) {
    for (index, subset) in list(endpoints.get("subsets").unwrap_or(&Value::Null)).iter().enumerate()
    {
        let path = format!("subsets[{index}]");
        let sets = ["addresses", "notReadyAddresses"];
        if sets.iter().all(|set| list(&subset[*set]).is_empty()) {
            causes.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for set in sets {
            for (index, address) in list(&subset[set]).iter().enumerate() {
                old_address(&address["ip"], &format!("{path}.{set}[{index}].ip"), causes);
            }
        }
        let ports = list(&subset["ports"]);
        for (index, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{index}]");
            let text = |field: &str| port[field].as_str().unwrap_or_default();
            match text("name") {
                "" if ports.len() > 1 => causes.required(&format!("{path}.name"), ""),
                "" => {}
                name => {
                    if let Err(detail) = names::label(name) {
                        causes.invalid(&format!("{path}.name"), &name.into(), detail);
                    }
                }
            }
            causes.port(&format!("{path}.port"), &port["port"]);
            causes.one_of(&format!("{path}.protocol"), text("protocol"), &PROTOCOLS);
        }
    }
}

/// Said twice by the real server, in two ways.
fn old_address(shown: &Value, path: &str, causes: &mut Causes) {
    match shown.as_str().unwrap_or_default().parse() {
        Err(_) => {
            causes.invalid(path, shown, NO_ADDRESS);
            causes.invalid(path, shown, "must be a valid IP address");
        }
        Ok(address) => check_endpoint(address, shown, path, causes),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
