//! The cluster that the scenarios ask about.

use explain::{Environment, Settings};
use model::{Object, Proxy, World};
use serde_json::{Value, json};

/// Three nodes, `web` on all of them, Services in all states of health, a virtual IP.
pub(crate) struct Cluster {
    pub(crate) objects: Vec<Value>,
    pub(crate) environment: Environment,
    pub(crate) kube_proxy: Option<Proxy>,
}

impl Cluster {
    pub(crate) fn healthy() -> Self {
        let mut objects = Vec::new();
        for index in 0..3 {
            objects.push(node(index));
        }
        for (name, index) in [("web-a", 0), ("web-b", 1), ("web-c", 2)] {
            objects.push(pod(name, index, 2, "web", true));
        }
        objects.push(pod("shell", 0, 9, "shell", true));
        objects.push(service("web", 10, json!({"app": "web"}), Some(30000)));
        objects.push(slice("web", &[("web-a", 0, 2), ("web-b", 1, 2), ("web-c", 2, 2)]));
        objects.push(virtual_ip());
        Cluster { objects, environment: Environment::Lab, kube_proxy: None }
    }

    pub(crate) fn with(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    /// Changes the object of this kind and name.
    pub(crate) fn change(
        mut self,
        kind: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        let wanted =
            |object: &&mut Value| object["kind"] == kind && object["metadata"]["name"] == name;
        change(self.objects.iter_mut().find(wanted).expect("the object to change is there"));
        self
    }

    /// The node's power is cut, and the control plane has noticed.
    pub(crate) fn node_down(self, name: &str) -> Self {
        self.change("Node", name, |node| {
            node["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        })
    }

    /// The node's agent has announced these settings beside its pod network.
    pub(crate) fn serving(self, name: &str, settings: Value) -> Self {
        let mut all = json!({"clusterCIDR": "10.244.0.0/16", "nodePortAddresses": ["primary"]});
        let members = all.as_object_mut().expect("it is an object");
        members.extend(settings.as_object().cloned().unwrap_or_default());
        self.change("Node", name, |node| {
            node["metadata"]["annotations"][Proxy::ANNOTATION] = all.to_string().into();
        })
    }

    pub(crate) fn kube_proxy(self, configuration: Value) -> Self {
        Cluster { kube_proxy: Some(Proxy::kube_proxy(&configuration).unwrap()), ..self }
    }

    pub(crate) fn world(&self) -> World {
        let parsed = self.objects.iter().map(|object| Object::parse(object).unwrap());
        World::from_objects(parsed)
    }

    pub(crate) fn settings(&self, world: &World) -> Settings {
        let mut settings = Settings::of(world, self.environment);
        settings.client = Some("10.1.1.2".parse().unwrap());
        settings.kube_proxy.clone_from(&self.kube_proxy);
        settings.api_server = Some("10.1.1.1:6443".parse().unwrap());
        settings
    }
}

fn node(index: u8) -> Value {
    let address = format!("10.1.1.{}", 110 + index);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{}", index + 1), "annotations": {
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:00:0{index}"}}"#),
            "flannel.alpha.coreos.com/public-ip": address,
        }},
        "spec": {"podCIDR": format!("10.244.{index}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": address}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

pub(crate) fn pod(name: &str, node: u8, address: u8, app: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": format!("node-{}", node + 1), "containers": [{
            "name": app, "image": app,
            "ports": [{"name": "http", "containerPort": 9376}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 9376}},
        }]},
        "status": {"phase": "Running", "podIP": format!("10.244.{node}.{address}"),
                   "conditions": [{"type": "Ready", "status": ready}]},
    })
}

pub(crate) fn service(name: &str, address: u8, selector: Value, node_port: Option<u16>) -> Value {
    let kind = if node_port.is_some() { "NodePort" } else { "ClusterIP" };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": kind, "clusterIP": format!("10.96.0.{address}"), "selector": selector,
                 "ports": [{"name": "http", "port": 80, "targetPort": 9376, "nodePort": node_port}]},
    })
}

/// A slice of ready pods: name, node, last octet.
pub(crate) fn slice(service: &str, pods: &[(&str, u8, u8)]) -> Value {
    let endpoint = |(name, node, address): &(&str, u8, u8)| {
        json!({"addresses": [format!("10.244.{node}.{address}")],
               "nodeName": format!("node-{}", node + 1),
               "targetRef": {"kind": "Pod", "namespace": "default", "name": name}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9376}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn virtual_ip() -> Value {
    json!({
        "apiVersion": "podway.io/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "edge"},
        "spec": {
            "addresses": ["10.1.1.200"],
            "vrrp": {"virtualRouterId": 51},
            "listeners": [{"name": "web", "port": 30000, "backends": {"nodes": {"port": 30000}}}],
        },
        "status": {"node": "node-1"},
    })
}
