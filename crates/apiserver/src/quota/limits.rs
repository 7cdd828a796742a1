//! Ranges of what one pod, container or claim may want (`k8s.io/kubernetes/plugin/pkg/admission/limitranger`).

use super::{Amounts, amounts, usage};
use crate::quantity::Quantity;
use crate::resources::Kind;
use serde_json::{Map, Value, json};

const NOTE: &str = "kubernetes.io/limit-ranger";

/// Gives a pod's containers what a range says where they say nothing, and notes that.
pub(crate) fn complete(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for limit in items(range).filter(|it| it["type"] == "Container") {
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
        limits.extend(limit["default"].as_object().cloned().unwrap_or_default());
    }
    let mut notes = Vec::new();
    for (list, kind) in [("containers", "container"), ("initContainers", "init container")] {
        for container in
            pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
        {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, what, defaults) in
                [("requests", "request", &requests), ("limits", "limit", &limits)]
            {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"][NOTE] = note.into();
    }
}

/// The names of what was filled in.
fn fill(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        let list = &mut container["resources"][field];
        if list.is_null() {
            *list = json!({});
        }
        if list.get(name).is_none() {
            list[name] = amount.clone();
            set.push(name.clone());
        }
    }
    set.sort_unstable();
    set
}

/// All that is wrong with an object by a range; `None`: nothing is.
pub(crate) fn check(range: &Value, kind: Kind, object: &Value) -> Option<String> {
    let mut faults = Vec::new();
    let spec = &object["spec"];
    for limit in items(range) {
        let of =
            |resources: &Value| (amounts(&resources["requests"]), amounts(&resources["limits"]));
        match (limit["type"].as_str().unwrap_or_default(), kind) {
            ("Container", Kind::Pod) => {
                for container in super::containers(spec) {
                    let (requests, limits) = of(&container["resources"]);
                    check_one("Container", limit, &requests, Some(&limits), &mut faults);
                }
            }
            ("Pod", Kind::Pod) => {
                let (requests, limits) =
                    (usage::whole(spec, "requests"), usage::whole(spec, "limits"));
                check_one("Pod", limit, &requests, Some(&limits), &mut faults);
            }
            ("PersistentVolumeClaim", Kind::PersistentVolumeClaim) => {
                let (requests, _) = of(&spec["resources"]);
                check_one("PersistentVolumeClaim", limit, &requests, None, &mut faults);
            }
            _ => {}
        }
    }
    // The same words of several containers are said once.
    let mut said: Vec<String> = Vec::new();
    faults.into_iter().for_each(|fault| {
        if !said.contains(&fault) {
            said.push(fault)
        }
    });
    match said.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

/// `limits`: none where the kind has none, and requests count.
fn check_one(
    kind: &str,
    range: &Value,
    requests: &Amounts,
    limits: Option<&Amounts>,
    faults: &mut Vec<String>,
) {
    let request = |name: &str| requests.get(name).copied();
    let limit = |name: &str| limits.and_then(|limits| limits.get(name).copied());
    for (name, least) in amounts(&range["min"]) {
        let why = match (request(&name), limit(&name)) {
            (None, _) => ".  No request is specified".to_owned(),
            (Some(it), _) if it < least => format!(", but request is {it}"),
            (_, Some(it)) if it < least => format!(", but limit is {it}"),
            _ => continue,
        };
        faults.push(format!("minimum {name} usage per {kind} is {least}{why}"));
    }
    for (name, most) in amounts(&range["max"]) {
        let (given, what) = match limits {
            Some(_) => (limit(&name), "limit"),
            None => (request(&name), "request"),
        };
        let why = match (given, request(&name)) {
            (None, _) => format!(".  No {what} is specified"),
            (Some(it), _) if it > most => format!(", but {what} is {it}"),
            (_, Some(it)) if it > most => format!(", but request is {it}"),
            _ => continue,
        };
        faults.push(format!("maximum {name} usage per {kind} is {most}{why}"));
    }
    for (name, most) in
        amounts(&range["maxLimitRequestRatio"]).into_iter().filter(|_| limits.is_some())
    {
        let some = |it: Option<Quantity>| it.filter(|it| !it.is_zero());
        let why = match (some(request(&name)), some(limit(&name))) {
            (None, _) => "no request is specified or request is 0".to_owned(),
            (_, None) => "no limit is specified or limit is 0".to_owned(),
            (Some(request), Some(limit)) => match limit.ratio(request) {
                ratio if ratio > most.ratio(Quantity::count(1)) => {
                    format!("provided ratio is {ratio:.6}")
                }
                _ => continue,
            },
        };
        faults.push(format!("{name} max limit to request ratio per {kind} is {most}, but {why}"));
    }
}

fn items(range: &Value) -> impl Iterator<Item = &Value> {
    range["spec"]["limits"].as_array().into_iter().flatten()
}
