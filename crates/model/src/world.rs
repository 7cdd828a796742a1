//! The cluster as one indexed value.

use crate::object::endpoints::EndpointSlice;
use crate::object::node::Node;
use crate::object::pod::Pod;
use crate::object::service::Service;
use crate::object::service_cidr::ServiceCidr;
use crate::object::virtual_ip::VirtualIp;
use crate::object::workload::Deployment;
use crate::object::{Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What happened to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Created or changed: the object as it is now.
    Applied(Box<Object>),
    Removed(Kind, ObjectKey),
}

/// What a [`Change`] touches: the unit in which the network is compiled again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    Node(Arc<str>),
    Pod(ObjectKey),
    /// The Service or one of its slices.
    Service(ObjectKey),
    /// Where cluster IPs come from.
    ServiceCidr(ObjectKey),
    VirtualIp(ObjectKey),
}

/// A snapshot of the objects that the network depends on, with the indices that compiling needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    nodes: BTreeMap<Arc<str>, Node>,
    namespaces: BTreeSet<Arc<str>>,
    pods: BTreeMap<ObjectKey, Pod>,
    deployments: BTreeMap<ObjectKey, Deployment>,
    /// Boxed, as trees keep room for more.
    services: BTreeMap<ObjectKey, Box<Service>>,
    /// Shared with programs, whose endpoints they are.
    slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    service_cidrs: BTreeMap<ObjectKey, ServiceCidr>,
    virtual_ips: BTreeMap<ObjectKey, VirtualIp>,
    slices_of: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    pods_on: BTreeMap<String, Vec<ObjectKey>>,
}

/// The labels and annotations of Services and slices that are kept: the network depends on no others, and in a large
/// cluster they would be most of what there is.
const KEPT: [&str; 3] = [Service::PROXY_NAME, Service::SCHEDULER, EndpointSlice::HEADLESS];

impl World {
    pub fn from_objects(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut world = World::default();
        for object in objects {
            world.insert(object);
        }
        world
    }

    /// Takes a change in; says what must be compiled again. An unchanged object touches nothing.
    pub fn apply(&mut self, change: Change) -> Vec<Touched> {
        match change {
            Change::Applied(object) => self.insert(*object),
            Change::Removed(kind, key) => self.remove(kind, &key),
        }
    }

    /// The keys of all objects of a kind, to find out what a relist no longer holds.
    pub fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        let cluster_scoped = |names: Vec<&Arc<str>>| {
            let key = |name: &Arc<str>| ObjectKey { namespace: "".into(), name: name.clone() };
            names.into_iter().map(key).collect()
        };
        match kind {
            Kind::Namespace => cluster_scoped(self.namespaces.iter().collect()),
            Kind::Node => cluster_scoped(self.nodes.keys().collect()),
            Kind::Pod => self.pods.keys().cloned().collect(),
            Kind::Deployment => self.deployments.keys().cloned().collect(),
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::EndpointSlice => self.slices.keys().cloned().collect(),
            Kind::ServiceCidr => self.service_cidrs.keys().cloned().collect(),
            Kind::VirtualIp => self.virtual_ips.keys().cloned().collect(),
        }
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// In order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub fn pod(&self, key: &ObjectKey) -> Option<&Pod> {
        self.pods.get(key)
    }

    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.pods_on.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }

    /// The pod that has this address and still runs; pods on the node's own address do not count.
    pub fn pod_with_address(&self, address: IpAddr) -> Option<&Pod> {
        let holds = |pod: &&Pod| {
            !pod.host_network && !pod.phase.is_over() && pod.addresses.contains(&address)
        };
        self.pods.values().find(holds)
    }

    pub fn node_with_address(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.values().find(|node| node.addresses.contains(&address))
    }

    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key).map(|service| &**service)
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|service| &**service)
    }

    /// All slices of a Service, in order of their names.
    pub fn slices_of(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices_of.get(service).into_iter().flatten().filter_map(|key| self.slices.get(key))
    }

    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.values()
    }

    pub fn service_cidrs(&self) -> impl Iterator<Item = &ServiceCidr> {
        self.service_cidrs.values()
    }

    pub fn virtual_ip(&self, key: &ObjectKey) -> Option<&VirtualIp> {
        self.virtual_ips.get(key)
    }

    pub fn virtual_ips(&self) -> impl Iterator<Item = &VirtualIp> {
        self.virtual_ips.values()
    }

    fn insert(&mut self, object: Object) -> Vec<Touched> {
        let key = object.meta().key.clone();
        match object {
            Object::Namespace(_) => {
                self.namespaces.insert(key.name);
                Vec::new()
            }
            Object::Node(node) => {
                replace(&mut self.nodes, key.name.clone(), node, Touched::Node(key.name))
            }
            Object::Pod(pod) => self.insert_pod(key, pod),
            Object::Deployment(deployment) => {
                self.deployments.insert(key, deployment);
                Vec::new()
            }
            Object::Service(mut service) => {
                service.meta.keep_only(&KEPT);
                replace(&mut self.services, key.clone(), Box::new(service), Touched::Service(key))
            }
            Object::EndpointSlice(slice) => self.insert_slice(key, slice),
            Object::ServiceCidr(cidr) => {
                replace(&mut self.service_cidrs, key.clone(), cidr, Touched::ServiceCidr(key))
            }
            Object::VirtualIp(vip) => {
                replace(&mut self.virtual_ips, key.clone(), vip, Touched::VirtualIp(key))
            }
        }
    }

    fn insert_pod(&mut self, key: ObjectKey, pod: Pod) -> Vec<Touched> {
        if self.pods.get(&key) == Some(&pod) {
            return Vec::new();
        }
        self.remove_pod(&key);
        if let Some(node) = &pod.node {
            link(&mut self.pods_on, node, &key);
        }
        self.pods.insert(key.clone(), pod);
        vec![Touched::Pod(key)]
    }

    fn remove_pod(&mut self, key: &ObjectKey) -> Option<Pod> {
        let pod = self.pods.remove(key)?;
        if let Some(node) = &pod.node {
            unlink(&mut self.pods_on, node, key);
        }
        Some(pod)
    }

    fn insert_slice(&mut self, key: ObjectKey, mut slice: EndpointSlice) -> Vec<Touched> {
        slice.meta.keep_only(&KEPT);
        if self.slices.get(&key).is_some_and(|have| **have == slice) {
            return Vec::new();
        }
        let mut touched = self.remove_slice(&key);
        if let Some(service) = slice.service.clone() {
            link(&mut self.slices_of, &service, &key);
            touched.push(Touched::Service(service));
        }
        self.slices.insert(key, Arc::new(slice));
        touched.dedup();
        touched
    }

    fn remove_slice(&mut self, key: &ObjectKey) -> Vec<Touched> {
        let Some(service) = self.slices.remove(key).and_then(|slice| slice.service.clone()) else {
            return Vec::new();
        };
        unlink(&mut self.slices_of, &service, key);
        vec![Touched::Service(service)]
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey) -> Vec<Touched> {
        let touched = |existed: bool, what: Touched| if existed { vec![what] } else { Vec::new() };
        match kind {
            Kind::Namespace => {
                self.namespaces.remove(&key.name);
                Vec::new()
            }
            Kind::Deployment => {
                self.deployments.remove(key);
                Vec::new()
            }
            Kind::Node => {
                touched(self.nodes.remove(&key.name).is_some(), Touched::Node(key.name.clone()))
            }
            Kind::Pod => touched(self.remove_pod(key).is_some(), Touched::Pod(key.clone())),
            Kind::Service => {
                touched(self.services.remove(key).is_some(), Touched::Service(key.clone()))
            }
            Kind::EndpointSlice => self.remove_slice(key),
            Kind::ServiceCidr => {
                touched(self.service_cidrs.remove(key).is_some(), Touched::ServiceCidr(key.clone()))
            }
            Kind::VirtualIp => {
                touched(self.virtual_ips.remove(key).is_some(), Touched::VirtualIp(key.clone()))
            }
        }
    }
}

fn replace<K: Ord, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    touched: Touched,
) -> Vec<Touched> {
    if map.get(&key) == Some(&value) {
        return Vec::new();
    }
    map.insert(key, value);
    vec![touched]
}

/// An owner's keys, in order.
type Index<K> = BTreeMap<K, Vec<ObjectKey>>;

fn link<K: Ord + Clone>(index: &mut Index<K>, owner: &K, key: &ObjectKey) {
    let keys = index.entry(owner.clone()).or_default();
    if let Err(place) = keys.binary_search(key) {
        keys.reserve_exact(1);
        keys.insert(place, key.clone());
    }
}

fn unlink<K: Ord>(index: &mut Index<K>, owner: &K, key: &ObjectKey) {
    let Some(keys) = index.get_mut(owner) else { return };
    if let Ok(place) = keys.binary_search(key) {
        keys.remove(place);
    }
    if keys.is_empty() {
        index.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: serde_json::Value) -> Object {
        Object::parse(&value).unwrap()
    }

    fn slice(name: &str, service: &str, address: &str) -> Object {
        object(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "ports": [{"port": 80}], "endpoints": [{"addresses": [address]}],
        }))
    }

    #[test]
    fn a_slice_touches_its_service_and_when_moved_both() {
        let mut world = World::default();
        let service = |name| Touched::Service(ObjectKey::new("default", name));
        let applied = |object| Change::Applied(Box::new(object));
        assert_eq!(world.apply(applied(slice("s", "a", "10.0.0.1"))), [service("a")]);
        assert_eq!(world.apply(applied(slice("s", "a", "10.0.0.1"))), []);
        assert_eq!(world.apply(applied(slice("s", "b", "10.0.0.1"))), [service("a"), service("b")]);
        assert_eq!(world.slices_of(&ObjectKey::new("default", "a")).count(), 0);
        let key = ObjectKey::new("default", "s");
        assert_eq!(world.apply(Change::Removed(Kind::EndpointSlice, key)), [service("b")]);
        assert_eq!(world, World::default());
    }

    #[test]
    fn what_the_network_does_not_depend_on_touches_nothing() {
        let service = |labels: serde_json::Value, annotations: serde_json::Value| {
            let value = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "a", "labels": labels, "annotations": annotations},
                "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
            });
            Change::Applied(Box::new(object(value)))
        };
        let touched = [Touched::Service(ObjectKey::new("default", "a"))];
        let mut world = World::default();
        assert_eq!(world.apply(service(json!({"team": "x"}), json!({}))), touched);
        assert_eq!(world.apply(service(json!({"team": "y"}), json!({"note": "z"}))), []);
        assert_eq!(
            world.apply(service(json!({}), json!({"podway.io/lb-algorithm": "mh"}))),
            touched
        );
        assert_eq!(world.apply(service(json!({Service::PROXY_NAME: "other"}), json!({}))), touched);
    }

    #[test]
    fn a_pod_is_found_by_node_and_address_until_it_is_over() {
        let pod = |phase: &str| {
            object(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
                "status": {"phase": phase, "podIP": "10.244.0.5"},
            }))
        };
        let address = "10.244.0.5".parse().unwrap();
        let mut world = World::from_objects([pod("Running")]);
        assert_eq!(world.pods_on("n").count(), 1);
        assert!(world.pod_with_address(address).is_some());
        world.apply(Change::Applied(Box::new(pod("Succeeded"))));
        assert!(world.pod_with_address(address).is_none());
        world.apply(Change::Removed(Kind::Pod, ObjectKey::new("default", "p")));
        assert_eq!(world, World::default());
    }
}
