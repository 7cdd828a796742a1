//! RuntimeClasses of pods: what a class costs beside the containers, and where it can run (KEP-688, KEP-894).

use super::Registry;
use crate::error::{Error, Prohibition};
use crate::quantity;
use crate::resources::{Kind, Resource};
use crate::store::Key;
use serde_json::{Map, Value};

impl Registry {
    /// Gives a new pod what its class says.
    pub(super) fn assign_runtime(
        &self,
        resource: &'static Resource,
        key: &Key,
        pod: &mut Value,
    ) -> Result<(), Error> {
        let refuse = |why| Error::Forbidden { resource, name: key.name.clone(), why };
        let spec = &mut pod["spec"];
        let class = match spec["runtimeClassName"].as_str() {
            Some(name) => {
                let found = self.store.get(Kind::RuntimeClass, &Key::new("", name));
                let found = found.ok_or_else(|| {
                    refuse(Prohibition::NoRuntimeClass { class: name.to_owned() })
                })?;
                found.value.clone()
            }
            None => Value::Null,
        };
        set_overhead(spec, &class["overhead"]["podFixed"]).map_err(refuse)?;
        set_selector(spec, &class["scheduling"]["nodeSelector"]).map_err(refuse)?;
        merge_tolerations(spec, &class["scheduling"]["tolerations"]);
        Ok(())
    }
}

fn set_overhead(spec: &mut Value, fixed: &Value) -> Result<(), Prohibition> {
    let own = spec["overhead"].as_object().filter(|own| !own.is_empty());
    match (own, fixed.as_object()) {
        (Some(_), None) => Err(Prohibition::OverheadWithoutClass),
        (Some(own), Some(fixed)) if !is_same(own, fixed) => Err(Prohibition::OtherOverhead),
        (None, Some(fixed)) => {
            spec["overhead"] = fixed.clone().into();
            Ok(())
        }
        _ => Ok(()),
    }
}

fn is_same(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let amount = |value: Option<&Value>| value.and_then(quantity::parse);
    one.len() == other.len()
        && one.iter().all(|(name, own)| amount(Some(own)) == amount(other.get(name)))
}

fn set_selector(spec: &mut Value, selector: &Value) -> Result<(), Prohibition> {
    for (label, wanted) in selector.as_object().into_iter().flatten() {
        let own = &mut spec["nodeSelector"][label];
        if !own.is_null() && own != wanted {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (label, class, pod) = (label.clone(), text(wanted), text(own));
            return Err(Prohibition::OtherNodes { label, class, pod });
        }
        *own = wanted.clone();
    }
    Ok(())
}

fn merge_tolerations(spec: &mut Value, more: &Value) {
    let Some(more) = more.as_array() else { return };
    let own = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let all: Vec<_> = own.into_iter().chain(more.iter().cloned()).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (place, toleration) in all.iter().enumerate() {
        let later = all[place + 1..].iter().filter(|it| *it != toleration);
        let is_covered = merged.iter().chain(later).any(|it| covers(it, toleration));
        if !is_covered {
            merged.push(toleration.clone());
        }
    }
    spec["tolerations"] = merged.into();
}

/// Whether one tolerates all that the other does, for as long.
fn covers(one: &Value, other: &Value) -> bool {
    let text = |it: &Value, field: &str| it[field].as_str().unwrap_or_default().to_owned();
    let is_any = |field| text(one, field).is_empty();
    let exists = |it: &Value| it["operator"] == "Exists";
    let has_key = if is_any("key") { exists(one) } else { one["key"] == other["key"] };
    let has_effect = is_any("effect") || one["effect"] == other["effect"];
    let lasts = |it: &Value| it["tolerationSeconds"].as_i64().unwrap_or(i64::MAX);
    let has_value = exists(one) || (!exists(other) && text(one, "value") == text(other, "value"));
    has_key && has_effect && has_value && lasts(one) >= lasts(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_tolerated_already_is_not_said_twice() {
        let any = json!({"operator": "Exists"});
        let gpu = json!({"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoSchedule"});
        let every_gpu = json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"});
        let brief = json!({"key": "gpu", "operator": "Exists", "tolerationSeconds": 5});
        for (own, more, merged) in [
            (json!([]), json!([gpu]), json!([gpu])),
            (json!([gpu]), json!([gpu]), json!([gpu])),
            (json!([gpu]), json!([every_gpu]), json!([every_gpu])),
            (json!([any]), json!([gpu, brief]), json!([any])),
            (json!([brief]), json!([gpu]), json!([brief, gpu])),
        ] {
            let mut spec = json!({"tolerations": own});
            merge_tolerations(&mut spec, &more);
            assert_eq!(spec["tolerations"], merged, "{own} and {more}");
        }
    }

    #[test]
    fn a_pod_costs_and_goes_where_its_class_says() {
        let class = json!({"cpu": "250m"});
        for (own, fixed, overhead) in [
            (json!({}), &class, Ok(class.clone())),
            (json!({"overhead": {"cpu": "0.25"}}), &class, Ok(json!({"cpu": "0.25"}))),
            (json!({"overhead": {"cpu": "1"}}), &class, Err(Prohibition::OtherOverhead)),
            (
                json!({"overhead": {"cpu": "1"}}),
                &Value::Null,
                Err(Prohibition::OverheadWithoutClass),
            ),
            (json!({}), &Value::Null, Ok(Value::Null)),
        ] {
            let mut spec = own.clone();
            let outcome = set_overhead(&mut spec, fixed).map(|()| spec["overhead"].clone());
            assert_eq!(outcome, overhead, "{own}");
        }
        let wanted = json!({"disk": "fast"});
        let mut spec = json!({"nodeSelector": {"zone": "a"}});
        set_selector(&mut spec, &wanted).unwrap();
        assert_eq!(spec["nodeSelector"], json!({"zone": "a", "disk": "fast"}));
        let mut spec = json!({"nodeSelector": {"disk": "slow"}});
        assert!(set_selector(&mut spec, &wanted).is_err());
    }
}
