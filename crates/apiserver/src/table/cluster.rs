//! Cells of nodes, events and priority classes.

use super::{UNKNOWN, holds, items, joined, since, text_or_none};
use serde_json::Value;

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
    node_address(node, "InternalIP")
}

pub(crate) fn node_external_ip(node: &Value) -> Value {
    node_address(node, "ExternalIP")
}

fn node_address(node: &Value, kind: &str) -> Value {
    let address = items(&node["status"]["addresses"]).find(|address| address["type"] == kind);
    text_or_none(address.and_then(|address| address["address"].as_str()).unwrap_or_default())
}

pub(crate) fn node_version(node: &Value) -> Value {
    node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().into()
}

pub(crate) fn node_image(node: &Value) -> Value {
    node_info(node, "osImage")
}

pub(crate) fn node_kernel(node: &Value) -> Value {
    node_info(node, "kernelVersion")
}

pub(crate) fn node_runtime(node: &Value) -> Value {
    node_info(node, "containerRuntimeVersion")
}

fn node_info(node: &Value, field: &str) -> Value {
    let text = node["status"]["nodeInfo"][field].as_str().filter(|text| !text.is_empty());
    text.unwrap_or(UNKNOWN).into()
}

pub(crate) fn event_object(event: &Value) -> Value {
    let about = &event["involvedObject"];
    let kind = about["kind"].as_str().unwrap_or_default().to_lowercase();
    format!("{kind}/{}", about["name"].as_str().unwrap_or_default()).into()
}

pub(crate) fn event_source(event: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let component = match text(&event["source"]["component"]) {
        component if component.is_empty() => text(&event["reportingComponent"]),
        component => component,
    };
    joined([component, text(&event["source"]["host"])].into_iter().filter(|part| !part.is_empty()))
}

pub(crate) fn event_message(event: &Value) -> Value {
    event["message"].as_str().unwrap_or_default().trim().into()
}

pub(crate) fn event_count(event: &Value) -> Value {
    let count = event["series"]["count"].as_i64().or_else(|| event["count"].as_i64());
    count.unwrap_or(1).max(1).into()
}

/// Moments of an event, the most telling first: old events have stamps, new ones a time and a series.
fn moment<'a>(event: &'a Value, places: &[&str]) -> &'a Value {
    let found = places.iter().filter_map(|place| event.pointer(place)).find(|it| it.is_string());
    found.unwrap_or(&Value::Null)
}

pub(crate) fn event_last_seen(event: &Value, now: i64) -> Value {
    let places = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"];
    since(moment(event, &places), now)
}

pub(crate) fn event_first_seen(event: &Value, now: i64) -> Value {
    since(moment(event, &["/firstTimestamp", "/eventTime"]), now)
}

pub(crate) fn global_default(class: &Value) -> Value {
    class["globalDefault"].as_bool().unwrap_or(false).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::super::NONE;
    use super::*;
    use serde_json::json;

    #[test]
    fn events_of_both_ages() {
        let old = json!({"firstTimestamp": "1970-01-01T00:00:10Z", "lastTimestamp": "1970-01-01T00:00:30Z",
            "count": 4, "source": {"component": "kubelet", "host": "n1"}});
        let new =
            json!({"eventTime": "1970-01-01T00:00:10.000000Z", "reportingComponent": "scheduler"});
        assert_eq!(event_last_seen(&old, 40), "10s");
        assert_eq!(event_first_seen(&old, 40), "30s");
        assert_eq!((event_count(&old), event_source(&old)), (4.into(), "kubelet,n1".into()));
        assert_eq!(event_last_seen(&new, 40), "30s");
        assert_eq!((event_count(&new), event_source(&new)), (1.into(), "scheduler".into()));
        assert_eq!(event_source(&json!({})), NONE);
    }
}
