//! Pods: the objects that everything depends on.

use super::Cluster;
use crate::reconcile::schedule::Load;
use crate::record::{Pod, Service};
use crate::task::Task;
use client::Kind;
use model::ObjectKey;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

impl Cluster {
    /// The pods that the owner of this uid controls.
    pub(crate) fn pods_of<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Pod> {
        self.pods_of.of(uid).filter_map(|key| self.pods.get(key))
    }

    /// The pods that a Job of this name has to count, there or not.
    pub(crate) fn counted_by<'a>(&'a self, job: &ObjectKey) -> impl Iterator<Item = &'a Pod> {
        self.counted_by.of(job).filter_map(|key| self.pods.get(key))
    }

    /// The pods on a node that have not ended.
    pub(crate) fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Pod> {
        self.pods_on.of(node).filter_map(|key| self.pods.get(key))
    }

    /// The pods that the Service selects.
    pub(crate) fn pods_behind<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Pod> {
        let namespace = &service.base.meta.key.namespace;
        let selector = service.base.selector.as_ref().filter(|_| service.is_selecting());
        let candidates = selector
            .into_iter()
            .flat_map(|selector| self.pods_labelled.candidates(namespace, selector));
        candidates.filter_map(|key| self.pods.get(key)).filter(move |pod| {
            selector.is_some_and(|selector| selector.matches(&pod.base.meta.labels))
        })
    }

    /// How full a node is, as far as a new pod of this owner minds.
    pub(crate) fn load(&self, node: &str, owner: Option<&str>) -> Load {
        let pods = self.pods_on.count(node);
        let place = |uid: &str| (node.to_owned(), uid.to_owned());
        let siblings = owner.and_then(|uid| self.siblings_on.get(&place(uid)));
        Load { siblings: siblings.copied().unwrap_or(0), pods }
    }

    /// Takes the pod to be on the node, before the API confirms it.
    pub(crate) fn assume(&mut self, key: &ObjectKey, node: &str) {
        let Some(mut pod) = self.unlink_pod(key) else { return };
        self.bound.insert(pod.base.meta.uid.clone(), node.to_owned());
        pod.base.node = Some(node.to_owned());
        self.link_pod(pod);
    }

    /// The API did not give the pod its node.
    pub(crate) fn forget_assumed(&mut self, key: &ObjectKey) {
        let Some(mut pod) = self.unlink_pod(key) else { return };
        if self.bound.remove(&pod.base.meta.uid).is_some() {
            pod.base.node = None;
        }
        self.link_pod(pod);
    }

    pub(super) fn put_pod(&mut self, mut pod: Pod, now: Duration) {
        let key = pod.base.meta.key.clone();
        self.overlay(&mut pod);
        let old = self.pods.get(&key);
        let same_object = old.filter(|old| old.base.meta.uid == pod.base.meta.uid);
        if same_object.is_some_and(|old| old.version > pod.version) {
            return;
        }
        if old.is_some_and(|old| old.is_same(&pod)) {
            self.pods.insert(key, pod);
            return;
        }
        let changed_on_the_wire = old.is_none_or(|old| old.base != pod.base);
        let replaced = self.unlink_pod(&key);
        if changed_on_the_wire {
            for each in replaced.iter().chain([&pod]) {
                self.touch_services_of(each);
            }
        }
        if let Some(former) = replaced.filter(|former| former.owner != pod.owner) {
            self.touch_owner(&former);
        }
        self.touch_others(&pod, now);
        self.link_pod(pod);
    }

    pub(super) fn remove_pod(&mut self, key: &ObjectKey) {
        let Some(pod) = self.unlink_pod(key) else { return };
        self.doomed.remove(&pod.base.meta.uid);
        self.bound.remove(&pod.base.meta.uid);
        self.marked.remove(&pod.base.meta.uid);
        self.touch_services_of(&pod);
        self.touch_owner(&pod);
    }

    pub(super) fn doom_pod(&mut self, key: &ObjectKey) {
        let Some(mut pod) = self.unlink_pod(key) else { return };
        self.doomed.insert(pod.base.meta.uid.clone());
        pod.base.meta.terminating = true;
        self.touch_services_of(&pod);
        self.touch_owner(&pod);
        self.link_pod(pod);
    }

    /// The slices of every Service with a pod on this node.
    pub(super) fn touch_services_on(&mut self, node: &str) {
        let pods = self.pods_on.of(node).filter_map(|key| self.pods.get(key));
        let tasks: BTreeSet<_> =
            pods.flat_map(|pod| self.services_of(pod)).map(Task::Slices).collect();
        self.dirty.extend(tasks);
    }

    fn services_of(&self, pod: &Pod) -> impl Iterator<Item = ObjectKey> {
        let meta = &pod.base.meta;
        let asking = self.services_asking.any_of(&meta.key.namespace, &meta.labels);
        asking.into_iter().filter(|key| {
            let selector = self.services.get(key).and_then(|it| it.base.selector.as_ref());
            selector.is_some_and(|selector| selector.matches(&meta.labels))
        })
    }

    /// What we wrote ourselves and the watch may not know yet.
    fn overlay(&mut self, pod: &mut Pod) {
        let uid = &pod.base.meta.uid;
        pod.base.meta.terminating |= self.doomed.contains(uid);
        if pod.base.node.is_some() {
            self.bound.remove(uid);
        } else {
            pod.base.node = self.bound.get(uid).cloned();
        }
    }

    fn touch_services_of(&mut self, pod: &Pod) {
        let services: Vec<_> = self.services_of(pod).collect();
        self.dirty.extend(services.iter().cloned().map(Task::Slices));
        self.dirty.extend(services.into_iter().map(Task::Endpoints));
    }

    fn touch_owner(&mut self, pod: &Pod) {
        let meta = &pod.base.meta;
        if let Some(owner) = pod.owner.as_ref().filter(|owner| owner.kind == "ReplicaSet") {
            let set = ObjectKey::new(&meta.key.namespace, &owner.name);
            let above = self.replica_sets.get(&set).and_then(|set| set.owner.as_ref());
            let above = above.map(|above| ObjectKey::new(&set.namespace, &above.name));
            self.dirty.extend(above.map(Task::Deployment));
        }
        self.touch_keepers(Kind::POD, meta, pod.owner.as_ref());
        self.dirty.extend(pod.counted_by().map(Task::Job));
    }

    fn touch_others(&mut self, pod: &Pod, now: Duration) {
        self.touch_owner(pod);
        if pod.is_pending() {
            self.dirty.insert(Task::Schedule(pod.base.meta.key.clone()));
        }
        if let Some(node) = &pod.base.node {
            let node = Arc::from(node.as_str());
            self.mind(&node, now);
            if self.nodes.get(&node).is_some_and(|it| it.driving().next().is_some()) {
                self.dirty.insert(Task::TaintEviction(node));
            }
        }
    }

    fn link_pod(&mut self, pod: Pod) {
        let meta = &pod.base.meta;
        self.note_owner(Kind::POD, &meta.key, pod.owner.as_ref());
        self.pods_labelled.insert(&meta.key, &meta.labels);
        if pod.is_pending() {
            self.pending.insert(meta.key.clone());
        }
        if let Some(owner) = &pod.owner {
            self.pods_of.insert(owner.uid.clone(), meta.key.clone());
        }
        if let Some(job) = pod.counted_by() {
            self.counted_by.insert(job, meta.key.clone());
        }
        if let Some(node) = running_on(&pod) {
            self.pods_on.insert(node.clone(), meta.key.clone());
            if let Some(owner) = &pod.owner {
                *self.siblings_on.entry((node.clone(), owner.uid.clone())).or_default() += 1;
            }
        }
        self.pods.insert(meta.key.clone(), pod);
    }

    fn unlink_pod(&mut self, key: &ObjectKey) -> Option<Pod> {
        let pod = self.pods.remove(key)?;
        self.pods_labelled.remove(key, &pod.base.meta.labels);
        self.pending.remove(key);
        self.forget_orphan(Kind::POD, key);
        if let Some(owner) = &pod.owner {
            self.pods_of.remove(&owner.uid, key);
        }
        if let Some(job) = pod.counted_by() {
            self.counted_by.remove(&job, key);
        }
        if let Some(node) = running_on(&pod) {
            self.pods_on.remove(node, key);
            if let Some(owner) = &pod.owner {
                self.discount_sibling((node.clone(), owner.uid.clone()));
            }
        }
        Some(pod)
    }

    fn discount_sibling(&mut self, place: (String, String)) {
        if let Some(count) = self.siblings_on.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.siblings_on.remove(&place);
            }
        }
    }
}

fn running_on(pod: &Pod) -> Option<&String> {
    pod.base.node.as_ref().filter(|_| !pod.base.phase.is_over())
}
