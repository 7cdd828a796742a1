//! Who looks after what: workloads, what they own, and what nobody owns and one of them could.

use super::Cluster;
use super::table::in_namespace;
use super::workloads::{owner_task, task_of};
use crate::record::{DaemonSet, Deployment, Job, Owner, Pod, ReplicaSet, StatefulSet, ordinal};
use crate::task::Task;
use client::Kind;
use model::{Meta, ObjectKey, Selector};
use std::sync::Arc;

/// A workload that looks after all that its selector matches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeper<'a> {
    pub(crate) kind: Kind,
    pub(crate) meta: &'a Meta,
    selector: &'a Selector,
}

impl<'a> Keeper<'a> {
    /// One that is on its way out takes nothing and lets nothing go.
    fn new(kind: Kind, meta: &'a Meta, selector: Option<&'a Selector>) -> Option<Self> {
        let selector = selector.filter(|_| !meta.terminating)?;
        Some(Keeper { kind, meta, selector })
    }

    fn of_deployment(it: &'a Deployment) -> Option<Self> {
        Self::new(Kind::DEPLOYMENT, &it.meta, it.selector.as_ref())
    }

    fn of_replica_set(it: &'a ReplicaSet) -> Option<Self> {
        Self::new(it.kind, &it.meta, it.selector.as_ref())
    }

    fn of_stateful_set(it: &'a StatefulSet) -> Option<Self> {
        Self::new(Kind::STATEFUL_SET, &it.meta, it.selector.as_ref())
    }

    fn of_daemon_set(it: &'a DaemonSet) -> Option<Self> {
        Self::new(Kind::DAEMON_SET, &it.meta, it.selector.as_ref())
    }

    /// A Job that is over has its pods, and gets no others.
    fn of_job(it: &'a Job) -> Option<Self> {
        let looks = !it.foreign && it.finished().is_none();
        Self::new(Kind::JOB, &it.meta, it.selector.as_ref().filter(|_| looks))
    }

    /// The kinds of what it owns.
    pub(crate) fn kinds(&self) -> &'static [Kind] {
        match self.kind {
            Kind::DEPLOYMENT => &[Kind::REPLICA_SET],
            Kind::STATEFUL_SET | Kind::DAEMON_SET => &[Kind::POD, Kind::CONTROLLER_REVISION],
            _ => &[Kind::POD],
        }
    }

    /// The object is of those that it looks after. A StatefulSet knows its pods by their names, too.
    pub(crate) fn matches(&self, kind: Kind, object: &Meta) -> bool {
        let by_name = kind == Kind::POD && self.kind == Kind::STATEFUL_SET;
        self.selector.matches(&object.labels)
            && (!by_name || ordinal(&self.meta.key, &object.key).is_some())
    }

    /// A pod that has ended is nothing to who only counts pods.
    fn minds(&self, pod: &Pod) -> bool {
        let is_count = [Kind::REPLICA_SET, Kind::REPLICATION_CONTROLLER].contains(&self.kind);
        !is_count || !pod.base.phase.is_over()
    }
}

impl Cluster {
    /// The workload that this task is about, if it looks after others now.
    pub(crate) fn keeper(&self, task: &Task) -> Option<Keeper<'_>> {
        let workloads = &self.workloads;
        match task {
            Task::Deployment(key) => Keeper::of_deployment(self.deployments.get(key)?),
            Task::ReplicaSet(key) => Keeper::of_replica_set(self.replica_sets.get(key)?),
            Task::ReplicationController(key) => {
                Keeper::of_replica_set(workloads.replication_controllers.get(key)?)
            }
            Task::StatefulSet(key) => Keeper::of_stateful_set(workloads.stateful_sets.get(key)?),
            Task::DaemonSet(key) => Keeper::of_daemon_set(workloads.daemon_sets.get(key)?),
            Task::Job(key) => Keeper::of_job(workloads.jobs.get(key)?),
            _ => None,
        }
    }

    fn keepers<'a>(&'a self, namespace: &Arc<str>) -> impl Iterator<Item = Keeper<'a>> {
        let workloads = &self.workloads;
        let deployments = in_namespace(&self.deployments, namespace);
        let sets = in_namespace(&self.replica_sets, namespace);
        let stateful_sets = workloads.stateful_sets.in_namespace(namespace);
        let daemon_sets = workloads.daemon_sets.in_namespace(namespace);
        let jobs = workloads.jobs.in_namespace(namespace);
        let all = deployments.map(Keeper::of_deployment).chain(sets.map(Keeper::of_replica_set));
        let controllers = workloads.replication_controllers.in_namespace(namespace);
        let all = all.chain(controllers.map(Keeper::of_replica_set));
        let all = all.chain(stateful_sets.map(Keeper::of_stateful_set));
        all.chain(daemon_sets.map(Keeper::of_daemon_set)).chain(jobs.map(Keeper::of_job)).flatten()
    }

    /// What the keeper owns of a kind.
    pub(crate) fn kept<'a>(&'a self, keeper: &Keeper<'_>, kind: Kind) -> Vec<&'a Meta> {
        let uid = &keeper.meta.uid;
        match kind {
            Kind::POD => {
                let pods = self.pods_of(uid).filter(|pod| keeper.minds(pod));
                pods.map(|pod| &pod.base.meta).collect()
            }
            Kind::REPLICA_SET => self.sets_of(uid).map(|set| &set.meta).collect(),
            _ => self.workloads.revisions.owned_by(uid).map(|revision| &revision.meta).collect(),
        }
    }

    /// What nobody owns of a kind in the keeper's namespace.
    pub(crate) fn unkept<'a>(&'a self, keeper: &Keeper<'_>, kind: Kind) -> Vec<&'a Meta> {
        let orphans = self.orphans.of(&(kind, keeper.meta.key.namespace.clone()));
        let meta = |key: &ObjectKey| match kind {
            Kind::POD => {
                let pod = self.pods.get(key).filter(|pod| keeper.minds(pod));
                pod.map(|pod| &pod.base.meta)
            }
            Kind::REPLICA_SET => self.replica_sets.get(key).map(|set| &set.meta),
            _ => self.workloads.revisions.get(key).map(|revision| &revision.meta),
        };
        orphans.filter_map(meta).collect()
    }

    pub(super) fn note_owner(&mut self, kind: Kind, key: &ObjectKey, owner: Option<&Owner>) {
        match owner {
            Some(_) => self.forget_orphan(kind, key),
            None => self.orphans.insert((kind, key.namespace.clone()), key.clone()),
        }
    }

    pub(super) fn forget_orphan(&mut self, kind: Kind, key: &ObjectKey) {
        self.orphans.remove(&(kind, key.namespace.clone()), key);
    }

    /// Has the object's owner look at it or, where it has none, all who could be.
    pub(super) fn touch_keepers(&mut self, kind: Kind, object: &Meta, owner: Option<&Owner>) {
        let namespace = &object.key.namespace;
        if let Some(owner) = owner {
            self.dirty.extend(owner_task(namespace, owner));
            return;
        }
        let suitors = self
            .keepers(namespace)
            .filter(|it| it.kinds().contains(&kind) && it.matches(kind, object));
        let tasks: Vec<_> =
            suitors.filter_map(|it| task_of(it.kind.kind, it.meta.key.clone())).collect();
        self.dirty.extend(tasks);
    }
}
