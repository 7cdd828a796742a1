//! What a pod's containers need changes while they run (`ValidatePodResize`).

use super::check::{self as spec_of, list};
use super::quality;
use crate::admission::causes::Causes;
use crate::admission::metadata;
use crate::quantity;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Fields = Map<String, Value>;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// What may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const OTHERS: &str = "only cpu and memory resources are mutable";

pub(in crate::admission) fn check(pod: &Value, old: &Value, causes: &mut Causes) {
    metadata::check(&pod["metadata"], Some(&old["metadata"]), true, causes);
    let (Some(spec), Some(before)) = (pod["spec"].as_object(), old["spec"].as_object()) else {
        return;
    };
    spec_of::check(spec, "spec", true, causes);
    if !old["metadata"]["annotations"][MIRROR].is_null() {
        *causes = Causes::default();
        return causes.forbidden("", "static pods cannot be resized");
    }
    let class = old["status"]["qosClass"].as_str().unwrap_or_default();
    if class != quality(spec) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        causes.invalid("spec", &class.into(), detail);
    }
    if !is_supported(&old["status"]) {
        causes.forbidden("spec", "Pod running on node without support for resize");
    }
    if !check_order(spec, before, causes) {
        return;
    }
    check_kept(spec, before, causes);
    check_others(spec, before, causes);
}

/// A kubelet that can do it says what containers have.
fn is_supported(status: &Value) -> bool {
    let mut statuses = status["containerStatuses"].as_array().into_iter().flatten();
    let running = statuses.find(|it| it["state"]["running"].is_object());
    running.is_none_or(|it| it["resources"].is_object())
}

fn check_order(spec: &Fields, old: &Fields, causes: &mut Causes) -> bool {
    let before = causes.len();
    for containers in ["containers", "initContainers"] {
        let (now, then) = (list(spec, containers), list(old, containers));
        if now.len() != then.len() {
            let detail = format!("{containers} may not be added or removed on resize");
            causes.forbidden(&format!("spec.{containers}"), &detail);
            continue;
        }
        for (index, (now, then)) in now.iter().zip(then).enumerate() {
            if now["name"] != then["name"] {
                let detail = format!("{containers} may not be renamed or reordered on resize");
                causes.forbidden(&format!("spec.{containers}[{index}].name"), &detail);
            }
        }
    }
    causes.len() == before
}

/// What was asked for once is asked for ever, if not as much.
fn check_kept(spec: &Fields, old: &Fields, causes: &mut Causes) {
    for containers in ["initContainers", "containers"] {
        for (index, (now, then)) in
            list(spec, containers).iter().zip(list(old, containers)).enumerate()
        {
            for part in ["requests", "limits"] {
                let mut names = then["resources"][part].as_object().into_iter().flat_map(Map::keys);
                if names.any(|name| now["resources"][part].get(name).is_none()) {
                    let field = format!("spec.{containers}[{index}].resources.{part}");
                    causes.forbidden(&field, &format!("resource {part} cannot be removed"));
                }
            }
        }
    }
}

fn check_others(spec: &Fields, old: &Fields, causes: &mut Causes) {
    for (now, then) in list(spec, "containers").iter().zip(list(old, "containers")) {
        if others(now) != others(then) {
            causes.forbidden("spec", OTHERS);
        }
    }
    for (index, (now, then)) in
        list(spec, "initContainers").iter().zip(list(old, "initContainers")).enumerate()
    {
        let field = format!("spec.initContainers[{index}]");
        if others(now) != others(then) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            causes.forbidden(&field, detail);
        }
        let mut policies = now["resizePolicy"].as_array().into_iter().flatten();
        let restarts = policies.any(|it| it["restartPolicy"] == "RestartContainer");
        if restarts && now != then && now["restartPolicy"] != "Always" {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            causes.forbidden(&field, detail);
        }
    }
}

/// What a container's change of each resource asks of it.
pub(super) fn check_policies(container: &Fields, path: &str, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        let text = |field: &str| policy[field].as_str().unwrap_or_default();
        let (name, restart) = (text("resourceName"), text("restartPolicy"));
        if seen.contains(&name) {
            causes.duplicate(&format!("{path}[{index}]"), &name.into());
        }
        seen.push(name);
        for (value, supported) in
            [(name, RESIZABLE), (restart, ["NotRequired", "RestartContainer"])]
        {
            match value {
                "" => causes.required(path, ""),
                _ if !supported.contains(&value) => causes.unsupported(path, value, &supported),
                _ => {}
            }
        }
    }
}

/// A container without what may change of it.
fn others(container: &Value) -> (Value, [BTreeMap<String, Option<f64>>; 2]) {
    let amounts = ["requests", "limits"].map(|part| {
        let listed = container["resources"][part].as_object().into_iter().flatten();
        let fixed = listed.filter(|(name, _)| !RESIZABLE.contains(&name.as_str()));
        fixed.map(|(name, amount)| (name.clone(), quantity::parse(amount))).collect()
    });
    let mut rest = container.clone();
    rest.as_object_mut().into_iter().for_each(|fields| drop(fields.remove("resources")));
    (rest, amounts)
}
