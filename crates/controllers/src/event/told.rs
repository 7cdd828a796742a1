//! What is told of a write, by what came of it.

use super::{About, Event};
use crate::cluster::Cluster;
use crate::record::{Endpoints, Overlap};
use crate::task::Task;
use crate::write::Write;
use client::Kind;
use model::{ObjectKey, PodPhase};
use serde_json::Value;

/// The object as the API answered with it, or why it refused.
type Answer<'a> = Result<Option<&'a Value>, &'a str>;

/// `cluster` is as it was when the write was decided.
pub(crate) fn told(
    cluster: &Cluster,
    task: &Task,
    write: &Write,
    answer: Answer<'_>,
) -> Vec<Event> {
    if let Write::Tell(event) = write {
        return vec![event.clone()];
    }
    let Some(about) = cluster.about(task) else { return Vec::new() };
    let voice = Voice { component: component(task), about };
    match task {
        Task::Slices(service) => voice.of_slices(service, answer).into_iter().collect(),
        Task::Endpoints(service) => {
            voice.of_endpoints(service, write, answer).into_iter().collect()
        }
        Task::NodeLife(node) | Task::TaintEviction(node) => {
            of_node(cluster, &voice, node, write, answer).into_iter().collect()
        }
        Task::Schedule(_) => voice.of_binding(write, answer).into_iter().collect(),
        Task::Deployment(_) => voice.of_set(cluster, write, answer).into_iter().collect(),
        Task::StatefulSet(_) => voice.of_member(write, answer).into_iter().collect(),
        Task::ReplicaSet(_) | Task::ReplicationController(_) => {
            voice.of_pod(write, answer).into_iter().collect()
        }
        Task::DaemonSet(_) => {
            let ended = voice.of_ended_daemon(cluster, write);
            ended.into_iter().chain(voice.of_pod(write, answer)).collect()
        }
        Task::Job(key) => {
            let ends = answer.map_or_else(|_| Vec::new(), |_| voice.of_job(cluster, key, write));
            ends.into_iter().chain(voice.of_pod(write, answer)).collect()
        }
        Task::CronJob(key) => {
            let ends = answer.map_or_else(|_| Vec::new(), |_| voice.of_runs(cluster, key, write));
            ends.into_iter().chain(voice.of_run(write, answer)).collect()
        }
        Task::Mirror(_) | Task::NodeCidr(_) => Vec::new(),
    }
}

/// Who speaks in the place of this controller.
fn component(task: &Task) -> &'static str {
    match task {
        Task::Slices(_) => "endpoint-slice-controller",
        Task::Mirror(_) => "endpoint-slice-mirroring-controller",
        Task::Endpoints(_) => Endpoints::MANAGER,
        Task::NodeLife(_) => "node-controller",
        Task::TaintEviction(_) => "taint-eviction-controller",
        Task::NodeCidr(_) => "cidrAllocator",
        Task::Schedule(_) => "default-scheduler",
        Task::ReplicaSet(_) => "replicaset-controller",
        Task::ReplicationController(_) => "replication-controller",
        Task::Deployment(_) => "deployment-controller",
        Task::StatefulSet(_) => "statefulset-controller",
        Task::DaemonSet(_) => "daemonset-controller",
        Task::Job(_) => "job-controller",
        Task::CronJob(_) => "cronjob-controller",
    }
}

/// A controller, and the object that it speaks of.
struct Voice {
    component: &'static str,
    about: About,
}

/// What a write does to an object of the kind.
enum Act<'a> {
    Create(&'a Value),
    Delete,
}

/// The act and the name of its object.
fn act(write: &Write, kind: Kind) -> Option<(Act<'_>, String)> {
    let name = write.key().filter(|_| write.kind() == Some(kind))?.name.to_string();
    match write {
        Write::Create(object) | Write::Ensure(object) => Some((Act::Create(object), name)),
        Write::Delete { .. } => Some((Act::Delete, name)),
        _ => None,
    }
}

impl Voice {
    fn normal(&self, reason: &str, message: String) -> Event {
        self.about.clone().normal(self.component, reason, message)
    }

    fn warning(&self, reason: &str, message: String) -> Event {
        self.about.clone().warning(self.component, reason, message)
    }

    fn of_pod(&self, write: &Write, answer: Answer<'_>) -> Option<Event> {
        const WORDS: [&str; 4] =
            ["Created pod: ", "Error creating: ", "Deleted pod: ", "Error deleting: "];
        self.of_life(Kind::POD, WORDS, write, answer)
    }

    /// An object of the kind that comes or goes, or is refused one or the other: what is said before its name or the
    /// API's words.
    fn of_life(
        &self,
        kind: Kind,
        [created, not_created, deleted, not_deleted]: [&str; 4],
        write: &Write,
        answer: Answer<'_>,
    ) -> Option<Event> {
        let (act, name) = act(write, kind)?;
        Some(match (act, answer) {
            (Act::Create(_), Ok(_)) => self.normal("SuccessfulCreate", format!("{created}{name}")),
            (Act::Create(_), Err(why)) => {
                self.warning("FailedCreate", format!("{not_created}{why}"))
            }
            (Act::Delete, Ok(_)) => self.normal("SuccessfulDelete", format!("{deleted}{name}")),
            (Act::Delete, Err(why)) => self.warning("FailedDelete", format!("{not_deleted}{why}")),
        })
    }

    fn of_ended_daemon(&self, cluster: &Cluster, write: &Write) -> Option<Event> {
        let Write::Delete { kind: Kind::POD, key, .. } = write else { return None };
        let pod = cluster.pod(key)?;
        let place = format!("{key} on node {}", pod.base.node.as_deref().unwrap_or_default());
        match pod.base.phase {
            PodPhase::Failed => {
                let message = format!("Found failed daemon pod {place}, will try to kill it");
                Some(self.warning("FailedDaemonPod", message))
            }
            PodPhase::Succeeded => {
                let message = format!("Found succeeded daemon pod {place}, will try to delete it");
                Some(self.normal("SucceededDaemonPod", message))
            }
            _ => None,
        }
    }

    /// A StatefulSet's pod or the claim of one.
    fn of_member(&self, write: &Write, answer: Answer<'_>) -> Option<Event> {
        let set = &self.about.key.name;
        if let Some((_, claim)) = act(write, Kind::PERSISTENT_VOLUME_CLAIM) {
            let number = claim.rsplit('-').next().unwrap_or_default();
            let pod = format!("Pod {set}-{number} in StatefulSet {set}");
            return match answer {
                Ok(created) => created.map(|_| {
                    self.normal("SuccessfulCreate", format!("Create Claim {claim} {pod} success"))
                }),
                Err(why) => {
                    let message = format!("Create Claim {claim} for {pod} failed error: {why}");
                    Some(self.warning("FailedCreate", message))
                }
            };
        }
        let (act, name) = act(write, Kind::POD)?;
        let verb = match act {
            Act::Create(_) => "Create",
            Act::Delete => "Delete",
        };
        let pod = format!("{verb} Pod {name} in StatefulSet {set}");
        Some(match answer {
            Ok(_) => self.normal(&format!("Successful{verb}"), format!("{pod} successful")),
            Err(why) => {
                self.warning(&format!("Failed{verb}"), format!("{pod} failed error: {why}"))
            }
        })
    }

    /// A Deployment's ReplicaSet.
    fn of_set(&self, cluster: &Cluster, write: &Write, answer: Answer<'_>) -> Option<Event> {
        const REASON: &str = "ScalingReplicaSet";
        if let Some((Act::Create(set), name)) = act(write, Kind::REPLICA_SET) {
            return match answer {
                Ok(_) => {
                    let count = set["spec"]["replicas"].as_u64().filter(|count| *count > 0)?;
                    let message = format!("Scaled up replica set {name} from 0 to {count}");
                    Some(self.normal(REASON, message))
                }
                Err(why) => {
                    let message = format!("Failed to create new replica set {name:?}: {why}");
                    Some(self.warning("ReplicaSetCreateError", message))
                }
            };
        }
        let Write::Patch { kind: Kind::REPLICA_SET, key, patch } = write else { return None };
        let (old, new) = (cluster.replica_set(key)?.replicas, patch.pointer("/spec/replicas")?);
        let new = new.as_u64().filter(|new| *new != u64::from(old) && answer.is_ok())?;
        let way = if new > u64::from(old) { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {} from {old} to {new}", key.name);
        Some(self.normal(REASON, message))
    }

    /// Conditions of a Job that hold from now on, or no longer.
    fn of_job(&self, cluster: &Cluster, key: &ObjectKey, write: &Write) -> Vec<Event> {
        let Write::PatchStatus { patch, .. } = write else { return Vec::new() };
        let Some(job) = cluster.workloads.jobs.get(key) else { return Vec::new() };
        let holds = |conditions: &Value, kind: &Value| {
            let mut listed = conditions.as_array().into_iter().flatten();
            listed.any(|it| it["type"] == *kind && it["status"] == "True")
        };
        let (old, new) = (&job.status["conditions"], &patch["status"]["conditions"]);
        let listed = new.as_array().into_iter().flatten();
        let turned = listed.filter(|it| holds(old, &it["type"]) != (it["status"] == "True"));
        let succeeded = patch["status"]["succeeded"].as_u64().or(job.status["succeeded"].as_u64());
        let too_many = job.completions.is_some_and(|most| succeeded > Some(most.into()));
        turned.flat_map(|condition| self.of_condition(condition, too_many)).collect()
    }

    fn of_condition(&self, condition: &Value, too_many: bool) -> Vec<Event> {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        match (text("type"), text("status")) {
            ("Complete", "True") => {
                let message = "Too many succeeded pods running after completion count reached";
                let remark = self.warning("TooManySucceededPods", message.to_owned());
                let end = self.normal("Completed", "Job completed".to_owned());
                too_many.then_some(remark).into_iter().chain([end]).collect()
            }
            ("Failed", "True") => vec![self.warning(text("reason"), text("message").to_owned())],
            ("Suspended", "True") => vec![self.normal("Suspended", "Job suspended".to_owned())],
            ("Suspended", _) => vec![self.normal("Resumed", "Job resumed".to_owned())],
            _ => Vec::new(),
        }
    }

    /// A CronJob's Job.
    fn of_run(&self, write: &Write, answer: Answer<'_>) -> Option<Event> {
        const WORDS: [&str; 4] =
            ["Created job ", "Error creating job: ", "Deleted job ", "Deleted job: "];
        self.of_life(Kind::JOB, WORDS, write, answer)
    }

    /// Jobs that are active no longer.
    fn of_runs(&self, cluster: &Cluster, key: &ObjectKey, write: &Write) -> Vec<Event> {
        let Write::PatchStatus { patch, .. } = write else { return Vec::new() };
        let Some(cron) = cluster.workloads.cron_jobs.get(key) else { return Vec::new() };
        let names = |status: &Value| {
            let listed = status["active"].as_array().into_iter().flatten();
            let names = listed.filter_map(|job| job["name"].as_str().map(str::to_owned));
            names.collect::<Vec<_>>()
        };
        let status = &patch["status"];
        if status.get("active").is_none() {
            return Vec::new();
        }
        let left = names(status);
        let gone = names(&cron.status).into_iter().filter(|name| !left.contains(name));
        let tell = |name: String| {
            let job = cluster.workloads.jobs.get(&ObjectKey::new(&key.namespace, &name));
            match job.map(|job| job.finished()) {
                Some(Some((end, _))) => {
                    let message = format!("Saw completed job: {name}, condition: {end}");
                    Some(self.normal("SawCompletedJob", message))
                }
                // The one that is replaced goes by our own doing.
                None if cron.overlap != Overlap::Replace => {
                    let message = format!("Active job went missing: {name}");
                    Some(self.normal("MissingJob", message))
                }
                _ => None,
            }
        };
        gone.filter_map(tell).collect()
    }

    fn of_binding(&self, write: &Write, answer: Answer<'_>) -> Option<Event> {
        answer.ok()?;
        match write {
            Write::Bind { pod, node } => {
                let message = format!("Successfully assigned {pod} to {node}");
                Some(self.normal("Scheduled", message))
            }
            Write::SetCondition { condition, .. } => {
                Some(self.warning("FailedScheduling", condition.message.clone()))
            }
            _ => None,
        }
    }

    fn of_slices(&self, service: &ObjectKey, answer: Answer<'_>) -> Option<Event> {
        let why = answer.err()?;
        let message = format!("Error updating Endpoint Slices for Service {service}: {why}");
        Some(self.warning("FailedToUpdateEndpointSlices", message))
    }

    fn of_endpoints(
        &self,
        service: &ObjectKey,
        write: &Write,
        answer: Answer<'_>,
    ) -> Option<Event> {
        let why = answer.err()?;
        match write {
            Write::Create(_) => {
                let message = format!("Failed to create endpoint for service {service}: {why}");
                Some(self.warning("FailedToCreateEndpoint", message))
            }
            Write::Patch { .. } => {
                let message = format!("Failed to update endpoint {service}: {why}");
                Some(self.warning("FailedToUpdateEndpoint", message))
            }
            _ => None,
        }
    }
}

/// A node that falls silent, and what becomes of its pods.
fn of_node(
    cluster: &Cluster,
    voice: &Voice,
    name: &str,
    write: &Write,
    answer: Answer<'_>,
) -> Option<Event> {
    answer.ok()?;
    let node = cluster.node(name)?;
    let pod = |key| cluster.pod(key).map(|pod| About::new(Kind::POD, &pod.base.meta));
    match write {
        Write::Silence { .. } if node.base.ready => {
            let message = format!("Node {name} status is now: NodeNotReady");
            Some(voice.normal("NodeNotReady", message))
        }
        Write::SetCondition { kind: Kind::POD, key, .. } => {
            Some(pod(key)?.warning(voice.component, "NodeNotReady", "Node is not ready"))
        }
        Write::Evict { pod: key, .. } => {
            let message = format!("Marking for deletion Pod {key}");
            Some(pod(key)?.normal(voice.component, "TaintManagerEviction", message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
