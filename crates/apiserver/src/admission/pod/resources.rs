//! What a container needs and gets of processors, memory and the like.

use crate::admission::causes::Causes;
use crate::admission::names;
use crate::quantity;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";

pub(super) fn check(container: &Fields, path: &str, causes: &mut Causes) {
    let resources = container.get("resources").unwrap_or(&Value::Null);
    let list = |field: &str| resources[field].as_object().cloned().unwrap_or_default();
    let (limits, requests) = (list("limits"), list("requests"));
    for (name, amount) in &limits {
        check_one(name, amount, &format!("{path}.limits[{name}]"), causes);
    }
    for (name, amount) in &requests {
        check_one(name, amount, &format!("{path}.requests[{name}]"), causes);
        let Some(limit) = limits.get(name) else {
            if !is_overcommitted(name) {
                let detail = "Limit must be set for non overcommitable resources";
                causes.required(&format!("{path}.limits"), detail);
            }
            continue;
        };
        let (wanted, most) = (quantity::parse(amount), quantity::parse(limit));
        let field = format!("{path}.requests");
        let shown = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        if wanted != most && !is_overcommitted(name) {
            let detail = format!("must be equal to {name} limit of {}", shown(limit));
            causes.invalid(&field, &shown(amount).into(), &detail);
        } else if wanted > most {
            let detail = format!("must be less than or equal to {name} limit of {}", shown(limit));
            causes.invalid(&field, &shown(amount).into(), &detail);
        }
    }
}

/// More of it may be promised than there is.
fn is_overcommitted(name: &str) -> bool {
    (STANDARD.contains(&name) || name.contains("kubernetes.io/")) && !name.starts_with(HUGE_PAGES)
}

fn check_one(name: &str, amount: &Value, path: &str, causes: &mut Causes) {
    if quantity::parse(amount).is_some_and(|number| number < 0.0) {
        causes.invalid(path, amount, "must be greater than or equal to 0");
    }
    let faults = names::qualified(name);
    if !faults.is_empty() {
        causes.each(path, &name.into(), faults);
    } else if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with(HUGE_PAGES) {
        for detail in [
            "must be a standard resource type or fully qualified",
            "must be a standard resource for containers",
        ] {
            causes.invalid(path, &name.into(), detail);
        }
    }
}
