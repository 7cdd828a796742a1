//! Manifests as the cluster that they would become: everything scheduled, running and ready.
//!
//! What a dump of a cluster holds already is left as it is; only what is missing is made up, the same way
//! every time.

use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Fills in what controllers, agents and kubelets would.
///
/// Nodes must have their addresses and podCIDRs; Services without a cluster IP get one of `service_cidr`.
pub fn imagine(objects: Vec<Value>, service_cidr: IpNet) -> Vec<Value> {
    let mut objects = objects;
    let made: Vec<Value> = objects
        .iter()
        .filter(|it| is(it, "Deployment") && !objects.iter().any(|pod| is_of(pod, it)))
        .flat_map(pods_of)
        .collect();
    objects.extend(made);
    announce_nodes(&mut objects);
    schedule(&mut objects);
    run(&mut objects);
    allocate(&mut objects, service_cidr);
    let slices = slices(&objects);
    objects.extend(slices);
    objects
}

fn is(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().filter(|it| !it.is_empty()).unwrap_or("default")
}

/// The pods that a Deployment's template makes, numbered.
fn pods_of(deployment: &Value) -> Vec<Value> {
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let template = &deployment["spec"]["template"];
    let pod = |number: u64| {
        let mut metadata = template["metadata"].as_object().cloned().unwrap_or_default();
        metadata.insert("name".to_owned(), format!("{}-{number}", name(deployment)).into());
        metadata.insert("namespace".to_owned(), namespace(deployment).into());
        let set = format!("{}-imagined", name(deployment));
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set});
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    };
    (1..=replicas).map(pod).collect()
}

/// Whether the object is a pod that some ReplicaSet of the Deployment made.
fn is_of(pod: &Value, deployment: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let mut sets = owners.filter(|owner| owner["kind"] == "ReplicaSet");
    let of = |set: &str| set.rsplit_once('-').is_some_and(|(stem, _)| stem == name(deployment));
    is(pod, "Pod")
        && namespace(pod) == namespace(deployment)
        && sets.any(|set| set["name"].as_str().is_some_and(of))
}

/// What an agent on each node would write about its end of the tunnel.
fn announce_nodes(objects: &mut [Value]) {
    let nodes = objects.iter_mut().filter(|it| is(it, "Node"));
    for (number, node) in nodes.enumerate() {
        let backend = "flannel.alpha.coreos.com/backend-type";
        if node["metadata"]["annotations"].get(backend).is_some() {
            continue;
        }
        let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let internal = addresses.iter().find(|it| it["type"] == "InternalIP");
        let Some(address) = internal.map(|it| it["address"].clone()) else { continue };
        let [.., high, low] = number.to_be_bytes();
        let data = format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:{high:02x}:{low:02x}"}}"#);
        let annotations = &mut node["metadata"]["annotations"];
        annotations[backend] = "vxlan".into();
        annotations["flannel.alpha.coreos.com/backend-data"] = data.into();
        annotations["flannel.alpha.coreos.com/public-ip"] = address;
    }
}

/// Each pod without a node goes to the one with the fewest, of equals to the first.
fn schedule(objects: &mut [Value]) {
    let nodes: Vec<(String, Value)> = objects
        .iter()
        .filter(|it| is(it, "Node"))
        .map(|node| (name(node).to_owned(), node["metadata"]["labels"].clone()))
        .collect();
    let mut load: BTreeMap<String, usize> = BTreeMap::new();
    let placed = objects.iter().filter(|it| is(it, "Pod"));
    for node in placed.filter_map(|pod| pod["spec"]["nodeName"].as_str()) {
        *load.entry(node.to_owned()).or_default() += 1;
    }
    for pod in objects.iter_mut().filter(|it| is(it, "Pod") && it["spec"]["nodeName"].is_null()) {
        let selector = pod["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
        let fits =
            |labels: &Value| selector.iter().all(|(label, value)| labels.get(label) == Some(value));
        let fitting = nodes.iter().filter(|(_, labels)| fits(labels)).map(|(node, _)| node);
        let Some(node) = fitting.min_by_key(|node| load.get(*node).copied().unwrap_or(0)) else {
            continue;
        };
        pod["spec"]["nodeName"] = node.clone().into();
        *load.entry(node.clone()).or_default() += 1;
    }
}

/// Pods that have a node but no address yet get one, run and are ready.
fn run(objects: &mut [Value]) {
    let mut subnets = BTreeMap::new();
    for node in objects.iter().filter(|it| is(it, "Node")) {
        let cidr = node["spec"]["podCIDR"].as_str().and_then(|text| text.parse::<IpNet>().ok());
        subnets.extend(cidr.map(|cidr| (name(node).to_owned(), cidr)));
    }
    let mut taken: BTreeSet<IpAddr> =
        objects.iter().filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok()).collect();
    for pod in objects.iter_mut().filter(|it| is(it, "Pod") && it["status"]["phase"].is_null()) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let Some(subnet) = subnets.get(node) else { continue };
        // The first host address is the node's gateway.
        let Some(address) = free(*subnet, 1, &mut taken) else { continue };
        pod["status"] = json!({
            "phase": "Running",
            "podIP": address.to_string(),
            "conditions": [{"type": "Ready", "status": "True"}],
        });
    }
}

/// Cluster IPs, and node ports where the type asks for them.
fn allocate(objects: &mut [Value], service_cidr: IpNet) {
    let services = || |it: &&mut Value| is(it, "Service") && it["spec"]["type"] != "ExternalName";
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for service in objects.iter().filter(|it| is(it, "Service")) {
        taken.extend(
            service["spec"]["clusterIP"].as_str().and_then(|text| text.parse::<IpAddr>().ok()),
        );
        let listed = service["spec"]["ports"].as_array().into_iter().flatten();
        ports.extend(listed.filter_map(|port| port["nodePort"].as_u64()));
    }
    for service in objects.iter_mut().filter(services()) {
        if service["spec"]["clusterIP"].as_str().is_none_or(str::is_empty) {
            // The first one is the API server's own.
            let address = free(service_cidr, 1, &mut taken).map(|address| address.to_string());
            service["spec"]["clusterIP"] = address.into();
        }
        let external =
            ["NodePort", "LoadBalancer"].iter().any(|kind| service["spec"]["type"] == *kind);
        let listed = service["spec"]["ports"].as_array_mut().into_iter().flatten();
        for port in listed.filter(|port| external && port["nodePort"].is_null()) {
            let free = (30_000..=32_767).find(|port| !ports.contains(port));
            ports.extend(free);
            port["nodePort"] = free.into();
        }
    }
}

/// The lowest free host address above `skipped` others.
fn free(net: IpNet, skipped: usize, taken: &mut BTreeSet<IpAddr>) -> Option<IpAddr> {
    let address = net.hosts().skip(skipped).find(|address| !taken.contains(address))?;
    taken.insert(address);
    Some(address)
}

/// A slice of ready pods for every Service that selects some and has none.
fn slices(objects: &[Value]) -> Vec<Value> {
    let has_slice = |service: &Value| {
        objects.iter().filter(|it| is(it, "EndpointSlice")).any(|slice| {
            namespace(slice) == namespace(service)
                && slice["metadata"]["labels"]["kubernetes.io/service-name"] == name(service)
        })
    };
    let services =
        objects.iter().filter(|it| is(it, "Service") && it["spec"]["selector"].is_object());
    services
        .filter(|service| !has_slice(service))
        .flat_map(|service| slices_of(service, objects))
        .collect()
}

/// One slice for each set of port numbers: a named port may differ from pod to pod.
fn slices_of(service: &Value, objects: &[Value]) -> Vec<Value> {
    let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
    let selected = |pod: &&Value| {
        let labels = &pod["metadata"]["labels"];
        is(pod, "Pod")
            && namespace(pod) == namespace(service)
            && selector.iter().all(|(label, value)| labels.get(label) == Some(value))
    };
    let mut by_ports: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for pod in objects.iter().filter(selected) {
        let Some(endpoint) = endpoint(pod) else { continue };
        let listed = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports: Vec<Value> = listed.filter_map(|port| endpoint_port(port, pod)).collect();
        let key = json!(ports).to_string();
        by_ports.entry(key).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
    }
    let slice = |(number, (ports, endpoints)): (usize, (Vec<Value>, Vec<Value>))| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{}-{}", name(service), number + 1),
                "namespace": namespace(service),
                "labels": {"kubernetes.io/service-name": name(service)},
            },
            "ports": ports, "endpoints": endpoints,
        })
    };
    by_ports.into_values().enumerate().map(slice).collect()
}

fn endpoint(pod: &Value) -> Option<Value> {
    let address = pod["status"]["podIP"].as_str()?;
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.filter(|it| it["type"] == "Ready").any(|it| it["status"] == "True");
    Some(json!({
        "addresses": [address],
        "nodeName": pod["spec"]["nodeName"],
        "conditions": {"ready": ready},
        "targetRef": {"kind": "Pod", "namespace": namespace(pod), "name": name(pod)},
    }))
}

fn endpoint_port(port: &Value, pod: &Value) -> Option<Value> {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut declared = containers.flat_map(|it| it["ports"].as_array().into_iter().flatten());
    let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
    let number = match target.as_str() {
        Some(name) => declared.find(|it| {
            it["name"] == name && it["protocol"].as_str().unwrap_or("TCP") == protocol
        })?["containerPort"]
            .clone(),
        None => target.clone(),
    };
    Some(json!({"name": port["name"], "port": number, "protocol": protocol}))
}
