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
    fn quotas() {
        let quota = json!({"spec": {"hard": {"pods": "4", "limits.cpu": "2"}}, "status": {"used": {"pods": "1"}}});
        assert_eq!(quota_requests(&quota), "pods: 1/4");
        assert_eq!(quota_limits(&quota), "limits.cpu: 0/2");
    }
}
