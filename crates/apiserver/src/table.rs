//! The Table view: what `kubectl get` prints of an object.
//!
//! Texts follow `k8s.io/kubernetes/pkg/printers/internalversion`.

use crate::resources::{Column, Resource};
use crate::time;
use serde_json::{Value, json};

/// Where a cell's value comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    /// The string at this JSON pointer, `<none>` without one.
    At(&'static str),
    /// The number at this JSON pointer, 0 without one.
    Count(&'static str),
    /// Computed from the object.
    Of(fn(&Value) -> Value),
}

const NONE: &str = "<none>";

/// How much of an object each row carries (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Include {
    Nothing,
    #[default]
    Metadata,
    Object,
}

/// A Table of these objects; `now` in seconds since 1970; `metadata` is the list's.
pub(crate) fn table<'a>(
    resource: &Resource,
    objects: impl Iterator<Item = &'a Value>,
    metadata: &Value,
    include: Include,
    now: i64,
) -> Value {
    let rows: Vec<Value> = objects.map(|object| row(resource, object, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions(resource),
        "rows": rows,
    })
}

fn definitions(resource: &Resource) -> Vec<Value> {
    let definition = |name: &str, shape: &str, format: &str, priority: u8| json!({"name": name, "type": shape, "format": format, "description": "", "priority": priority});
    let of = |column: &Column| definition(column.name, column.shape, "", u8::from(column.wide));
    let (wide, plain): (Vec<_>, Vec<_>) = resource.columns.iter().partition(|column| column.wide);
    std::iter::once(definition("Name", "string", "name", 0))
        .chain(plain.into_iter().map(of))
        .chain(std::iter::once(definition("Age", "string", "", 0)))
        .chain(wide.into_iter().map(of))
        .collect()
}

fn row(resource: &Resource, object: &Value, include: Include, now: i64) -> Value {
    let (wide, plain): (Vec<_>, Vec<_>) = resource.columns.iter().partition(|column| column.wide);
    let of = |column: &Column| cell(column.cell, object);
    let cells: Vec<Value> = std::iter::once(object["metadata"]["name"].clone())
        .chain(plain.into_iter().map(of))
        .chain(std::iter::once(age(object, now)))
        .chain(wide.into_iter().map(of))
        .collect();
    match include {
        Include::Nothing => json!({"cells": cells}),
        Include::Metadata => json!({"cells": cells, "object": metadata_only(object)}),
        Include::Object => json!({"cells": cells, "object": object}),
    }
}

/// The object as `PartialObjectMetadata`.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn age(object: &Value, now: i64) -> Value {
    let born = object["metadata"]["creationTimestamp"].as_str().and_then(time::seconds);
    born.map_or_else(|| "<unknown>".into(), |born| time::age(now - born).into())
}

fn cell(cell: Cell, object: &Value) -> Value {
    match cell {
        Cell::At(pointer) => {
            text_or_none(object.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
        }
        Cell::Count(pointer) => object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0).into(),
        Cell::Of(compute) => compute(object),
    }
}

fn text_or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

fn joined(parts: impl Iterator<Item = String>) -> Value {
    text_or_none(&parts.collect::<Vec<_>>().join(","))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    items(value).filter_map(Value::as_str).map(str::to_owned)
}

fn pairs(value: &Value) -> Value {
    let pairs = value.as_object().into_iter().flatten();
    joined(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())))
}

/// Whether the condition of this type is `True`.
fn holds(object: &Value, condition: &str) -> Option<bool> {
    items(&object["status"]["conditions"])
        .find(|c| c["type"] == condition)
        .map(|c| c["status"] == "True")
}

pub(crate) fn node_status(node: &Value) -> Value {
    let ready = match holds(node, "Ready") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    if node["spec"]["unschedulable"] == true {
        format!("{ready},SchedulingDisabled").into()
    } else {
        ready.into()
    }
}

pub(crate) fn node_roles(node: &Value) -> Value {
    let labels = node["metadata"]["labels"].as_object();
    let role = |label: &String| label.strip_prefix("node-role.kubernetes.io/").map(str::to_owned);
    joined(labels.into_iter().flat_map(|labels| labels.keys()).filter_map(role))
}

pub(crate) fn node_internal_ip(node: &Value) -> Value {
    let address =
        items(&node["status"]["addresses"]).find(|address| address["type"] == "InternalIP");
    text_or_none(address.and_then(|address| address["address"].as_str()).unwrap_or_default())
}

pub(crate) fn pod_ready(pod: &Value) -> Value {
    let ready =
        items(&pod["status"]["containerStatuses"]).filter(|status| status["ready"] == true).count();
    format!("{ready}/{}", items(&pod["spec"]["containers"]).count()).into()
}

pub(crate) fn pod_restarts(pod: &Value) -> Value {
    let counts = items(&pod["status"]["containerStatuses"])
        .filter_map(|status| status["restartCount"].as_u64());
    counts.sum::<u64>().to_string().into()
}

pub(crate) fn pod_status(pod: &Value) -> Value {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".into();
    }
    let statuses = items(&pod["status"]["containerStatuses"])
        .chain(items(&pod["status"]["initContainerStatuses"]));
    let reasons =
        statuses.flat_map(|status| [&status["state"]["waiting"], &status["state"]["terminated"]]);
    let reason =
        reasons.filter_map(|state| state["reason"].as_str()).find(|reason| !reason.is_empty());
    let phase = pod["status"]["reason"].as_str().or_else(|| pod["status"]["phase"].as_str());
    text_or_none(reason.or(phase).unwrap_or("Unknown"))
}

pub(crate) fn service_external_ip(service: &Value) -> Value {
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

pub(crate) fn service_ports(service: &Value) -> Value {
    joined(items(&service["spec"]["ports"]).map(|port| {
        let node_port = match port["nodePort"].as_u64() {
            Some(node_port) if node_port > 0 => format!(":{node_port}"),
            _ => String::new(),
        };
        format!("{}{node_port}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
    }))
}

pub(crate) fn service_selector(service: &Value) -> Value {
    pairs(&service["spec"]["selector"])
}

/// The first three, and how many more, as the real server shortens lists.
fn shortened(all: Vec<String>) -> Value {
    match all.len().checked_sub(3) {
        Some(more) if more > 0 => format!("{} + {more} more...", all[..3].join(",")).into(),
        _ => joined(all.into_iter()),
    }
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

pub(crate) fn data_entries(object: &Value) -> Value {
    let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    (count("data") + count("binaryData")).into()
}

pub(crate) fn secrets(account: &Value) -> Value {
    items(&account["secrets"]).count().into()
}

pub(crate) fn event_object(event: &Value) -> Value {
    let about = &event["involvedObject"];
    let kind = about["kind"].as_str().unwrap_or_default().to_lowercase();
    format!("{kind}/{}", about["name"].as_str().unwrap_or_default()).into()
}

pub(crate) fn deployment_ready(deployment: &Value) -> Value {
    let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
    format!("{ready}/{}", deployment["spec"]["replicas"].as_u64().unwrap_or(0)).into()
}

pub(crate) fn template_containers(workload: &Value) -> Value {
    let containers = items(&workload["spec"]["template"]["spec"]["containers"]);
    joined(containers.filter_map(|container| container["name"].as_str()).map(str::to_owned))
}

pub(crate) fn template_images(workload: &Value) -> Value {
    let containers = items(&workload["spec"]["template"]["spec"]["containers"]);
    joined(containers.filter_map(|container| container["image"].as_str()).map(str::to_owned))
}

pub(crate) fn match_labels(workload: &Value) -> Value {
    pairs(&workload["spec"]["selector"]["matchLabels"])
}

pub(crate) fn virtual_ip_addresses(vip: &Value) -> Value {
    joined(texts(&vip["spec"]["addresses"]))
}

pub(crate) fn virtual_ip_listeners(vip: &Value) -> Value {
    let listener = |l: &Value| format!("{}/{}", l["port"], l["protocol"].as_str().unwrap_or("TCP"));
    joined(items(&vip["spec"]["listeners"]).map(listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    fn cells(kind: Kind, object: &Value) -> Value {
        let table =
            table(kind.resource(), std::iter::once(object), &json!({}), Include::Nothing, 100);
        assert_eq!(
            table["columnDefinitions"].as_array().map(Vec::len),
            table["rows"][0]["cells"].as_array().map(Vec::len)
        );
        table["rows"][0]["cells"].clone()
    }

    #[test]
    fn rows() {
        let metadata = json!({"name": "web", "creationTimestamp": "1970-01-01T00:00:10Z"});
        for (kind, object, expected) in [
            (
                Kind::Service,
                json!({"metadata": metadata, "spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "selector": {"app": "web"},
                    "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}}),
                json!(["web", "NodePort", "10.96.0.7", "<none>", "80:30000/TCP", "90s", "app=web"]),
            ),
            (
                Kind::Pod,
                json!({"metadata": metadata, "spec": {"containers": [{}, {}], "nodeName": "n1"},
                    "status": {"phase": "Running", "podIP": "10.244.0.2", "containerStatuses": [{"ready": true, "restartCount": 2}]}}),
                json!([
                    "web",
                    "1/2",
                    "Running",
                    "2",
                    "90s",
                    "10.244.0.2",
                    "n1",
                    "<none>",
                    "<none>"
                ]),
            ),
            (
                Kind::EndpointSlice,
                json!({"metadata": metadata, "addressType": "IPv4", "ports": [{"port": 9376}],
                    "endpoints": [{"addresses": ["a"]}, {"addresses": ["b"]}, {"addresses": ["c"]}, {"addresses": ["d"]}]}),
                json!(["web", "IPv4", "9376", "a,b,c + 1 more...", "90s"]),
            ),
            (
                Kind::VirtualIP,
                json!({"metadata": metadata, "spec": {"addresses": ["10.1.1.200"], "listeners": [{"port": 30000}]}}),
                json!(["web", "10.1.1.200", "30000/TCP", "<none>", "90s"]),
            ),
        ] {
            assert_eq!(cells(kind, &object), expected);
        }
    }

    #[test]
    fn any_object_has_a_row() {
        for object in
            [json!({}), json!(null), json!({"spec": 3, "status": [], "metadata": {"labels": 1}})]
        {
            for resource in &crate::resources::RESOURCES {
                assert!(cells(resource.kind, &object).is_array());
            }
        }
    }
}
