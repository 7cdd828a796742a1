//! Cells of pods.

use super::{items, since};
use serde_json::Value;

pub(crate) fn ready(pod: &Value) -> Value {
    let sidecars = sidecars(pod);
    let of_sidecars = items(&pod["status"]["initContainerStatuses"])
        .filter(|status| sidecars.contains(&status["name"].as_str().unwrap_or_default()));
    let statuses = items(&pod["status"]["containerStatuses"]).chain(of_sidecars);
    let ready = statuses.filter(|status| status["ready"] == true).count();
    format!("{ready}/{}", items(&pod["spec"]["containers"]).count() + sidecars.len()).into()
}

/// Names of init containers that stay.
fn sidecars(pod: &Value) -> Vec<&str> {
    let all = items(&pod["spec"]["initContainers"]);
    let staying = all.filter(|container| container["restartPolicy"] == "Always");
    staying.map(|container| container["name"].as_str().unwrap_or_default()).collect()
}

pub(crate) fn restarts(pod: &Value, now: i64) -> Value {
    let statuses = || items(&pod["status"]["containerStatuses"]);
    let count: u64 = statuses().filter_map(|status| status["restartCount"].as_u64()).sum();
    let ends = statuses().map(|status| &status["lastState"]["terminated"]["finishedAt"]);
    let last = ends.filter_map(Value::as_str).max();
    match last {
        Some(last) if count > 0 => {
            let ago = since(&last.into(), now);
            format!("{count} ({} ago)", ago.as_str().unwrap_or_default()).into()
        }
        _ => count.to_string().into(),
    }
}

/// What is in the way, or the phase.
pub(crate) fn status(pod: &Value) -> Value {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let status = &pod["status"];
    let phase = text(&status["reason"]).or_else(|| text(&status["phase"]));
    let mut reason = phase.unwrap_or_else(|| "Unknown".into());
    let gated = items(&status["conditions"])
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    match initialising(pod) {
        Some(words) => reason = words,
        None => reason = of_containers(pod, reason),
    }
    if pod["metadata"]["deletionTimestamp"].is_null() {
        return reason.into();
    }
    match status["reason"].as_str() {
        Some("NodeLost") => "Unknown".into(),
        _ if matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) => reason.into(),
        _ => "Terminating".into(),
    }
}

/// Says which init container the pod waits for, if it does.
fn initialising(pod: &Value) -> Option<String> {
    let (sidecars, total) = (sidecars(pod), items(&pod["spec"]["initContainers"]).count());
    for (index, status) in items(&pod["status"]["initContainerStatuses"]).enumerate() {
        let (waiting, ended) = (&status["state"]["waiting"], &status["state"]["terminated"]);
        let sidecar = sidecars.contains(&status["name"].as_str().unwrap_or_default());
        let done = ended["exitCode"] == 0 || sidecar && status["started"] == true;
        if done {
            continue;
        }
        let reason = |value: &Value| {
            let reason = value["reason"].as_str().filter(|reason| !reason.is_empty());
            reason.map(|reason| format!("Init:{reason}"))
        };
        let ended =
            (!ended.is_null()).then(|| reason(ended).unwrap_or_else(|| exit("Init:", ended)));
        let waiting = reason(waiting).filter(|reason| reason != "Init:PodInitializing");
        return Some(ended.or(waiting).unwrap_or_else(|| format!("Init:{index}/{total}")));
    }
    None
}

fn exit(prefix: &str, ended: &Value) -> String {
    match ended["signal"].as_i64().filter(|signal| *signal != 0) {
        Some(signal) => format!("{prefix}Signal:{signal}"),
        None => format!("{prefix}ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
    }
}

fn of_containers(pod: &Value, mut reason: String) -> String {
    let mut running = false;
    let statuses: Vec<&Value> = items(&pod["status"]["containerStatuses"]).collect();
    for status in statuses.into_iter().rev() {
        let (waiting, ended) = (&status["state"]["waiting"], &status["state"]["terminated"]);
        let named =
            |value: &Value| value["reason"].as_str().filter(|it| !it.is_empty()).map(str::to_owned);
        if let Some(named) = named(waiting) {
            reason = named;
        } else if !ended.is_null() {
            reason = named(ended).unwrap_or_else(|| exit("", ended));
        } else if status["ready"] == true && !status["state"]["running"].is_null() {
            running = true;
        }
    }
    match reason.as_str() {
        "Completed" if running && super::holds(pod, "Ready") == Some(true) => "Running".into(),
        "Completed" if running => "NotReady".into(),
        _ => reason,
    }
}

pub(crate) fn readiness_gates(pod: &Value) -> Value {
    let gates: Vec<&Value> = items(&pod["spec"]["readinessGates"]).collect();
    if gates.is_empty() {
        return super::NONE.into();
    }
    let holds = |gate: &&&Value| {
        super::holds(pod, gate["conditionType"].as_str().unwrap_or_default()) == Some(true)
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statuses() {
        let waiting = |reason: &str| json!({"name": "c", "state": {"waiting": {"reason": reason}}});
        let ended = |code: i64| json!({"name": "c", "state": {"terminated": {"exitCode": code}}});
        for (pod, expected) in [
            (json!({"status": {"phase": "Running"}}), "Running"),
            (json!({}), "Unknown"),
            (
                json!({"status": {"phase": "Pending", "containerStatuses": [waiting("CrashLoopBackOff")]}}),
                "CrashLoopBackOff",
            ),
            (json!({"status": {"phase": "Failed", "containerStatuses": [ended(3)]}}), "ExitCode:3"),
            (
                json!({"spec": {"initContainers": [{"name": "a"}, {"name": "b"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [ended(0), waiting("")]}}),
                "Init:1/2",
            ),
            (
                json!({"status": {"phase": "Pending", "initContainerStatuses": [ended(2)]}}),
                "Init:ExitCode:2",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}),
                "Terminating",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Succeeded",
                "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}}),
                "Completed",
            ),
        ] {
            assert_eq!(status(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn restarts_say_when() {
        let status = json!({"restartCount": 2, "lastState": {"terminated": {"finishedAt": "1970-01-01T00:00:10Z"}}});
        assert_eq!(restarts(&json!({"status": {"containerStatuses": [status]}}), 15), "2 (5s ago)");
        assert_eq!(restarts(&json!({}), 15), "0");
    }
}
