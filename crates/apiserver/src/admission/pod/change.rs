//! What may change of a pod (`ValidatePodUpdate`): its node is given by a binding, not by a write.

use super::check::list;
use crate::admission::causes::Causes;
use crate::admission::items;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const OTHERS: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(spec: &Fields, old: &Fields, causes: &mut Causes) {
    let before = causes.len();
    for containers in ["containers", "initContainers"] {
        if list(spec, containers).len() != list(old, containers).len() {
            let field = format!("spec.{containers}");
            return causes.forbidden(&field, "pod updates may not add or remove containers");
        }
    }
    check_deadline(spec, old, causes);
    if causes.len() > before {
        return;
    }
    check_tolerations(spec, old, causes);
    let grace = |spec: &Fields| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    let ending = grace(old).is_some_and(|it| it < 0) && grace(spec) == Some(1);
    if fixed(spec, ending) != fixed(old, ending) {
        causes.forbidden("spec", OTHERS);
    }
}

/// What stays, whoever writes.
fn fixed(spec: &Fields, ending: bool) -> Fields {
    let mut fixed = spec.clone();
    // A gate may be taken away.
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        fixed.remove(field);
    }
    if ending {
        fixed.remove("terminationGracePeriodSeconds");
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&mut fixed, containers) {
            container.remove("image");
        }
    }
    fixed
}

/// A deadline may come nearer, or be set where there was none.
fn check_deadline(spec: &Fields, old: &Fields, causes: &mut Causes) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let deadline = |spec: &Fields| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    match (deadline(spec), deadline(old)) {
        (Some(new), Some(old)) if new > old => {
            causes.invalid(FIELD, &new.into(), "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            causes.invalid(FIELD, &Value::Null, detail);
        }
        _ => {}
    }
}

/// How long one is good for may change, what it is about may not.
fn check_tolerations(spec: &Fields, old: &Fields, causes: &mut Causes) {
    let about = |toleration: &Value| {
        let mut about = toleration.clone();
        about
            .as_object_mut()
            .into_iter()
            .for_each(|fields| drop(fields.remove("tolerationSeconds")));
        about
    };
    let kept: Vec<Value> = list(spec, "tolerations").iter().map(about).collect();
    if !list(old, "tolerations").iter().all(|it| kept.contains(&about(it))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        causes.forbidden("spec.tolerations", detail);
    }
}
