//! Workloads other than Deployments: what they own, and what a change of them makes dirty.

use super::Cluster;
use super::table::{Row, Table};
use crate::record::{CronJob, DaemonSet, Job, Owner, ReplicaSet, Revision, StatefulSet};
use crate::task::Task;
use client::Kind;
use model::{Meta, ObjectKey};
use serde_json::Value;

#[derive(Debug, Default)]
pub(crate) struct Workloads {
    pub(crate) replication_controllers: Table<ReplicaSet>,
    pub(crate) stateful_sets: Table<StatefulSet>,
    pub(crate) daemon_sets: Table<DaemonSet>,
    pub(crate) jobs: Table<Job>,
    pub(crate) cron_jobs: Table<CronJob>,
    pub(crate) revisions: Table<Revision>,
}

macro_rules! row {
    ($($kind:ty),*) => {$(
        impl Row for $kind {
            fn meta(&self) -> &Meta {
                &self.meta
            }

            fn version(&self) -> u64 {
                self.version
            }

            fn owner(&self) -> Option<&Owner> {
                self.owner.as_ref()
            }
        }
    )*};
}

row!(ReplicaSet, StatefulSet, DaemonSet, Job, CronJob, Revision);

impl Cluster {
    /// False: not one of these kinds.
    pub(super) fn apply_workload(&mut self, kind: Kind, object: &Value) -> bool {
        let workloads = &mut self.workloads;
        let is_new = match kind {
            Kind::REPLICATION_CONTROLLER => ReplicaSet::parse(kind, object)
                .is_some_and(|row| workloads.replication_controllers.put(row)),
            Kind::STATEFUL_SET => {
                StatefulSet::parse(object).is_some_and(|row| workloads.stateful_sets.put(row))
            }
            Kind::DAEMON_SET => {
                DaemonSet::parse(object).is_some_and(|row| workloads.daemon_sets.put(row))
            }
            Kind::JOB => Job::parse(object).is_some_and(|row| workloads.jobs.put(row)),
            Kind::CRON_JOB => {
                CronJob::parse(object).is_some_and(|row| workloads.cron_jobs.put(row))
            }
            _ => return false,
        };
        if let Some(key) = crate::record::key(object).filter(|_| is_new) {
            let owner = Owner::of(object);
            self.touch_workload(kind, &key, owner.as_ref());
        }
        true
    }

    pub(super) fn put_revision(&mut self, revision: Revision) {
        const KIND: Kind = Kind::CONTROLLER_REVISION;
        let (meta, owner) = (revision.meta.clone(), revision.owner.clone());
        let former = self.workloads.revisions.get(&meta.key).map(|former| former.owner.clone());
        if !self.workloads.revisions.put(revision) {
            return;
        }
        self.note_owner(KIND, &meta.key, owner.as_ref());
        self.touch_keepers(KIND, &meta, owner.as_ref());
        if let Some(former) = former.filter(|former| *former != owner) {
            self.touch_keepers(KIND, &meta, former.as_ref());
        }
    }

    pub(super) fn remove_workload(&mut self, kind: Kind, key: &ObjectKey) {
        let workloads = &mut self.workloads;
        let owner = match kind {
            Kind::REPLICATION_CONTROLLER => {
                self.troubles.remove(&Task::ReplicationController(key.clone()));
                workloads.replication_controllers.remove(key).and_then(|row| row.owner)
            }
            Kind::STATEFUL_SET => workloads.stateful_sets.remove(key).and_then(|row| row.owner),
            Kind::DAEMON_SET => workloads.daemon_sets.remove(key).and_then(|row| row.owner),
            Kind::JOB => workloads.jobs.remove(key).and_then(|row| row.owner),
            Kind::CRON_JOB => workloads.cron_jobs.remove(key).and_then(|row| row.owner),
            Kind::CONTROLLER_REVISION => workloads.revisions.remove(key).and_then(|row| row.owner),
            _ => None,
        };
        self.forget_orphan(kind, key);
        self.touch_workload(kind, key, owner.as_ref());
    }

    pub(super) fn workload_keys(&self, kind: Kind) -> Vec<ObjectKey> {
        let workloads = &self.workloads;
        match kind {
            Kind::REPLICATION_CONTROLLER => workloads.replication_controllers.keys(),
            Kind::STATEFUL_SET => workloads.stateful_sets.keys(),
            Kind::DAEMON_SET => workloads.daemon_sets.keys(),
            Kind::JOB => workloads.jobs.keys(),
            Kind::CRON_JOB => workloads.cron_jobs.keys(),
            Kind::CONTROLLER_REVISION => workloads.revisions.keys(),
            _ => Vec::new(),
        }
    }

    /// The object itself and what owns it.
    fn touch_workload(&mut self, kind: Kind, key: &ObjectKey, owner: Option<&Owner>) {
        let itself = task_of(kind.kind, key.clone());
        let above = owner.and_then(|owner| owner_task(&key.namespace, owner));
        self.dirty.extend(itself.into_iter().chain(above));
    }

    /// A node came, went or changed: daemons may have to come or go with it.
    pub(super) fn touch_daemons(&mut self) {
        self.dirty.extend(self.workloads.daemon_sets.keys().into_iter().map(Task::DaemonSet));
    }
}

/// Who looks after what this one owns.
pub(super) fn owner_task(namespace: &str, owner: &Owner) -> Option<Task> {
    task_of(&owner.kind, ObjectKey::new(namespace, &owner.name))
}

pub(super) fn task_of(kind: &str, key: ObjectKey) -> Option<Task> {
    match kind {
        "Deployment" => Some(Task::Deployment(key)),
        "ReplicaSet" => Some(Task::ReplicaSet(key)),
        "ReplicationController" => Some(Task::ReplicationController(key)),
        "StatefulSet" => Some(Task::StatefulSet(key)),
        "DaemonSet" => Some(Task::DaemonSet(key)),
        "Job" => Some(Task::Job(key)),
        "CronJob" => Some(Task::CronJob(key)),
        _ => None,
    }
}
