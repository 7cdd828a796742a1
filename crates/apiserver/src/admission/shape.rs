//! The types of the fields that defaults and validation read.
//!
//! A field of another type is refused as the real server's decoder refuses it, so that what comes later need not
//! doubt it.

use crate::error::Error;
use crate::resources::{Kind, Resource};
use serde_json::Value;

#[derive(Debug, Clone, Copy)]
enum Shape {
    Map,
    List,
    Text,
    Integer,
    Flag,
    IntegerOrText,
}

use Shape::{Flag, Integer, IntegerOrText, List, Map, Text};

const SERVICE: &[(&str, Shape)] = &[
    ("spec", Map),
    ("status", Map),
    ("spec.type", Text),
    ("spec.clusterIP", Text),
    ("spec.clusterIPs", List),
    ("spec.clusterIPs[]", Text),
    ("spec.externalName", Text),
    ("spec.sessionAffinity", Text),
    ("spec.sessionAffinityConfig", Map),
    ("spec.sessionAffinityConfig.clientIP", Map),
    ("spec.sessionAffinityConfig.clientIP.timeoutSeconds", Integer),
    ("spec.internalTrafficPolicy", Text),
    ("spec.externalTrafficPolicy", Text),
    ("spec.allocateLoadBalancerNodePorts", Flag),
    ("spec.healthCheckNodePort", Integer),
    ("spec.ipFamilies", List),
    ("spec.ipFamilies[]", Text),
    ("spec.ipFamilyPolicy", Text),
    ("spec.selector", Map),
    ("spec.selector.*", Text),
    ("spec.externalIPs", List),
    ("spec.externalIPs[]", Text),
    ("spec.loadBalancerSourceRanges", List),
    ("spec.ports", List),
    ("spec.ports[]", Map),
    ("spec.ports[].name", Text),
    ("spec.ports[].protocol", Text),
    ("spec.ports[].port", Integer),
    ("spec.ports[].nodePort", Integer),
    ("spec.ports[].targetPort", IntegerOrText),
];

/// Fields of a pod's spec; `initContainers` are like `containers`.
const POD_SPEC: &[(&str, Shape)] = &[
    ("nodeName", Text),
    ("hostNetwork", Flag),
    ("restartPolicy", Text),
    ("dnsPolicy", Text),
    ("terminationGracePeriodSeconds", Integer),
    ("containers", List),
    ("containers[]", Map),
    ("containers[].name", Text),
    ("containers[].image", Text),
    ("containers[].imagePullPolicy", Text),
    ("containers[].command", List),
    ("containers[].command[]", Text),
    ("containers[].args", List),
    ("containers[].args[]", Text),
    ("containers[].resources", Map),
    ("containers[].resources.requests", Map),
    ("containers[].resources.limits", Map),
    ("containers[].env", List),
    ("containers[].env[]", Map),
    ("containers[].ports", List),
    ("containers[].ports[]", Map),
    ("containers[].ports[].name", Text),
    ("containers[].ports[].protocol", Text),
    ("containers[].ports[].containerPort", Integer),
    ("containers[].ports[].hostPort", Integer),
    ("containers[].livenessProbe", Map),
    ("containers[].livenessProbe.httpGet", Map),
    ("containers[].readinessProbe", Map),
    ("containers[].readinessProbe.httpGet", Map),
    ("containers[].startupProbe", Map),
    ("containers[].startupProbe.httpGet", Map),
];

const WORKLOAD: &[(&str, Shape)] = &[
    ("spec", Map),
    ("status", Map),
    ("spec.replicas", Integer),
    ("spec.selector", Map),
    ("spec.selector.matchLabels", Map),
    ("spec.selector.matchLabels.*", Text),
    ("spec.strategy", Map),
    ("spec.strategy.type", Text),
    ("spec.strategy.rollingUpdate", Map),
    ("spec.template", Map),
    ("spec.template.metadata", Map),
    ("spec.template.metadata.labels", Map),
    ("spec.template.metadata.labels.*", Text),
    ("spec.template.spec", Map),
];

const VIRTUAL_IP: &[(&str, Shape)] = &[
    ("spec", Map),
    ("status", Map),
    ("spec.addresses", List),
    ("spec.addresses[]", Text),
    ("spec.nodeSelector", Map),
    ("spec.vrrp", Map),
    ("spec.vrrp.virtualRouterId", Integer),
    ("spec.vrrp.advertisementInterval", Text),
    ("spec.vrrp.preempt", Flag),
    ("spec.listeners", List),
    ("spec.listeners[]", Map),
    ("spec.listeners[].name", Text),
    ("spec.listeners[].protocol", Text),
    ("spec.listeners[].port", Integer),
    ("spec.listeners[].algorithm", Text),
    ("spec.listeners[].backends", Map),
    ("spec.listeners[].healthCheck", Map),
];

const SLICE: &[(&str, Shape)] = &[
    ("addressType", Text),
    ("endpoints", List),
    ("endpoints[]", Map),
    ("endpoints[].addresses", List),
    ("endpoints[].addresses[]", Text),
    ("endpoints[].conditions", Map),
    ("ports", List),
    ("ports[]", Map),
    ("ports[].port", Integer),
];

/// Refuses an object with a field of the wrong type.
pub(super) fn check(resource: &Resource, object: &Value) -> Result<(), Error> {
    let checks = match resource.kind {
        Kind::Service => check_all(SERVICE, object, ""),
        Kind::Pod => check_all(&[("spec", Map), ("status", Map)], object, "")
            .and_then(|()| check_all(POD_SPEC, &object["spec"], "spec.")),
        Kind::Deployment | Kind::ReplicaSet => check_all(WORKLOAD, object, "").and_then(|()| {
            check_all(POD_SPEC, &object["spec"]["template"]["spec"], "spec.template.spec.")
        }),
        Kind::VirtualIP => check_all(VIRTUAL_IP, object, ""),
        Kind::EndpointSlice => check_all(SLICE, object, ""),
        Kind::Namespace | Kind::Node => check_all(&[("spec", Map), ("status", Map)], object, ""),
        _ => Ok(()),
    };
    checks.map_err(|wrong| {
        let (version, kind) = (resource.version, resource.name);
        let message =
            format!("{kind} in version {version:?} cannot be handled as a {kind}: {wrong}");
        Error::BadRequest { message }
    })
}

fn check_all(shapes: &[(&str, Shape)], root: &Value, prefix: &str) -> Result<(), String> {
    for (path, shape) in shapes {
        if !holds(root, path, *shape) {
            let path = path.trim_end_matches(".*");
            return Err(format!("{prefix}{path} is not {}", shape.name()));
        }
    }
    Ok(())
}

/// Whether every value at the path has the shape; values that are missing have.
fn holds(value: &Value, path: &str, shape: Shape) -> bool {
    if path.is_empty() {
        return value.is_null() || shape.fits(value);
    }
    if let Some(rest) = path.strip_prefix("[]") {
        let rest = rest.trim_start_matches('.');
        return value
            .as_array()
            .into_iter()
            .flatten()
            .all(|item| !item.is_null() && holds(item, rest, shape));
    }
    if path == "*" {
        return value.as_object().into_iter().flatten().all(|(_, value)| shape.fits(value));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    holds(&value[&path[..end]], path[end..].trim_start_matches('.'), shape)
}

impl Shape {
    fn fits(self, value: &Value) -> bool {
        match self {
            Map => value.is_object(),
            List => value.is_array(),
            Text => value.is_string(),
            Integer => value.is_i64() || value.is_u64(),
            Flag => value.is_boolean(),
            IntegerOrText => value.is_i64() || value.is_u64() || value.is_string(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Map => "an object",
            List => "a list",
            Text => "a string",
            Integer => "an integer",
            Flag => "a boolean",
            IntegerOrText => "an integer or a string",
        }
    }
}
