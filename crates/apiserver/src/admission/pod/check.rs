//! What is wrong with a pod's spec, in the order in which the real server says it
//! (`k8s.io/kubernetes/pkg/apis/core/validation`).

use super::container;
use super::guests::FIELD;
use crate::admission::causes::Causes;
use crate::admission::{metadata, names, text};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const RESTARTS: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks a spec that stands at `path`; `is_pod`: of a pod itself, not of a workload's template.
pub(in crate::admission) fn check(spec: &Fields, path: &str, is_pod: bool, causes: &mut Causes) {
    let volumes = check_volumes(spec, path, causes);
    container::check_all(spec, path, &volumes, causes);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        check_host_ports(spec, path, is_pod, causes);
    }
    causes.one_of(&format!("{path}.restartPolicy"), text(spec, "restartPolicy"), &RESTARTS);
    causes.one_of(&format!("{path}.dnsPolicy"), text(spec, "dnsPolicy"), &DNS);
    let selector = spec.get("nodeSelector").unwrap_or(&Value::Null);
    metadata::labels(selector, &format!("{path}.nodeSelector"), causes);
    for (field, rule) in [
        ("serviceAccountName", names::subdomain as fn(&str) -> Result<(), &'static str>),
        ("nodeName", names::subdomain),
    ] {
        check_name(spec, path, field, rule, causes);
    }
    if let Some(seconds) = spec.get("activeDeadlineSeconds")
        && !seconds.as_i64().is_some_and(|seconds| (1..=i64::from(i32::MAX)).contains(&seconds))
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        causes.invalid(&format!("{path}.activeDeadlineSeconds"), seconds, detail);
    }
    if !is_pod && !list(spec, FIELD).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        causes.forbidden(&format!("{path}.{FIELD}"), detail);
    }
    check_name(spec, path, "hostname", names::label, causes);
    check_name(spec, path, "subdomain", names::label, causes);
    check_tolerations(spec, path, causes);
}

fn check_name(
    spec: &Fields,
    path: &str,
    field: &str,
    rule: fn(&str) -> Result<(), &'static str>,
    causes: &mut Causes,
) {
    let name = text(spec, field);
    if let (false, Err(detail)) = (name.is_empty(), rule(name)) {
        causes.invalid(&format!("{path}.{field}"), &name.into(), detail);
    }
}

/// The names of the good ones.
fn check_volumes<'a>(spec: &'a Fields, path: &str, causes: &mut Causes) -> Vec<&'a str> {
    let mut good = Vec::new();
    for (index, volume) in list(spec, "volumes").iter().filter_map(Value::as_object).enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let before = causes.len();
        let mut sources: Vec<&String> = volume.keys().filter(|field| *field != "name").collect();
        sources.sort_by_key(|source| SOURCES.iter().position(|known| known == source));
        for source in sources.iter().skip(1) {
            let detail = "may not specify more than 1 volume type";
            causes.forbidden(&format!("{path}.{source}"), detail);
        }
        if let Some(host) = volume.get("hostPath")
            && host["path"].as_str().is_none_or(str::is_empty)
        {
            causes.required(&format!("{path}.hostPath.path"), "");
        }
        let (name, field) = (text(volume, "name"), format!("{path}.name"));
        match names::label(name) {
            _ if name.is_empty() => causes.required(&field, ""),
            Err(detail) => causes.invalid(&field, &name.into(), detail),
            Ok(()) => {}
        }
        if good.contains(&name) {
            causes.duplicate(&field, &name.into());
        }
        if causes.len() == before {
            good.push(name);
        }
    }
    good
}

/// The order in which the real server looks for them.
const SOURCES: [&str; 10] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "secret",
    "nfs",
    "persistentVolumeClaim",
    "downwardAPI",
    "configMap",
    "projected",
    "csi",
];

fn check_host_ports(spec: &Fields, path: &str, is_pod: bool, causes: &mut Causes) {
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let ports = container["ports"].as_array().into_iter().flatten();
        for (number, port) in ports.enumerate() {
            let (host, own) = (&port["hostPort"], &port["containerPort"]);
            if (is_pod || !host.is_null()) && host != own {
                let field = format!("{path}.containers[{index}].ports[{number}].hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                causes.invalid(&field, host, detail);
            }
        }
    }
}

fn check_tolerations(spec: &Fields, path: &str, causes: &mut Causes) {
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        let path = format!("{path}.tolerations[{index}]");
        let text = |field: &str| toleration[field].as_str().unwrap_or_default();
        let (key, operator, effect) = (text("key"), text("operator"), text("effect"));
        if !key.is_empty() {
            causes.each(&format!("{path}.key"), &key.into(), names::qualified(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.invalid(&format!("{path}.operator"), &operator.into(), detail);
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.invalid(&format!("{path}.effect"), &effect.into(), detail);
        }
        let (field, value) = (format!("{path}.operator"), text("value"));
        match operator {
            "" | "Equal" => {
                let faults = names::label_value(value);
                if !faults.is_empty() {
                    causes.invalid(&field, &value.into(), &faults.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                causes.invalid(&field, &value.into(), detail);
            }
            "Exists" => {}
            other => causes.unsupported(&field, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            causes.one_of(&format!("{path}.effect"), effect, &EFFECTS);
        }
    }
}

pub(super) fn list<'a>(fields: &'a Fields, field: &str) -> &'a [Value] {
    fields.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
