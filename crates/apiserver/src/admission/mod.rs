//! Defaults and validation of what comes in, and allocation of service addresses and ports. Pure.
//!
//! Wording follows `k8s.io/kubernetes/pkg/apis/*/validation`: people search for these sentences.

mod addresses;
mod causes;
mod definition;
mod names;
mod pod;
mod pools;
mod service;
mod virtual_ip;
mod workload;

pub(crate) use pools::Pools;

use crate::error::Error;
use crate::resources::{Kind, Resource};
use causes::Causes;
use serde_json::{Map, Value, json};

/// Completes an object and refuses a wrong one; `old` is what it replaces.
pub(crate) fn admit(
    resource: &'static Resource,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Error> {
    // A custom kind's null may mean something, and a definition may hold one as a default.
    match resource.kind {
        Kind::Custom(_) | Kind::CustomResourceDefinition => drop_nulls(&mut object["metadata"]),
        _ => drop_nulls(object),
    }
    let mut causes = Causes::default();
    if old.is_none() {
        names::check(resource, object, &mut causes);
    }
    let fields = object.as_object_mut().expect("the registry adopts objects only");
    match resource.kind {
        Kind::CustomResourceDefinition => {
            let born =
                fields["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
            definition::admit(fields, old, &born, &mut causes);
        }
        Kind::Namespace => complete_namespace(fields),
        Kind::ServiceCIDR if old.is_none() => complete_range(fields),
        Kind::Service => service::admit(fields, old, &mut causes),
        Kind::Pod => pod::admit(fields, old, &mut causes),
        Kind::Deployment | Kind::ReplicaSet => {
            workload::admit(resource.kind, fields, old, &mut causes)
        }
        Kind::EndpointSlice => check_slice(fields, &mut causes),
        Kind::VirtualIP => virtual_ip::admit(fields, &mut causes),
        _ => {}
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    causes.into_result(resource, name)
}

/// A null means what a missing field means.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A range is ready as soon as it is there: addresses are given out here.
fn complete_range(range: &mut Map<String, Value>) {
    let born = range["metadata"]["creationTimestamp"].clone();
    let ready = json!({"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": born,
        "message": "Kubernetes Service CIDR is ready"});
    preset(child(range, "status"), "conditions", || json!([ready]));
}

fn complete_namespace(namespace: &mut Map<String, Value>) {
    let name = namespace["metadata"]["name"].clone();
    let metadata = child(namespace, "metadata");
    child(metadata, "labels").insert("kubernetes.io/metadata.name".into(), name);
    let spec = child(namespace, "spec");
    preset(spec, "finalizers", || json!(["kubernetes"]));
    preset(child(namespace, "status"), "phase", || "Active".into());
}

fn check_slice(slice: &mut Map<String, Value>, causes: &mut Causes) {
    const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
    match slice.get("addressType").and_then(Value::as_str) {
        None | Some("") => causes.required("addressType", ""),
        Some(other) if !TYPES.contains(&other) => causes.unsupported("addressType", other, &TYPES),
        Some(_) => {}
    }
    preset(slice, "endpoints", || json!([]));
    for port in items(slice, "ports") {
        preset(port, "name", || "".into());
        preset(port, "protocol", || "TCP".into());
    }
    for (index, endpoint) in items(slice, "endpoints").enumerate() {
        let field = format!("endpoints[{index}].addresses");
        match endpoint.get("addresses").and_then(Value::as_array).map_or(0, Vec::len) {
            0 => causes.required(&field, "must contain at least 1 address"),
            1..=100 => {}
            _ => causes.invalid(&field, &Value::Null, "must have at most 100 items"),
        }
    }
}

/// The map under a key, made if missing. What is there is a map: types are checked first.
fn child<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| json!({}));
    value.as_object_mut().expect("types are checked first")
}

/// The maps in the list under a key.
fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = map.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Fills in what is missing.
fn preset(map: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> Value) {
    map.entry(key).or_insert_with(value);
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
