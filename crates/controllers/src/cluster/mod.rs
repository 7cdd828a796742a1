//! What the controllers know of the cluster, and which work a change makes.
//!
//! A change marks only the tasks that depend on it: every question asked here is answered from an index.

mod about;
mod claims;
mod index;
mod pods;
mod pulse;
mod table;
mod trouble;
mod workloads;

pub(crate) use about::Turnover;
pub(crate) use claims::Keeper;
use pulse::Turns;
pub(crate) use pulse::{LEASES, Pulse};
pub(crate) use trouble::Trouble;

use crate::record::{
    self, Claim, Deployment, Endpoints, Manager, Node, Pod, ReplicaSet, Revision, Service, Slice,
};
use crate::task::Task;
use client::Kind;
use index::{Index, Labelled};
use model::ObjectKey;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use workloads::Workloads;

/// The objects, their indices, and the tasks that became dirty. Times are durations since the start.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<Arc<str>, Node>,
    pulses: BTreeMap<Arc<str>, Pulse>,
    turns: Turns,
    dark: bool,
    pods: BTreeMap<ObjectKey, Pod>,
    services: BTreeMap<ObjectKey, Service>,
    endpoints: BTreeMap<ObjectKey, Endpoints>,
    slices: BTreeMap<ObjectKey, Slice>,
    deployments: BTreeMap<ObjectKey, Deployment>,
    replica_sets: BTreeMap<ObjectKey, ReplicaSet>,
    claims: BTreeMap<ObjectKey, Claim>,
    pub(crate) workloads: Workloads,
    /// By the uid of the owner.
    pods_of: Index<String, ObjectKey>,
    sets_of: Index<String, ObjectKey>,
    /// Those that nobody controls and a workload may come to, by kind and namespace.
    orphans: Index<(Kind, Arc<str>), ObjectKey>,
    /// Pods that a Job has to count, by its name.
    counted_by: Index<ObjectKey, ObjectKey>,
    /// By who keeps them, and Service.
    slices_of: Index<(Manager, ObjectKey), ObjectKey>,
    /// Pods that have not ended, by node.
    pods_on: Index<String, ObjectKey>,
    /// The same counted, by node and owner's uid.
    siblings_on: BTreeMap<(String, String), usize>,
    pods_labelled: Labelled,
    services_asking: Labelled,
    pending: BTreeSet<ObjectKey>,
    /// Uids of objects whose deletion we asked for: what the watch still says of them is old.
    doomed: BTreeSet<String>,
    /// Nodes that we gave to pods and the watch may not know yet, by the pod's uid.
    bound: BTreeMap<String, String>,
    troubles: BTreeMap<Task, Trouble>,
    /// Nodes that people have heard of, with their uids.
    enrolled: BTreeMap<Arc<str>, String>,
    /// When taints drive pods away, by the pod's uid.
    marked: BTreeMap<String, Duration>,
    dirty: BTreeSet<Task>,
}

impl Cluster {
    /// Takes in an object as the API shows it. One older than what is known already is ignored.
    pub(crate) fn apply(&mut self, kind: Kind, object: &Value, now: Duration) {
        match kind {
            Kind::NODE => Node::parse(object).map(|node| self.put_node(node, now)),
            Kind::LEASE => self.put_lease(object, now),
            Kind::POD => Pod::parse(object).map(|pod| self.put_pod(pod, now)),
            Kind::SERVICE => Service::parse(object).map(|service| self.put_service(service)),
            Kind::ENDPOINTS => Endpoints::parse(object).map(|found| self.put_endpoints(found)),
            Kind::ENDPOINT_SLICE => Slice::parse(object).map(|slice| self.put_slice(slice)),
            Kind::DEPLOYMENT => Deployment::parse(object).map(|found| self.put_deployment(found)),
            Kind::REPLICA_SET => {
                ReplicaSet::parse(kind, object).map(|set| self.put_replica_set(set))
            }
            Kind::CONTROLLER_REVISION => Revision::parse(object).map(|it| self.put_revision(it)),
            Kind::PERSISTENT_VOLUME_CLAIM => Claim::parse(object).map(|it| self.put_claim(it)),
            _ => {
                self.apply_workload(kind, object);
                None
            }
        };
    }

    /// The object is gone.
    pub(crate) fn remove(&mut self, kind: Kind, key: &ObjectKey, now: Duration) {
        match kind {
            Kind::NODE => self.remove_node(&key.name, now),
            Kind::POD => self.remove_pod(key),
            Kind::SERVICE => self.remove_service(key),
            Kind::ENDPOINTS => self.remove_endpoints(key),
            Kind::ENDPOINT_SLICE => self.remove_slice(key),
            Kind::DEPLOYMENT => {
                self.deployments.remove(key);
                self.troubles.remove(&Task::Deployment(key.clone()));
            }
            Kind::REPLICA_SET => {
                self.remove_replica_set(key);
                self.troubles.remove(&Task::ReplicaSet(key.clone()));
            }
            Kind::PERSISTENT_VOLUME_CLAIM => drop(self.claims.remove(key)),
            // Without its lease a node falls silent by itself.
            _ => self.remove_workload(kind, key),
        }
    }

    /// These are all objects of the kind.
    pub(crate) fn restart(&mut self, kind: Kind, objects: &[Value], now: Duration) {
        let present: BTreeSet<_> = objects.iter().filter_map(record::key).collect();
        for key in self.keys(kind) {
            if !present.contains(&key) {
                self.remove(kind, &key, now);
            }
        }
        for object in objects {
            self.apply(kind, object, now);
        }
    }

    fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        match kind {
            Kind::NODE => self.nodes.keys().map(|name| ObjectKey::new("", name)).collect(),
            Kind::POD => self.pods.keys().cloned().collect(),
            Kind::SERVICE => self.services.keys().cloned().collect(),
            Kind::ENDPOINTS => self.endpoints.keys().cloned().collect(),
            Kind::ENDPOINT_SLICE => self.slices.keys().cloned().collect(),
            Kind::DEPLOYMENT => self.deployments.keys().cloned().collect(),
            Kind::REPLICA_SET => self.replica_sets.keys().cloned().collect(),
            Kind::PERSISTENT_VOLUME_CLAIM => self.claims.keys().cloned().collect(),
            _ => self.workload_keys(kind),
        }
    }

    /// Remembers that the API agreed to delete the object, before the watch says so.
    pub(crate) fn doom(&mut self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::POD => self.doom_pod(key),
            Kind::ENDPOINT_SLICE => self.remove_slice(key),
            Kind::ENDPOINTS => self.remove_endpoints(key),
            Kind::REPLICA_SET => self.remove_replica_set(key),
            Kind::CONTROLLER_REVISION => self.remove_workload(kind, key),
            _ => {}
        }
    }

    /// Takes the node to have these taints and those of others.
    #[cfg(test)]
    pub(crate) fn assume_taints(&mut self, name: &str, taints: &crate::taints::Taints) {
        use crate::record::{Effect, Taint};
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.taints.retain(|it| !crate::taints::is_ours(&it.key, it.effect.name()));
        let taint = |key: &&str, effect| Taint { effect, ..Taint::no_schedule(key) };
        let no_schedule = taints.no_schedule.iter().map(|key| taint(key, Effect::NoSchedule));
        node.taints.extend(no_schedule);
        node.taints.extend(taints.no_execute.as_ref().map(|key| taint(key, Effect::NoExecute)));
    }

    #[cfg(test)]
    pub(crate) fn restore_taints(&mut self, name: &str, taints: Vec<record::Taint>) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.taints = taints;
        }
    }

    /// Has the task looked at again.
    #[cfg(test)]
    pub(crate) fn mark(&mut self, task: Task) {
        self.dirty.insert(task);
    }

    /// The tasks that became dirty since the last call.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<Task> {
        std::mem::take(&mut self.dirty)
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Takes the node to have the subnets, before the API confirms it.
    pub(crate) fn assume_subnets(&mut self, name: &str, subnets: Vec<ipnet::IpNet>) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.base.pod_cidrs = subnets;
        }
    }

    /// The API did not give the node its subnet.
    pub(crate) fn forget_subnet(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.base.pod_cidrs.clear();
        }
    }

    pub(crate) fn pod(&self, key: &ObjectKey) -> Option<&Pod> {
        self.pods.get(key)
    }

    pub(crate) fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key)
    }

    pub(crate) fn endpoints(&self, key: &ObjectKey) -> Option<&Endpoints> {
        self.endpoints.get(key)
    }

    /// The slices that this one of us keeps for a Service, there or not, in order of their names.
    pub(crate) fn slices_of<'a>(
        &'a self,
        manager: Manager,
        service: &ObjectKey,
    ) -> impl Iterator<Item = &'a Slice> {
        self.slices_of.of(&(manager, service.clone())).filter_map(|key| self.slices.get(key))
    }

    pub(crate) fn deployment(&self, key: &ObjectKey) -> Option<&Deployment> {
        self.deployments.get(key)
    }

    pub(crate) fn replica_set(&self, key: &ObjectKey) -> Option<&ReplicaSet> {
        self.replica_sets.get(key)
    }

    /// The ReplicaSets that the owner of this uid controls.
    pub(crate) fn sets_of<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a ReplicaSet> {
        self.sets_of.of(uid).filter_map(|key| self.replica_sets.get(key))
    }

    pub(crate) fn claim(&self, key: &ObjectKey) -> Option<&Claim> {
        self.claims.get(key)
    }

    /// Its set looks at it when it looks at its pods.
    fn put_claim(&mut self, claim: Claim) {
        if self.claims.get(&claim.key).is_none_or(|old| old.version <= claim.version) {
            self.claims.insert(claim.key.clone(), claim);
        }
    }

    fn put_node(&mut self, node: Node, now: Duration) {
        let name = node.base.meta.key.name.clone();
        if self.nodes.get(&name).is_some_and(|old| old.version > node.version) {
            return;
        }
        self.hear(&name, pulse::Sign::Heartbeat(node.heartbeat.clone()), now);
        if self.nodes.get(&name).is_some_and(Node::is_unknown) && !node.is_unknown() {
            self.hear(&name, pulse::Sign::Contradiction, now);
        }
        self.note_readiness(&name, node.readiness.as_deref(), now);
        let old = self.nodes.get(&name);
        if old.is_some_and(|old| old.is_same(&node)) {
            self.nodes.insert(name, node);
            return;
        }
        let state = |node: &Node| {
            let parts = (node.readiness.clone(), node.pressures.clone(), node.cordoned);
            (parts, node.taints.clone())
        };
        let turned = old.is_none_or(|old| state(old) != state(&node));
        let drives =
            old.map_or(node.driving().next().is_some(), |old| !old.driving().eq(node.driving()));
        let moved = old.is_none_or(|old| old.zone() != node.zone());
        let counts = |node: &Node| {
            let domain = node.failure_domain().map(|part| part.map(str::to_owned));
            (node.base.ready, node.is_exempt(), domain)
        };
        if old.is_none_or(|old| counts(old) != counts(&node)) {
            self.touch_waiting();
        }
        if turned {
            self.dirty.insert(Task::NodeLife(name.clone()));
        }
        if drives {
            self.dirty.insert(Task::TaintEviction(name.clone()));
        }
        if node.base.pod_cidrs.is_empty() {
            self.dirty.insert(Task::NodeCidr(name.clone()));
        }
        self.nodes.insert(name.clone(), node);
        if moved {
            self.touch_services_on(&name);
        }
        self.touch_daemons();
        self.dirty.extend(self.pending.iter().cloned().map(Task::Schedule));
    }

    fn put_lease(&mut self, lease: &Value, now: Duration) -> Option<()> {
        let key = record::key(lease).filter(|key| &*key.namespace == LEASES)?;
        let renewed = record::text(lease, "/spec/renewTime")?.to_owned();
        self.hear(&key.name, pulse::Sign::Lease(renewed), now);
        Some(())
    }

    fn remove_node(&mut self, name: &Arc<str>, now: Duration) {
        self.nodes.remove(name);
        self.pulses.insert(name.clone(), Pulse::new(now));
        self.dirty.extend([Task::NodeLife(name.clone()), Task::TaintEviction(name.clone())]);
        self.touch_waiting();
        self.touch_services_on(name);
        self.touch_daemons();
        self.dirty.extend(self.pending.iter().cloned().map(Task::Schedule));
    }

    fn put_service(&mut self, service: Service) {
        let key = service.base.meta.key.clone();
        if self.services.get(&key) == Some(&service) {
            return;
        }
        self.remove_service(&key);
        if let Some(selector) = service.base.selector.as_ref().filter(|_| service.is_selecting()) {
            self.services_asking.insert(&key, &selector.match_labels());
        }
        self.services.insert(key.clone(), service);
        self.touch_service(&key);
    }

    /// Whoever follows the Service itself.
    fn touch_service(&mut self, key: &ObjectKey) {
        let tasks = [Task::Mirror, Task::Slices, Task::Endpoints];
        self.dirty.extend(tasks.map(|task| task(key.clone())));
    }

    fn remove_service(&mut self, key: &ObjectKey) {
        let Some(service) = self.services.remove(key) else { return };
        if let Some(selector) = &service.base.selector {
            self.services_asking.remove(key, &selector.match_labels());
        }
        self.touch_service(key);
    }

    fn put_endpoints(&mut self, endpoints: Endpoints) {
        let key = endpoints.meta.key.clone();
        if self.endpoints.get(&key).is_some_and(|old| old.version > endpoints.version) {
            return;
        }
        self.endpoints.insert(key.clone(), endpoints);
        self.touch_endpoints(&key);
    }

    /// Those of no Service are left alone: theirs may be about to come.
    fn touch_endpoints(&mut self, key: &ObjectKey) {
        self.dirty.insert(Task::Mirror(key.clone()));
        if self.services.get(key).is_some_and(Service::is_selecting) {
            self.dirty.insert(Task::Endpoints(key.clone()));
        }
    }

    /// All kinds were listed for the first time: Endpoints whose Service went before are left over.
    pub(crate) fn touch_left_over(&mut self) {
        let left = self
            .endpoints
            .iter()
            .filter(|(key, found)| !found.is_lock() && !self.services.contains_key(key));
        self.dirty.extend(left.map(|(key, _)| Task::Endpoints(key.clone())));
    }

    fn remove_endpoints(&mut self, key: &ObjectKey) {
        self.endpoints.remove(key);
        self.touch_endpoints(key);
    }

    fn put_slice(&mut self, slice: Slice) {
        let key = slice.key.clone();
        let old = self.slices.get(&key);
        if old.is_some_and(|old| old.version > slice.version || *old == slice) {
            return;
        }
        self.remove_slice(&key);
        if let Some(service) = slice.service() {
            self.slices_of.insert((slice.manager, service.clone()), key.clone());
            self.dirty.insert(slice_task(slice.manager, service));
        }
        self.slices.insert(key, slice);
    }

    fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(slice) = self.slices.remove(key) else { return };
        let Some(service) = slice.service() else { return };
        self.slices_of.remove(&(slice.manager, service.clone()), key);
        self.dirty.insert(slice_task(slice.manager, service));
    }

    fn put_deployment(&mut self, deployment: Deployment) {
        let key = deployment.meta.key.clone();
        let old = self.deployments.get(&key);
        if old.is_some_and(|old| old.version > deployment.version || *old == deployment) {
            return;
        }
        self.deployments.insert(key.clone(), deployment);
        self.dirty.insert(Task::Deployment(key));
    }

    fn put_replica_set(&mut self, set: ReplicaSet) {
        let key = set.meta.key.clone();
        let old = self.replica_sets.get(&key);
        if old.is_some_and(|old| old.version > set.version || *old == set) {
            return;
        }
        self.remove_replica_set(&key);
        if let Some(owner) = &set.owner {
            self.sets_of.insert(owner.uid.clone(), key.clone());
        }
        self.note_owner(Kind::REPLICA_SET, &key, set.owner.as_ref());
        self.touch_keepers(Kind::REPLICA_SET, &set.meta, set.owner.as_ref());
        self.replica_sets.insert(key.clone(), set);
        self.dirty.insert(Task::ReplicaSet(key));
    }

    fn remove_replica_set(&mut self, key: &ObjectKey) {
        let Some(set) = self.replica_sets.remove(key) else { return };
        if let Some(owner) = &set.owner {
            self.sets_of.remove(&owner.uid, key);
        }
        self.forget_orphan(Kind::REPLICA_SET, key);
        self.touch_keepers(Kind::REPLICA_SET, &set.meta, set.owner.as_ref());
    }
}

fn slice_task(manager: Manager, service: ObjectKey) -> Task {
    match manager {
        Manager::Service => Task::Slices(service),
        Manager::Mirroring => Task::Mirror(service),
    }
}
