//! How fast to scale, of which v1 knows nothing: it is in an annotation as the real server holds it inside.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const RULES: [(&str, &str); 4] = [
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
];
const POLICY: [(&str, &str); 3] =
    [("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds")];

/// How fast to scale, with the names that the fields have in Go, the empty ones too.
pub(super) fn in_go(behavior: &Value) -> Value {
    let rules = |rules: &Value| match rules {
        Value::Null => Value::Null,
        rules => {
            let mut found = renamed(rules, &RULES);
            if let Some(policies) = rules["policies"].as_array() {
                found["Policies"] = policies.iter().map(|it| renamed(it, &POLICY)).collect();
            }
            found
        }
    };
    json!({"ScaleUp": rules(&behavior["scaleUp"]), "ScaleDown": rules(&behavior["scaleDown"])})
}

pub(super) fn of_go(behavior: &Value) -> Value {
    let back = |names: &[(&'static str, &'static str)]| -> Vec<_> {
        names.iter().map(|(name, in_go)| (*in_go, *name)).collect()
    };
    let mut found = BTreeMap::new();
    for (name, in_go) in [("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")] {
        let rules = &behavior[in_go];
        if rules.is_object() {
            let mut own = without_nulls(renamed(rules, &back(&RULES)));
            if let Some(policies) = rules["Policies"].as_array() {
                own["policies"] = policies.iter().map(|it| renamed(it, &back(&POLICY))).collect();
            }
            found.insert(name, own);
        }
    }
    json!(found)
}

fn renamed(object: &Value, names: &[(&'static str, &'static str)]) -> Value {
    let fields = names.iter().map(|(from, to)| ((*to).to_owned(), object[*from].clone()));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn without_nulls(mut object: Value) -> Value {
    object.as_object_mut().into_iter().for_each(|it| it.retain(|_, value| !value.is_null()));
    object
}
