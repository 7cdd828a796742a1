//! JSON as Go's package `encoding/json` writes it, which does not sort the fields of structs.

use serde_json::Value;

/// Fields in the order in which Go writes them, of all types at once.
const ORDER: [&str; 34] = [
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "kind",
    "name",
    "apiVersion",
    "target",
    "metricName",
    "metricSelector",
    "targetValue",
    "currentValue",
    "targetAverageUtilization",
    "currentAverageUtilization",
    "targetAverageValue",
    "currentAverageValue",
    "selector",
    "averageValue",
    "container",
    "ScaleUp",
    "ScaleDown",
    "StabilizationWindowSeconds",
    "SelectPolicy",
    "Policies",
    "Tolerance",
    "Type",
    "Value",
    "PeriodSeconds",
];

pub(super) fn json(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, true);
    text
}

fn write(text: &mut String, value: &Value, is_struct: bool) {
    let separate = |text: &mut String, index: usize| {
        if index > 0 {
            text.push(',');
        }
    };
    match value {
        Value::Object(fields) => {
            let place = |name: &str| ORDER.iter().position(|it| is_struct && *it == name);
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| (place(name).unwrap_or(ORDER.len()), *name));
            // Of all structs this one alone is not in the order of the alphabet by itself.
            fields.sort_by_key(|(name, _)| *name == "matchExpressions");
            text.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                separate(text, index);
                text.push_str(&word(&name.as_str().into()));
                text.push(':');
                write(text, value, is_struct && name != "matchLabels");
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(text, index);
                write(text, item, is_struct);
            }
            text.push(']');
        }
        value => text.push_str(&word(value)),
    }
}

/// Go writes what could end a script otherwise than it stands.
fn word(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
