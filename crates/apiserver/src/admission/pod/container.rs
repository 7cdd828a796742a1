//! Containers, their ports, environment, mounts and probes.

use super::check::list;
use super::{guests, resize, resources};
use crate::admission::causes::Causes;
use crate::admission::{names, text};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULLS: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const MESSAGES: [&str; 2] = ["File", "FallbackToLogsOnError"];
const SCHEMES: [&str; 2] = ["HTTP", "HTTPS"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Containers and init containers; `volumes` are there to be mounted.
pub(super) fn check_all(spec: &Fields, path: &str, volumes: &[&str], causes: &mut Causes) {
    let containers = list(spec, "containers");
    if containers.is_empty() {
        causes.required(&format!("{path}.containers"), "");
    }
    let mut seen = Vec::new();
    for (index, container) in containers.iter().filter_map(Value::as_object).enumerate() {
        let path = format!("{path}.containers[{index}]");
        check(container, &path, volumes, causes);
        check_unique(container, &path, &mut seen, causes);
        check_handlers(container, &path, causes);
    }
    check_host_ports(spec, path, causes);
    let init = list(spec, "initContainers").iter().filter_map(Value::as_object);
    for (index, container) in init.enumerate() {
        let path = format!("{path}.initContainers[{index}]");
        check(container, &path, volumes, causes);
        check_unique(container, &path, &mut seen, causes);
        if text(container, "restartPolicy") == "Always" {
            check_handlers(container, &path, causes);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.contains_key(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                causes.forbidden(&format!("{path}.{field}"), detail);
            }
        }
    }
    guests::check_all(spec, path, volumes, seen, causes);
}

pub(super) fn check_unique<'a>(
    container: &'a Fields,
    path: &str,
    seen: &mut Vec<&'a str>,
    causes: &mut Causes,
) {
    let name = text(container, "name");
    if seen.contains(&name) {
        causes.duplicate(&format!("{path}.name"), &name.into());
    } else {
        seen.push(name);
    }
}

pub(super) fn check(container: &Fields, path: &str, volumes: &[&str], causes: &mut Causes) {
    let (name, field) = (text(container, "name"), format!("{path}.name"));
    match names::label(name) {
        _ if name.is_empty() => causes.required(&field, ""),
        Err(detail) => causes.invalid(&field, &name.into(), detail),
        Ok(()) => {}
    }
    if text(container, "image").is_empty() {
        causes.required(&format!("{path}.image"), "");
    }
    let policy = text(container, "terminationMessagePolicy");
    causes.one_of(&format!("{path}.terminationMessagePolicy"), policy, &MESSAGES);
    check_ports(container, path, causes);
    check_environment(container, path, causes);
    check_mounts(container, path, volumes, causes);
    resources::check(container, &format!("{path}.resources"), causes);
    resize::check_policies(container, &format!("{path}.resizePolicy"), causes);
    causes.one_of(&format!("{path}.imagePullPolicy"), text(container, "imagePullPolicy"), &PULLS);
}

fn check_ports(container: &Fields, path: &str, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let (name, field) = (port["name"].as_str().unwrap_or_default(), format!("{path}.name"));
        let faults = if name.is_empty() { Vec::new() } else { names::port(name) };
        if !faults.is_empty() {
            causes.each(&field, &name.into(), faults);
        } else if !name.is_empty() && seen.contains(&name) {
            causes.duplicate(&field, &name.into());
        } else {
            seen.push(name);
        }
        match &port["containerPort"] {
            number if number.as_i64().unwrap_or(0) == 0 => {
                causes.required(&format!("{path}.containerPort"), "");
            }
            number => causes.port(&format!("{path}.containerPort"), number),
        }
        if port["hostPort"].as_i64().is_some_and(|number| number != 0) {
            causes.port(&format!("{path}.hostPort"), &port["hostPort"]);
        }
        let protocol = port["protocol"].as_str().unwrap_or_default();
        causes.one_of(&format!("{path}.protocol"), protocol, &PROTOCOLS);
    }
}

/// A port of the node is given once, over all containers.
fn check_host_ports(spec: &Fields, path: &str, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let ports = container["ports"].as_array().into_iter().flatten().enumerate();
        for (number, port) in ports.filter(|(_, port)| port["hostPort"].as_i64().unwrap_or(0) != 0)
        {
            let text = |field: &str| port[field].as_str().unwrap_or_default();
            let own = format!("{}/{}/{}", text("protocol"), text("hostIP"), port["hostPort"]);
            if seen.contains(&own) {
                let field = format!("{path}.containers[{index}].ports[{number}].hostPort");
                causes.duplicate(&field, &own.as_str().into());
            }
            seen.push(own);
        }
    }
}

fn check_environment(container: &Fields, path: &str, causes: &mut Causes) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        let name = variable["name"].as_str().unwrap_or_default();
        let printable = |c: char| (' '..='~').contains(&c) && c != '=';
        if name.is_empty() {
            causes.required(&format!("{path}.name"), "");
        } else if !name.chars().all(printable) {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            causes.invalid(&format!("{path}.name"), &name.into(), detail);
        }
        let Some(source) = variable["valueFrom"].as_object() else { continue };
        let detail = match source.len() {
            0 => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            }
            _ if variable["value"].as_str().is_some_and(|it| !it.is_empty()) => {
                "may not be specified when `value` is not empty"
            }
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        causes.invalid(&format!("{path}.valueFrom"), &"".into(), detail);
    }
}

fn check_mounts(container: &Fields, path: &str, volumes: &[&str], causes: &mut Causes) {
    let mut seen = Vec::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let text = |field: &str| mount[field].as_str().unwrap_or_default();
        let (name, point) = (text("name"), text("mountPath"));
        if name.is_empty() {
            causes.required(&format!("{path}.name"), "");
        }
        if !volumes.contains(&name) {
            causes.not_found(&format!("{path}.name"), name);
        }
        if point.is_empty() {
            causes.required(&format!("{path}.mountPath"), "");
        }
        if seen.contains(&point) {
            causes.invalid(&format!("{path}.mountPath"), &point.into(), "must be unique");
        }
        seen.push(point);
    }
}

fn check_handlers(container: &Fields, path: &str, causes: &mut Causes) {
    for action in ["postStart", "preStop"] {
        let lifecycle = container.get("lifecycle");
        if let Some(action_fields) = lifecycle.and_then(|it| it[action].as_object()) {
            check_handler(action_fields, &format!("{path}.lifecycle.{action}"), causes);
        }
    }
    for name in PROBES {
        let Some(probe) = container.get(name).and_then(Value::as_object) else { continue };
        let path = format!("{path}.{name}");
        check_handler(probe, &path, causes);
        for field in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            let value = probe.get(field).unwrap_or(&Value::Null);
            causes.not_negative(&format!("{path}.{field}"), value);
        }
        if name != "readinessProbe" && probe["successThreshold"] != 1 {
            let field = format!("{path}.successThreshold");
            causes.invalid(&field, &probe["successThreshold"], "must be 1");
        }
    }
}

/// What a probe or a lifecycle's step does: one thing.
fn check_handler(action: &Fields, path: &str, causes: &mut Causes) {
    let given = HANDLERS.into_iter().filter(|handler| action.contains_key(*handler));
    let mut given = given.collect::<Vec<_>>().into_iter();
    let Some(first) = given.next() else {
        return causes.required(path, "must specify a handler type");
    };
    let (handler, path_of) = (&action[first], format!("{path}.{first}"));
    match first {
        "exec" if handler["command"].as_array().is_none_or(Vec::is_empty) => {
            causes.required(&format!("{path_of}.command"), "");
        }
        "httpGet" => {
            check_port(handler, &path_of, causes);
            let scheme = handler["scheme"].as_str().unwrap_or_default();
            causes.one_of(&format!("{path_of}.scheme"), scheme, &SCHEMES);
        }
        "tcpSocket" | "grpc" => check_port(handler, &path_of, causes),
        _ => {}
    }
    for other in given {
        let detail = "may not specify more than 1 handler type";
        causes.forbidden(&format!("{path}.{other}"), detail);
    }
}

fn check_port(handler: &Value, path: &str, causes: &mut Causes) {
    let field = format!("{path}.port");
    match &handler["port"] {
        Value::String(name) => causes.each(&field, &name.as_str().into(), names::port(name)),
        number => causes.port(&field, number),
    }
}
