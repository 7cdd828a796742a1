//! Objects that people hear of.

use super::Cluster;
use crate::event::About;
use crate::task::Task;
use client::Kind;
use model::ObjectKey;

/// A node that came or went.
pub(crate) enum Turnover {
    Came(About),
    Went(About),
}

impl Cluster {
    /// The object that a task is about, while it exists.
    pub(crate) fn about(&self, task: &Task) -> Option<About> {
        let (kind, meta) = match task {
            Task::Slices(key) => (Kind::SERVICE, &self.services.get(key)?.base.meta),
            Task::Mirror(key) => (Kind::ENDPOINTS, &self.endpoints.get(key)?.meta),
            Task::Endpoints(key) => return Some(self.about_endpoints(key)),
            Task::NodeLife(name) | Task::TaintEviction(name) | Task::NodeCidr(name) => {
                (Kind::NODE, &self.nodes.get(name)?.base.meta)
            }
            Task::Schedule(key) => (Kind::POD, &self.pods.get(key)?.base.meta),
            Task::ReplicaSet(key) => (Kind::REPLICA_SET, &self.replica_sets.get(key)?.meta),
            Task::ReplicationController(key) => {
                let found = self.workloads.replication_controllers.get(key)?;
                (Kind::REPLICATION_CONTROLLER, &found.meta)
            }
            Task::Deployment(key) => (Kind::DEPLOYMENT, &self.deployments.get(key)?.meta),
            Task::StatefulSet(key) => {
                (Kind::STATEFUL_SET, &self.workloads.stateful_sets.get(key)?.meta)
            }
            Task::DaemonSet(key) => (Kind::DAEMON_SET, &self.workloads.daemon_sets.get(key)?.meta),
            Task::Job(key) => (Kind::JOB, &self.workloads.jobs.get(key)?.meta),
            Task::CronJob(key) => (Kind::CRON_JOB, &self.workloads.cron_jobs.get(key)?.meta),
        };
        Some(About::new(kind, meta))
    }

    /// They may not be there yet.
    fn about_endpoints(&self, key: &ObjectKey) -> About {
        let uid = self.endpoints.get(key).map(|found| found.meta.uid.clone());
        About { kind: Kind::ENDPOINTS, key: key.clone(), uid: uid.unwrap_or_default() }
    }

    /// Whether the node came or went since this was asked last.
    pub(crate) fn turnover(&mut self, name: &str) -> Option<Turnover> {
        match (self.nodes.get(name), self.enrolled.contains_key(name)) {
            (Some(node), false) => {
                let about = About::new(Kind::NODE, &node.base.meta);
                self.enrolled.insert(name.into(), about.uid.clone());
                Some(Turnover::Came(about))
            }
            (None, true) => {
                let uid = self.enrolled.remove(name)?;
                let key = ObjectKey::new("", name);
                Some(Turnover::Went(About { kind: Kind::NODE, key, uid }))
            }
            _ => None,
        }
    }
}
