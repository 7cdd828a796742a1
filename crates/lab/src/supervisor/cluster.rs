//! The cluster inside a lab: its API, its controllers, its nodes.

use super::api::{self, Api};
use super::containers;
use super::events::{Ends, Event, Events};
use super::load::{Load, load};
use super::node::{self, Node};
use super::programmed;
use super::readiness::{self, Readiness};
use crate::message::{NodeStatus, Order, Place, PodStatus, Status, Summary, VirtualIpStatus};
use crate::plan::Plan;
use crate::{Error, Manifest, Result, Target, layout};
use apiserver::Disk;
use apiserver::containers::ContainerRequest;
use client::{Client, Kind, Watch, Watcher, watch_kinds};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;

/// For how long controllers wait for nodes that do not come up.
const PATIENCE_WITH_NODES: Duration = Duration::from_secs(2);

pub(super) struct Cluster {
    name: String,
    plan: Plan,
    server: String,
    kubeconfig: String,
    client: Client,
    nodes: Vec<Node>,
    /// The API has the objects of a lab before.
    resumes: bool,
    /// Objects that the lab does without, a sentence each.
    left_out: Vec<String>,
}

impl Cluster {
    /// Starts the API on the gateway's address and on `outside`, a listener on the machine's loopback.
    pub(super) async fn start(
        order: &Order,
        outside: TcpListener,
        disk: Option<Disk>,
        events: Events,
    ) -> Result<Cluster> {
        let (name, plan) = (order.name.clone(), order.plan.clone());
        let Api { url: server, client, kubeconfig } =
            api::serve(&name, &plan, outside, disk, events).await?;
        let text = serde_json::json!(order.images).to_string();
        std::fs::write(layout::IMAGES, text).map_err(Error::file("write", layout::IMAGES))?;
        let nodes = node::all(&plan);
        let (resumes, left_out) = (order.resumes, Vec::new());
        Ok(Cluster { name, plan, server, kubeconfig, client, nodes, resumes, left_out })
    }

    /// How clients on the machine reach the API.
    pub(super) fn kubeconfig(&self) -> String {
        self.kubeconfig.clone()
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Creates the objects; the first that the API rejects ends it. In a lab that goes on, those that are there stay
    /// as they are.
    pub(super) async fn load(&mut self, manifests: &[Manifest]) -> Result<()> {
        let Load { objects, warnings } = load(manifests, &self.plan)?;
        self.left_out = warnings;
        for (kind, manifest) in objects {
            let rejected = |source| {
                let (origin, object) = (manifest.source.clone(), manifest.object());
                Error::Rejected { origin, object, answer: Box::new(source) }
            };
            match client::create_of(&self.client, kind, &manifest.value).await {
                Err(client::Error::AlreadyExists { .. }) if self.resumes => continue,
                // Dumps of clusters have them too: what they say of theirs holds.
                Err(client::Error::AlreadyExists { .. }) if is_everywhere(&manifest) => {
                    client::replace(&self.client, &manifest.value).await.map_err(rejected)?;
                }
                created => drop(created.map_err(rejected)?),
            }
            if let Some(status) = assigned(&manifest) {
                let (namespace, name) =
                    (manifest.text("/metadata/namespace"), manifest.text("/metadata/name"));
                let namespace = Some(namespace).filter(|it| !it.is_empty()).unwrap_or("default");
                client::patch_status(&self.client, Kind::SERVICE, Some(namespace), name, &status)
                    .await
                    .map_err(rejected)?;
            }
        }
        Ok(())
    }

    /// What the API says of nodes and pods of a lab before is over: none of them runs.
    pub(super) async fn forget_the_past(&self) -> Result<()> {
        if !self.resumes {
            return Ok(());
        }
        for kind in [Kind::NODE, Kind::POD] {
            for object in self.list(kind, None).await? {
                let Some(patch) = past(&object) else { continue };
                let name = text(&object, "/metadata/name").unwrap_or_default();
                let namespace = text(&object, "/metadata/namespace");
                client::patch_status(&self.client, kind, namespace, name, &patch).await?;
            }
        }
        Ok(())
    }

    /// Starts every node, and the controllers as soon as all nodes can take pods: which of them comes up first is
    /// chance, and where pods are shall not be.
    pub(super) fn switch_on(&mut self) -> Result<()> {
        let nodes = self.nodes_ready();
        api::control(&self.plan, self.client.clone(), async move {
            tokio::time::timeout(PATIENCE_WITH_NODES, nodes).await.ok();
        });
        let (told, nodes) = (self.told(), &mut self.nodes);
        nodes.iter_mut().try_for_each(|node| node.switch_on(&told))
    }

    /// Ends when every node is ready.
    fn nodes_ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let names = self.nodes.iter().map(|node| node.planned.name.clone());
        let mut readiness = Readiness::of_nodes(names);
        let mut watcher = watch_kinds(&self.client, &[Watch::from(Kind::NODE)]);
        async move {
            while !readiness.is_complete() {
                readiness.apply(watcher.next().await);
            }
        }
    }

    /// Says once how it went: when all is ready, or when patience is at its end.
    pub(super) fn await_readiness(&self, patience: Duration, events: Events) {
        let names: Vec<_> = self.nodes.iter().map(|node| node.planned.name.clone()).collect();
        let mut readiness = Readiness::of_nodes(names.clone());
        let client = self.client.clone();
        let mut watcher = watch_kinds(&self.client, &readiness::KINDS.map(Watch::from));
        tokio::spawn(async move {
            let follow = async {
                follow(&mut watcher, &mut readiness, &events).await;
                programmed::wait(&client, &names).await;
            };
            // Patience at its end is no failure: what is missing is said below.
            tokio::time::timeout(patience, follow).await.ok();
            let (pods, missing) = (readiness.pods(), readiness.missing());
            events.send(Event::Ready { pods, missing }).ok();
        });
    }

    pub(super) fn summary(&self, pods: usize, missing: Vec<String>) -> Summary {
        let (name, server, plan) = (self.name.clone(), self.server.clone(), self.plan.clone());
        Summary { name, server, plan, pods, left_out: self.left_out.clone(), missing }
    }

    pub(super) async fn status(&self) -> Result<Status> {
        let objects = self.list(Kind::NODE, None).await?;
        let pods = self.list(Kind::POD, None).await?;
        let virtual_ips = self.list(Kind::VIRTUAL_IP, None).await?;
        let node = |node: &Node| NodeStatus {
            name: node.planned.name.clone(),
            addresses: node.planned.addresses(self.plan.families),
            pod_cidrs: node.planned.pod_cidrs(self.plan.families),
            up: node.init().is_some(),
            ready: objects.iter().any(|it| {
                text(it, "/metadata/name") == Some(&node.planned.name) && readiness::is_ready(it)
            }),
        };
        Ok(Status {
            name: self.name.clone(),
            server: self.server.clone(),
            gateway: self.plan.gateway,
            client: self.plan.client,
            underlay: self.plan.underlay,
            pod_cidrs: self.plan.pod_cidrs(),
            service_cidrs: self.plan.service_cidrs(),
            nodes: self.nodes.iter().map(node).collect(),
            pods: pods.iter().map(pod_status).collect(),
            virtual_ips: virtual_ips.iter().map(|it| self.virtual_ip(it)).collect(),
        })
    }

    /// A node without power cannot say any more that it holds nothing.
    fn virtual_ip(&self, object: &Value) -> VirtualIpStatus {
        let mut status = virtual_ip_status(object);
        status.owner.take_if(|owner| self.node(owner).and_then(Node::init).is_none());
        status
    }

    /// Where a target's network namespace is, and what else one needs to go there.
    pub(super) async fn locate(&self, target: &Target) -> Result<Place> {
        let place = |netns, node: Option<&Node>| Place {
            netns,
            init: node.and_then(Node::init),
            node: node.map(|node| node.planned.name.clone()),
        };
        match target {
            Target::Underlay => Ok(place(None, None)),
            Target::Client => Ok(place(Some(layout::client_netns()), None)),
            Target::Node(name) => {
                let node = self.node(name).ok_or_else(|| self.no(target))?;
                node.init().ok_or_else(|| Error::Down { target: target.clone() })?;
                Ok(place(Some(layout::node_netns(name)), Some(node)))
            }
            Target::Pod { namespace, name } => {
                let pod = client::get(&self.client, Kind::POD, Some(namespace), name).await?;
                let pod = pod.ok_or_else(|| self.no(target))?;
                let node = text(&pod, "/spec/nodeName").and_then(|name| self.node(name));
                let netns = node.and_then(|node| pod_netns(&pod, &node.planned.name));
                match (netns, node) {
                    (Some(netns), Some(node)) if node.init().is_some() && netns.exists() => {
                        Ok(place(Some(netns), Some(node)))
                    }
                    _ => Err(Error::Down { target: target.clone() }),
                }
            }
        }
    }

    /// The node is gone when this returns, and with it its pods.
    pub(super) async fn cut_power(&mut self, name: &str) -> Result<()> {
        let target = Target::Node(name.to_owned());
        let missing = self.no(&target);
        let node = self.nodes.iter_mut().find(|node| node.planned.name == name).ok_or(missing)?;
        if node.init().is_none() {
            return Err(Error::Down { target });
        }
        tokio::task::block_in_place(|| node.cut_power())?;
        self.give_up_pods(name).await
    }

    /// Brings back a node whose power is off.
    pub(super) fn restart(&mut self, name: &str) -> Result<()> {
        let target = Target::Node(name.to_owned());
        let (missing, told) = (self.no(&target), self.told());
        let node = self.nodes.iter_mut().find(|node| node.planned.name == name).ok_or(missing)?;
        if node.init().is_some() {
            return Err(Error::Up { target });
        }
        tokio::task::block_in_place(|| {
            node.plug(&self.plan)?;
            node.switch_on(&told)
        })
    }

    /// The agent of a node ends and starts with other arguments.
    pub(super) fn restart_agent(&mut self, name: &str, arguments: Vec<String>) -> Result<()> {
        let target = Target::Node(name.to_owned());
        let (missing, told) = (self.no(&target), self.told());
        let node = self.nodes.iter_mut().find(|node| node.planned.name == name).ok_or(missing)?;
        node.restart_agent(&told, arguments)
    }

    /// Logs and commands are served beside everything else, from here on without the cluster.
    pub(super) fn serve_container(&self, request: ContainerRequest, ends: &Ends) {
        let init = self.node(&request.container().node).and_then(Node::init);
        tokio::spawn(containers::serve(request, init, ends.clone()));
    }

    /// A node whose first process dies by itself has lost its power too.
    pub(super) async fn child_ended(&mut self, pid: u32) -> Result<()> {
        let node = self.nodes.iter().find(|node| node.init() == Some(pid));
        let Some(name) = node.map(|node| node.planned.name.clone()) else { return Ok(()) };
        tracing::warn!(node = name, "the first process of a node has ended");
        self.cut_power(&name).await
    }

    /// Without processes and without a name, the network namespaces of a node's pods end.
    async fn give_up_pods(&self, node: &str) -> Result<()> {
        for pod in self.list(Kind::POD, Some(format!("spec.nodeName={node}"))).await? {
            if let Some(uid) = text(&pod, "/metadata/uid") {
                kernel::namespace::unpin(&layout::pod_netns(uid))?;
            }
        }
        Ok(())
    }

    async fn list(&self, kind: Kind, fields: Option<String>) -> Result<Vec<Value>> {
        Ok(client::list(&self.client, &Watch { fields, ..Watch::from(kind) }).await?)
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.planned.name == name)
    }

    fn no(&self, target: &Target) -> Error {
        Error::NoTarget { lab: self.name.clone(), target: target.clone() }
    }

    fn told(&self) -> node::Cluster {
        node::Cluster {
            lab: self.name.clone(),
            cluster_cidr: join(&self.plan.pod_cidrs()),
            agent_arguments: self.plan.agent_arguments.clone(),
        }
    }
}

/// What every API has of itself.
fn is_everywhere(manifest: &Manifest) -> bool {
    let label = "/metadata/labels/kubernetes.io~1bootstrapping";
    let name = manifest.text("/metadata/name");
    let account = manifest.is("ServiceAccount") && name == "default";
    let class = manifest.is("PriorityClass") && name.starts_with("system-");
    account || class || !manifest.text(label).is_empty()
}

/// Takes away what a status says of something that ran; none: it says what stays true.
fn past(object: &Value) -> Option<Value> {
    let phase = text(object, "/status/phase");
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let lasting = ["addresses", "capacity", "allocatable", "nodeInfo", "qosClass"];
    let fields = object["status"].as_object()?.keys();
    let fields = fields.filter(|field| !lasting.contains(&field.as_str()));
    let mut status: Value = fields.map(|field| (field.clone(), Value::Null)).collect();
    if phase.is_some() {
        status["phase"] = "Pending".into();
    }
    Some(json!({"status": status}))
}

/// What a cloud gave a Service: nobody does so in a lab, so what the manifest says is taken for it.
fn assigned(manifest: &Manifest) -> Option<Value> {
    let ingress = manifest.value.pointer("/status/loadBalancer/ingress")?;
    let balanced = manifest.is("Service") && manifest.text("/spec/type") == "LoadBalancer";
    balanced.then(|| json!({"status": {"loadBalancer": {"ingress": ingress}}}))
}

/// Hears what becomes ready until all is, and says how far it is.
async fn follow(watcher: &mut Watcher, readiness: &mut Readiness, events: &Events) {
    let mut outline = String::new();
    while !readiness.is_complete() {
        readiness.apply(watcher.next().await);
        let now = readiness.outline();
        if now != outline {
            events.send(Event::Step(now.clone())).ok();
            outline = now;
        }
    }
}

/// A pod on the host network is in its node's namespace.
fn pod_netns(pod: &Value, node: &str) -> Option<std::path::PathBuf> {
    match pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) {
        Some(true) => Some(layout::node_netns(node)),
        _ => text(pod, "/metadata/uid").map(layout::pod_netns),
    }
}

fn pod_status(pod: &Value) -> PodStatus {
    let field = |pointer| text(pod, pointer).map(str::to_owned);
    PodStatus {
        namespace: field("/metadata/namespace").unwrap_or_default(),
        name: field("/metadata/name").unwrap_or_default(),
        node: field("/spec/nodeName"),
        address: field("/status/podIP"),
        phase: field("/status/phase").unwrap_or_else(|| "Pending".to_owned()),
        ready: readiness::is_ready(pod),
    }
}

fn virtual_ip_status(virtual_ip: &Value) -> VirtualIpStatus {
    let listed = virtual_ip.pointer("/spec/addresses").and_then(Value::as_array);
    let addresses = listed.into_iter().flatten().filter_map(Value::as_str);
    let field = |pointer| text(virtual_ip, pointer).map(str::to_owned);
    VirtualIpStatus {
        name: field("/metadata/name").unwrap_or_default(),
        addresses: addresses.map(str::to_owned).collect(),
        owner: field("/status/node").filter(|node| !node.is_empty()),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// With commas between.
fn join(nets: &[IpNet]) -> String {
    nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",")
}
