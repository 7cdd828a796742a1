//! Metrics as v2 has them and as the annotations of v1 do.

use super::taken;
use serde_json::{Value, json};

/// Of each source of metrics: where v2 has a field, and what the annotations call it. `*`: it is a zero where nobody
/// said it.
const FIELDS: [(&str, &str, &str); 30] = [
    ("resource", "/name", "name"),
    ("resource", "/target/averageUtilization", "targetAverageUtilization"),
    ("resource", "/target/averageValue", "targetAverageValue"),
    ("resource", "/current/averageUtilization", "currentAverageUtilization"),
    ("resource", "/current/averageValue", "*currentAverageValue"),
    ("containerResource", "/name", "name"),
    ("containerResource", "/container", "container"),
    ("containerResource", "/target/averageUtilization", "targetAverageUtilization"),
    ("containerResource", "/target/averageValue", "targetAverageValue"),
    ("containerResource", "/current/averageUtilization", "currentAverageUtilization"),
    ("containerResource", "/current/averageValue", "*currentAverageValue"),
    ("pods", "/metric/name", "metricName"),
    ("pods", "/metric/selector", "selector"),
    ("pods", "/target/averageValue", "*targetAverageValue"),
    ("pods", "/current/averageValue", "*currentAverageValue"),
    ("object", "/describedObject/kind", "target/kind"),
    ("object", "/describedObject/name", "target/name"),
    ("object", "/describedObject/apiVersion", "target/apiVersion"),
    ("object", "/metric/name", "metricName"),
    ("object", "/metric/selector", "selector"),
    ("object", "/target/value", "*targetValue"),
    ("object", "/target/averageValue", "averageValue"),
    ("object", "/current/value", "*currentValue"),
    ("object", "/current/averageValue", "averageValue"),
    ("external", "/metric/name", "metricName"),
    ("external", "/metric/selector", "metricSelector"),
    ("external", "/target/value", "targetValue"),
    ("external", "/target/averageValue", "targetAverageValue"),
    ("external", "/current/value", "*currentValue"),
    ("external", "/current/averageValue", "currentAverageValue"),
];

/// `Resource` is in field `resource`.
fn source(metric: &Value) -> String {
    let kind = metric["type"].as_str().unwrap_or_default();
    let (first, rest) = kind.split_at_checked(1).unwrap_or_default();
    first.to_ascii_lowercase() + rest
}

/// Metrics of v2 as the annotations have them; `what`: a target, or what there is currently.
pub(super) fn list_in_v1(metrics: &[Value], what: &str) -> Vec<Value> {
    metrics.iter().map(|metric| in_v1(metric, what)).collect()
}

fn fields_of(source: &str, what: &str) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let other = if what == "target" { "/current/" } else { "/target/" };
    let fields =
        FIELDS.iter().filter(move |(of, there, _)| *of == source && !there.starts_with(other));
    fields.map(|(_, there, here)| match here.strip_prefix('*') {
        Some(here) => (*there, here, true),
        None => (*there, *here, false),
    })
}

fn in_v1(metric: &Value, what: &str) -> Value {
    let source = source(metric);
    let mut found = json!({"type": metric["type"]});
    if metric[&source].is_null() {
        return found;
    }
    let mut inner = json!({});
    for (there, here, always) in fields_of(&source, what) {
        let value = metric[&source].pointer(there).filter(|value| !value.is_null()).cloned();
        if let Some(value) = value.or_else(|| always.then(|| "0".into())) {
            set(&mut inner, here, value);
        }
    }
    found[&source] = inner;
    found
}

pub(super) fn of_v1(metric: &Value, what: &str) -> Value {
    let source = source(metric);
    let mut found = json!({"type": metric["type"]});
    if metric[&source].is_null() {
        return found;
    }
    let mut inner = json!({});
    for (there, here, _) in fields_of(&source, what) {
        if let Some(value) = metric[&source].pointer(&format!("/{here}")) {
            set(&mut inner, there.trim_start_matches('/'), value.clone());
        }
    }
    found[&source] = inner;
    found
}

/// Puts a value to where a path leads.
fn set(object: &mut Value, path: &str, value: Value) {
    match path.split_once('/') {
        None => object[path] = value,
        Some((first, rest)) => set(&mut object[first], rest, value),
    }
}

/// Metrics of annotations as v2 wants them, with the kind of their targets.
pub(super) fn specs(metrics: Vec<Value>) -> Vec<Value> {
    let spec = |metric: Value| {
        let (source, mut spec) = (source(&metric), of_v1(&metric, "target"));
        let Some(inner) = spec.get_mut(&source) else { return spec };
        let target = &mut inner["target"];
        let has = |target: &Value, field: &str| !target[field].is_null();
        let kind = match source.as_str() {
            "resource" | "containerResource" if has(target, "averageUtilization") => "Utilization",
            "object" if !has(target, "averageValue") => "Value",
            "external" if has(target, "value") => "Value",
            _ => "AverageValue",
        };
        // Annotations cannot leave it out.
        if source == "object" && kind == "AverageValue" && target["value"] == "0" {
            taken(target, "value");
        }
        target["type"] = kind.into();
        spec
    };
    metrics.into_iter().map(spec).collect()
}
