//! Cells of what makes pods.

use super::{NONE, holds, items, joined, pairs};
use crate::time;
use serde_json::Value;

pub(crate) fn ready(workload: &Value) -> Value {
    let ready = workload["status"]["readyReplicas"].as_u64().unwrap_or(0);
    format!("{ready}/{}", workload["spec"]["replicas"].as_u64().unwrap_or(0)).into()
}

pub(crate) fn containers(workload: &Value) -> Value {
    of_containers(&workload["spec"]["template"], "name")
}

pub(crate) fn images(workload: &Value) -> Value {
    of_containers(&workload["spec"]["template"], "image")
}

pub(crate) fn cron_containers(cron: &Value) -> Value {
    of_containers(&cron["spec"]["jobTemplate"]["spec"]["template"], "name")
}

pub(crate) fn cron_images(cron: &Value) -> Value {
    of_containers(&cron["spec"]["jobTemplate"]["spec"]["template"], "image")
}

pub(crate) fn template_containers(template: &Value) -> Value {
    of_containers(&template["template"], "name")
}

pub(crate) fn template_images(template: &Value) -> Value {
    of_containers(&template["template"], "image")
}

pub(crate) fn template_labels(template: &Value) -> Value {
    pairs(&template["template"]["metadata"]["labels"])
}

fn of_containers(template: &Value, field: &str) -> Value {
    let containers = items(&template["spec"]["containers"]);
    joined(containers.filter_map(|container| container[field].as_str()).map(str::to_owned))
}

pub(crate) fn selector(workload: &Value) -> Value {
    super::selector(&workload["spec"]["selector"], NONE)
}

pub(crate) fn node_selector(set: &Value) -> Value {
    pairs(&set["spec"]["template"]["spec"]["nodeSelector"])
}

pub(crate) fn controller(revision: &Value) -> Value {
    let owners = items(&revision["metadata"]["ownerReferences"]);
    let mut owners = owners.filter(|owner| owner["controller"] == true);
    let Some(owner) = owners.next() else { return NONE.into() };
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group}/{}", text("kind").to_lowercase(), text("name")).into()
}

pub(crate) fn job_status(job: &Value) -> Value {
    let status = match () {
        () if holds(job, "Complete") == Some(true) => "Complete",
        () if holds(job, "Failed") == Some(true) => "Failed",
        () if !job["metadata"]["deletionTimestamp"].is_null() => "Terminating",
        () if holds(job, "Suspended") == Some(true) => "Suspended",
        () if holds(job, "FailureTarget") == Some(true) => "FailureTarget",
        () if holds(job, "SuccessCriteriaMet") == Some(true) => "SuccessCriteriaMet",
        () => "Running",
    };
    status.into()
}

pub(crate) fn job_completions(job: &Value) -> Value {
    let succeeded = job["status"]["succeeded"].as_i64().unwrap_or(0);
    match (job["spec"]["completions"].as_i64(), job["spec"]["parallelism"].as_i64().unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}").into(),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}").into(),
        (None, _) => format!("{succeeded}/1").into(),
    }
}

pub(crate) fn job_duration(job: &Value, now: i64) -> Value {
    let moment = |field: &str| job["status"][field].as_str().and_then(time::seconds);
    let Some(started) = moment("startTime") else { return "".into() };
    time::age(moment("completionTime").unwrap_or(now) - started).into()
}

pub(crate) fn cron_selector(cron: &Value) -> Value {
    selector(&cron["spec"]["jobTemplate"])
}

pub(crate) fn cron_suspend(cron: &Value) -> Value {
    let suspended = cron["spec"]["suspend"].as_bool().unwrap_or(false);
    if suspended { "True" } else { "False" }.into()
}

pub(crate) fn cron_active(cron: &Value) -> Value {
    items(&cron["status"]["active"]).count().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn jobs() {
        let job = json!({"spec": {"completions": 3}, "status": {"succeeded": 1, "startTime": "1970-01-01T00:00:10Z",
            "conditions": [{"type": "Complete", "status": "True"}]}});
        assert_eq!((job_completions(&job), job_status(&job)), ("1/3".into(), "Complete".into()));
        assert_eq!(job_duration(&job, 17), "7s");
        assert_eq!(job_completions(&json!({"spec": {"parallelism": 2}})), "0/1 of 2");
    }

    #[test]
    fn revisions_name_their_owner() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true});
        assert_eq!(
            controller(&json!({"metadata": {"ownerReferences": [owner]}})),
            "statefulset.apps/db"
        );
    }
}
