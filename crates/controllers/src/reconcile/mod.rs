//! The decisions: values in, writes out. No clock, no I/O; `now` and names are arguments.

mod claim;
pub(crate) mod cron_job;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
mod disruption;
pub(crate) mod endpoints;
pub(crate) mod job;
pub(crate) mod mirror;
pub(crate) mod node_cidr;
pub(crate) mod node_life;
pub(crate) mod packing;
pub(crate) mod replica_set;
mod revision;
pub(crate) mod rollout;
pub(crate) mod schedule;
mod slice_writes;
pub(crate) mod slices;
pub(crate) mod stateful_set;
pub(crate) mod status;
mod subsets;
mod taint_eviction;
mod template;

use crate::cluster::Cluster;
use crate::names::Names;
use crate::settings::Settings;
use crate::task::Task;
use crate::write::{Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use std::time::Duration;

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Since the start, by a clock that never jumps.
    pub(crate) uptime: Duration,
    /// For what people read.
    pub(crate) wall: Timestamp,
}

/// Decides one task. Bindings and subnets that it hands out count at once in `cluster`.
pub(crate) fn plan(
    cluster: &mut Cluster,
    task: &Task,
    settings: &Settings,
    names: &mut Names,
    now: Now,
) -> Outcome {
    let claims = claim::plan(cluster, task);
    if !claims.is_empty() {
        // What comes of them brings the task up again, with all that it owns then.
        return claims.into();
    }
    match task {
        Task::Slices(service) => slices::plan(cluster, service, settings, names).into(),
        Task::Endpoints(service) => endpoints::plan(cluster, service).into(),
        Task::Mirror(endpoints) => mirror::plan(cluster, endpoints, names).into(),
        Task::NodeLife(node) => {
            let told = node_life::enrol(cluster, node);
            let mut outcome = node_life::plan(cluster, node, settings, now.uptime);
            outcome.writes.extend(told);
            outcome
        }
        Task::TaintEviction(node) => taint_eviction::plan(cluster, node, settings, now.uptime),
        Task::NodeCidr(node) => node_cidr::plan(cluster, node, settings).into(),
        Task::Schedule(pod) => schedule::plan(cluster, pod).into(),
        Task::ReplicaSet(_) | Task::ReplicationController(_) => {
            replica_set::plan(cluster, task, names, now)
        }
        Task::Deployment(deployment) => deployment::plan(cluster, deployment, now),
        Task::StatefulSet(set) => stateful_set::plan(cluster, set, now.wall),
        Task::DaemonSet(set) => daemon_set::plan(cluster, set, names, now.wall),
        Task::Job(job) => job::plan(cluster, job, settings, names, now.wall),
        Task::CronJob(cron) => cron_job::plan(cluster, cron, now.wall),
    }
}

/// The workload says in its status, and not only in the log, that the API refused this, and does everything else.
pub(crate) fn is_need(task: &Task, write: &Write) -> bool {
    let (creates, deletes) =
        (matches!(write, Write::Create(_)), matches!(write, Write::Delete { .. }));
    match (task, write.kind()) {
        (Task::ReplicaSet(_) | Task::ReplicationController(_), Some(Kind::POD)) => {
            creates || deletes
        }
        (Task::Deployment(_), Some(Kind::REPLICA_SET)) => creates,
        _ => false,
    }
}
