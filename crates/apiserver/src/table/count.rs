//! Cells that count, and those of budgets, quotas and autoscalers.

use super::items;
use serde_json::Value;

pub(crate) fn data(object: &Value) -> Value {
    let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    (count("data") + count("binaryData")).into()
}

pub(crate) fn secrets(account: &Value) -> Value {
    items(&account["secrets"]).count().into()
}

pub(crate) fn scale_target(autoscaler: &Value) -> Value {
    let target = &autoscaler["spec"]["scaleTargetRef"];
    let text = |field: &str| target[field].as_str().unwrap_or_default();
    format!("{}/{}", text("kind"), text("name")).into()
}

pub(crate) fn minimum_pods(autoscaler: &Value) -> Value {
    let minimum = autoscaler["spec"]["minReplicas"].as_i64();
    minimum.map_or_else(|| "<unset>".into(), |minimum| minimum.to_string().into())
}

/// What each metric is and shall be, of two metrics at most.
pub(crate) fn metric_targets(autoscaler: &Value) -> Value {
    const SHOWN: usize = 2;
    let current: Vec<&Value> = items(&autoscaler["status"]["currentMetrics"]).collect();
    let target = |(index, metric): (usize, &Value)| {
        metric_target(metric, current.get(index).copied().unwrap_or(&Value::Null))
    };
    let all: Vec<String> = items(&autoscaler["spec"]["metrics"]).enumerate().map(target).collect();
    match all.len() {
        0 => "<none>".into(),
        count if count > SHOWN => {
            format!("{} + {} more...", all[..SHOWN].join(", "), count - SHOWN).into()
        }
        _ => all.join(", ").into(),
    }
}

fn metric_target(metric: &Value, current: &Value) -> String {
    let (source, name, is_average) = match metric["type"].as_str().unwrap_or_default() {
        "Resource" => ("resource", metric["resource"]["name"].as_str(), false),
        "ContainerResource" => {
            ("containerResource", metric["containerResource"]["name"].as_str(), false)
        }
        "Pods" => ("pods", None, false),
        "Object" => ("object", None, true),
        "External" => ("external", None, true),
        _ => return "<unknown type>".to_owned(),
    };
    let (wanted, found) = (&metric[source]["target"], &current[source]["current"]);
    let shown = |value: &Value, unit: &str| match value {
        Value::String(amount) => Some(amount.clone()),
        Value::Number(number) => Some(format!("{number}{unit}")),
        _ => None,
    };
    let of = |field: &str, unit: &str, otherwise: &str| {
        let found = shown(&found[field], unit).unwrap_or_else(|| "<unknown>".into());
        let wanted = shown(&wanted[field], unit).unwrap_or_else(|| otherwise.into());
        format!("{found}/{wanted}")
    };
    let text = match (wanted["averageValue"].is_null(), is_average) {
        (false, true) => of("averageValue", "", "") + " (avg)",
        (false, false) => of("averageValue", "", ""),
        (true, true) => of("value", "", ""),
        (true, false) => of("averageUtilization", "%", "<auto>"),
    };
    name.map_or(text.clone(), |name| format!("{name}: {text}"))
}

pub(crate) fn minimum_available(budget: &Value) -> Value {
    number_or_share(&budget["spec"]["minAvailable"])
}

pub(crate) fn maximum_unavailable(budget: &Value) -> Value {
    number_or_share(&budget["spec"]["maxUnavailable"])
}

fn number_or_share(value: &Value) -> Value {
    match value {
        Value::String(share) => share.as_str().into(),
        Value::Number(number) => number.to_string().into(),
        _ => "N/A".into(),
    }
}

pub(crate) fn quota_requests(quota: &Value) -> Value {
    used(quota, |resource| !resource.starts_with("limits."))
}

pub(crate) fn quota_limits(quota: &Value) -> Value {
    used(quota, |resource| resource.starts_with("limits."))
}

fn used(quota: &Value, wanted: fn(&str) -> bool) -> Value {
    let hard = quota["status"]["hard"].as_object().or_else(|| quota["spec"]["hard"].as_object());
    let amount = |value: &Value| value.as_str().unwrap_or("0").to_owned();
    let of = |(name, hard): (&String, &Value)| {
        format!("{name}: {}/{}", amount(&quota["status"]["used"][name]), amount(hard))
    };
    let all = hard.into_iter().flatten().filter(|(name, _)| wanted(name)).map(of);
    all.collect::<Vec<_>>().join(", ").into()
}

pub(crate) fn webhooks(configuration: &Value) -> Value {
    items(&configuration["webhooks"]).count().into()
}

pub(crate) fn mutations(policy: &Value) -> Value {
    items(&policy["spec"]["mutations"]).count().into()
}

pub(crate) fn validations(policy: &Value) -> Value {
    items(&policy["spec"]["validations"]).count().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets_of_autoscalers() {
        let resource = |name: &str, target: Value| json!({"type": "Resource", "resource": {"name": name, "target": target}});
        let cpu = resource("cpu", json!({"averageUtilization": 80}));
        let memory = resource("memory", json!({"averageValue": "1Gi"}));
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "5"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "30"}}});
        let object = json!({"type": "Object", "object": {"target": {"value": "7"}}});
        let now = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5}}});
        for (metrics, current, expected) in [
            (json!([]), json!(null), "<none>"),
            (json!([cpu]), json!(null), "cpu: <unknown>/80%"),
            (json!([cpu, memory]), json!([now]), "cpu: 5%/80%, memory: <unknown>/1Gi"),
            (
                json!([pods, external, object, cpu]),
                json!(null),
                "<unknown>/5, <unknown>/30 (avg) + 2 more...",
            ),
            (json!([object]), json!(null), "<unknown>/7"),
            (json!([{"type": "Odd"}]), json!(null), "<unknown type>"),
        ] {
            let autoscaler =
                json!({"spec": {"metrics": metrics}, "status": {"currentMetrics": current}});
            assert_eq!(metric_targets(&autoscaler), expected);
        }
    }

    #[test]
    fn quotas() {
        let quota = json!({"spec": {"hard": {"pods": "4", "limits.cpu": "2"}}, "status": {"used": {"pods": "1"}}});
        assert_eq!(quota_requests(&quota), "pods: 1/4");
        assert_eq!(quota_limits(&quota), "limits.cpu: 0/2");
    }
}
