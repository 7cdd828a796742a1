//! The Table view: what `kubectl get` prints of an object.
//!
//! Texts follow `k8s.io/kubernetes/pkg/printers/internalversion`.

pub(crate) mod certificate;
pub(crate) mod cluster;
pub(crate) mod count;
pub(crate) mod device;
pub(crate) mod network;
pub(crate) mod path;
pub(crate) mod pod;
pub(crate) mod rights;
pub(crate) mod service;
pub(crate) mod storage;
pub(crate) mod workload;

use crate::resources::{Column, Resource};
use crate::store::Object;
use crate::time;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// Where a cell's value comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    /// The string at this JSON pointer, `<none>` without one.
    At(&'static str),
    /// The number at this JSON pointer, 0 without one.
    Count(&'static str),
    /// How long ago the moment at this JSON pointer was.
    Since(&'static str),
    /// Computed from the object.
    Of(fn(&Value) -> Value),
    /// What a path leads to, nothing without it.
    Path(&'static path::Path),
    /// How long ago the moment was that a path leads to.
    SincePath(&'static path::Path),
    /// Computed from the object and the time.
    Timed(fn(&Value, i64) -> Value),
}

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

/// How much of an object each row carries (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Include {
    Nothing,
    #[default]
    Metadata,
    Object,
}

/// A Table of these objects, JSON; `now` in seconds since 1970; `metadata` is the list's. Each object is let go when its
/// row is written.
pub(crate) fn table(
    resource: &Resource,
    objects: impl Iterator<Item = Arc<Object>>,
    metadata: &Value,
    include: Include,
    now: i64,
) -> Bytes {
    list(
        &head(resource.columns, metadata),
        objects.map(|object| row(resource, &object.value, include, now)),
    )
}

/// A Table of one value with columns of its own, JSON.
pub(crate) fn of_one(columns: &[Column], value: &Value, include: Include, now: i64) -> Bytes {
    let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
    list(&head(columns, &metadata), std::iter::once(written(columns, value, value, include, now)))
}

fn head(columns: &[Column], metadata: &Value) -> String {
    let columns = columns.iter().map(definition).collect::<Value>();
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"columnDefinitions":{columns},"rows":["#
    )
}

/// A JSON list in an object: `head` ends with its bracket.
pub(crate) fn list(head: &str, items: impl Iterator<Item = impl AsRef<[u8]>>) -> Bytes {
    let mut text = head.as_bytes().to_vec();
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(item.as_ref());
    }
    text.extend_from_slice(b"]}\n");
    text.into()
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.shape,
        "format": if column.name == "Name" { "name" } else { "" },
        "description": "",
        "priority": u8::from(column.wide),
    })
}

fn row(resource: &Resource, object: &Value, include: Include, now: i64) -> String {
    let shown = resource.shown(object);
    // Columns of built-in kinds read what is stored, those of a custom kind's version what that one shows.
    let read = if resource.is_custom() { &*shown } else { object };
    written(resource.columns, read, &shown, include, now)
}

fn written(columns: &[Column], read: &Value, shown: &Value, include: Include, now: i64) -> String {
    let cells: Value = columns.iter().map(|column| cell(column.cell, read, now)).collect();
    match include {
        Include::Nothing => format!(r#"{{"cells":{cells}}}"#),
        Include::Metadata => {
            format!(r#"{{"cells":{cells},"object":{}}}"#, metadata_only(&read["metadata"]))
        }
        Include::Object => format!(r#"{{"cells":{cells},"object":{shown}}}"#),
    }
}

/// An object as `PartialObjectMetadata`, JSON, from its metadata.
pub(crate) fn metadata_only(metadata: &Value) -> String {
    format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#
    )
}

fn cell(cell: Cell, object: &Value, now: i64) -> Value {
    match cell {
        Cell::At(pointer) => {
            text_or_none(object.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
        }
        Cell::Count(pointer) => object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0).into(),
        Cell::Since(pointer) => match object.pointer(pointer) {
            None if pointer.starts_with("/status") => NONE.into(),
            moment => since(moment.unwrap_or(&Value::Null), now),
        },
        Cell::Path(path) => match path.find(object).as_slice() {
            [] => Value::Null,
            [Value::Array(_) | Value::Object(_)] => path.find(object)[0].to_string().into(),
            [one] => (*one).clone(),
            several => joined(several.iter().map(|it| it.to_string())),
        },
        Cell::SincePath(path) => match path.find(object).first() {
            Some(moment) => since(moment, now),
            None => Value::Null,
        },
        Cell::Of(compute) => compute(object),
        Cell::Timed(compute) => compute(object, now),
    }
}

/// How long ago that moment was.
fn since(moment: &Value, now: i64) -> Value {
    let moment = moment.as_str().and_then(time::seconds);
    moment.map_or_else(|| UNKNOWN.into(), |moment| time::age(now - moment).into())
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

/// `k=v,k=v`
fn pairs(value: &Value) -> Value {
    let pairs = value.as_object().into_iter().flatten();
    joined(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())))
}

/// A label selector in one line; `{}` selects all and is shown as `none`.
pub(crate) fn selector(value: &Value, none: &str) -> Value {
    let labels = value["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expression = |e: &Value| {
        let key = e["key"].as_str().unwrap_or_default();
        let values = texts(&e["values"]).collect::<Vec<_>>().join(",");
        match e["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    };
    let all: Vec<String> =
        labels.chain(items(&value["matchExpressions"]).map(expression)).collect();
    if all.is_empty() { none.into() } else { all.join(",").into() }
}

/// Whether the condition of this type is `True`.
fn holds(object: &Value, condition: &str) -> Option<bool> {
    items(&object["status"]["conditions"])
        .find(|c| c["type"] == condition)
        .map(|c| c["status"] == "True")
}

/// The first three, and how many more, as the real server shortens lists.
fn shortened(all: Vec<String>) -> Value {
    match all.len().checked_sub(3) {
        Some(more) if more > 0 => format!("{} + {more} more...", all[..3].join(",")).into(),
        _ => joined(all.into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    fn cells(kind: Kind, object: &Value) -> Value {
        let object = std::iter::once(Arc::new(Object::unsaved(object.clone())));
        let table = table(kind.resource(), object, &json!({}), Include::Nothing, 100);
        let table: Value = serde_json::from_slice(&table).expect("JSON");
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
