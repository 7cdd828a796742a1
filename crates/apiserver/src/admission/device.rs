//! Claims and slices of devices, and classes of volumes: what is missing, and what may not change.

use super::causes::Causes;
use super::{child, items, preset};
use crate::resources::Kind;
use serde_json::{Map, Value};

/// How many devices each request of a claim is for.
pub(super) fn complete_claim(spec: &mut Map<String, Value>) {
    for request in items(child(spec, "devices"), "requests") {
        let exactly = request.get_mut("exactly").and_then(Value::as_object_mut);
        exactly.into_iter().for_each(complete_request);
        items(request, "firstAvailable").for_each(complete_request);
    }
}

fn complete_request(request: &mut Map<String, Value>) {
    preset(request, "allocationMode", || "ExactCount".into());
    if request["allocationMode"] == "ExactCount" {
        preset(request, "count", || 1.into());
    }
}

pub(super) fn admit(kind: Kind, spec: &Value, old: Option<&Value>, causes: &mut Causes) {
    let Some(old) = old.map(|old| &old["spec"]) else { return };
    let frozen: &[&str] = match kind {
        Kind::ResourceSlice => &["/pool/name", "/driver", "/nodeName"],
        _ => &[""],
    };
    for pointer in frozen {
        let (new, old) = (spec.pointer(pointer), old.pointer(pointer));
        if new != old {
            let path = format!("spec{}", pointer.replace('/', "."));
            causes.invalid(&path, new.unwrap_or(&Value::Null), "field is immutable");
        }
    }
}

pub(super) fn admit_attributes(
    object: &Map<String, Value>,
    old: Option<&Value>,
    causes: &mut Causes,
) {
    let Some(old) = old else { return };
    for field in ["driverName", "parameters"] {
        if object.get(field) != old.get(field) {
            causes.forbidden(field, &format!("updates to {field} are forbidden."));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_for_one_device() {
        let requests =
            json!([{"exactly": {}}, {"firstAvailable": [{"allocationMode": "All"}, {"count": 3}]}]);
        let mut spec = json!({"devices": {"requests": requests}});
        complete_claim(spec.as_object_mut().expect("a map"));
        let expected = json!([
            {"exactly": {"allocationMode": "ExactCount", "count": 1}},
            {"firstAvailable": [{"allocationMode": "All"}, {"allocationMode": "ExactCount", "count": 3}]},
        ]);
        assert_eq!(spec["devices"]["requests"], expected);
    }

    #[test]
    fn what_drivers_rely_on_stays() {
        let slice = json!({"spec": {"driver": "d", "pool": {"name": "p", "generation": 1}}});
        let moved = json!({"driver": "e", "pool": {"name": "p", "generation": 2}});
        for (kind, old, new, faults) in [
            (Kind::ResourceSlice, &slice, &slice["spec"], 0),
            (Kind::ResourceSlice, &slice, &moved, 1),
            (Kind::ResourceClaim, &slice, &moved, 1),
        ] {
            let mut causes = Causes::default();
            admit(kind, new, Some(old), &mut causes);
            assert_eq!(causes.len(), faults, "{new}");
        }
    }
}
