use super::*;

fn stored(metrics: Value, current: Value) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "minReplicas": 1, "metrics": metrics},
        "status": {"currentMetrics": current, "desiredReplicas": 0}})
}

#[test]
fn what_v1_cannot_say_is_in_annotations_and_comes_back() {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 70}}});
    let memory = json!({"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let selector = json!({"matchLabels": {"name": "a", "app": "<b>"},
        "matchExpressions": [{"key": "k", "operator": "Exists"}]});
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "q", "selector": selector},
        "target": {"type": "AverageValue", "averageValue": "5"}}});
    let object = json!({"type": "Object", "object": {"metric": {"name": "hits"},
        "describedObject": {"kind": "Ingress", "name": "web", "apiVersion": "networking.k8s.io/v1"},
        "target": {"type": "AverageValue", "averageValue": "5"}}});
    let external = json!({"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "Value", "value": "30"}}});
    let now = json!({"type": "Resource", "resource": {"name": "cpu",
        "current": {"averageUtilization": 5, "averageValue": "10m"}}});
    for (metrics, current, percentage, utilization, in_metrics) in [
        (json!([cpu]), Value::Null, json!(70), Value::Null, None),
        (
            json!([memory, cpu]),
            json!([now]),
            json!(70),
            json!(5),
            Some(
                r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1Gi"}}]"#,
            ),
        ),
        (
            json!([pods]),
            Value::Null,
            Value::Null,
            Value::Null,
            Some(concat!(
                r#"[{"type":"Pods","pods":{"metricName":"q","targetAverageValue":"5","#,
                r#""selector":{"matchLabels":{"app":"\u003cb\u003e","name":"a"},"#,
                r#""matchExpressions":[{"key":"k","operator":"Exists"}]}}}]"#,
            )),
        ),
        (
            json!([object, external]),
            Value::Null,
            Value::Null,
            Value::Null,
            Some(concat!(
                r#"[{"type":"Object","object":{"target":{"kind":"Ingress","name":"web","#,
                r#""apiVersion":"networking.k8s.io/v1"},"metricName":"hits","targetValue":"0","averageValue":"5"}},"#,
                r#"{"type":"External","external":{"metricName":"queue","targetValue":"30"}}]"#,
            )),
        ),
    ] {
        let before = stored(metrics, current);
        let mut shown = before.clone();
        to_v1(&mut shown);
        assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], percentage);
        assert_eq!(shown["status"]["currentCPUUtilizationPercentage"], utilization);
        assert_eq!(shown["spec"].get("metrics"), None);
        let annotation = shown["metadata"]["annotations"][METRICS].as_str();
        assert_eq!(annotation, in_metrics);
        from_v1(&mut shown);
        let order = |object: &Value| {
            let mut texts: Vec<_> = object["spec"]["metrics"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Value::to_string)
                .collect();
            texts.sort();
            texts
        };
        assert_eq!(order(&shown), order(&before));
        assert_eq!(
            [&shown["status"], &shown["metadata"]],
            [&before["status"], &before["metadata"]]
        );
    }
}

#[test]
fn behavior_and_conditions_come_back() {
    let mut object = stored(json!([]), Value::Null);
    object["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}});
    object["status"]["conditions"] = json!([{"type": "AbleToScale", "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "Ready", "message": "m"}]);
    let before = object.clone();
    to_v1(&mut object);
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(
        annotations[BEHAVIOR],
        r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":60,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":1,"PeriodSeconds":15}],"Tolerance":null}}"#
    );
    assert_eq!(
        annotations[CONDITIONS],
        r#"[{"type":"AbleToScale","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z","reason":"Ready","message":"m"}]"#
    );
    from_v1(&mut object);
    assert_eq!(object["spec"]["behavior"], before["spec"]["behavior"]);
    assert_eq!(object["status"]["conditions"], before["status"]["conditions"]);
}

#[test]
fn nothing_said_is_eighty_percent() {
    let mut object = json!({"metadata": {}, "spec": {"maxReplicas": 2}});
    complete_v1(&mut object);
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(object["status"], json!({"currentReplicas": 0, "desiredReplicas": 0}));
    let memory =
        r#"[{"type":"Resource","resource":{"name":"memory","targetAverageUtilization":3}}]"#;
    let annotations = json!({METRICS: memory, "note": "kept"});
    let mut object = json!({"metadata": {"annotations": annotations}, "spec": {"maxReplicas": 2}});
    complete_v1(&mut object);
    assert_eq!(object["spec"].get("targetCPUUtilizationPercentage"), None);
    assert_eq!(object["metadata"]["annotations"], json!({METRICS: memory, "note": "kept"}));
}
