//! A small kubelet: runs the pods of one node.
//!
//! *Here*: following the pods of a node ([`run`]), their sandboxes, containers, probes and status, the node's Lease.
//! *Not here*: choosing nodes (crate `controllers`), what a pod's network is made of (crate `cni`).
//! *Start at* [`run`], then `worker`.
//!
//! Containers are no images but programs of this machine, or the built-in server ([`crate::echo`]). They outlive the
//! kubelet: one that is killed and started again takes them over from its records.

mod clock;
mod console;
mod container;
mod environment;
mod error;
mod farewell;
mod machine;
pub(crate) mod marks;
mod names;
mod node;
mod places;
mod plugins;
mod probe;
mod prober;
mod publish;
mod record;
mod remark;
mod restart;
mod sandbox;
mod spec;
mod status;
pub(crate) mod volumes;
mod worker;

pub use container::ECHO;
pub use error::Error;
pub(crate) use machine::ARCHITECTURE;

use crate::image::Images;
use crate::layout;
use client::event::Recorder;
use client::{Client, Kind, Watch, Watcher, event, watch_kinds};
use environment::Services;
use model::{Object, Service};
use node::NetworkDirectory;
use plugins::Network;
use record::{Record, Shelf};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use worker::{Event, Shared, Worker};

/// What the kubelet of a node needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub node: String,
    /// What it keeps.
    pub root: PathBuf,
    /// Where the agent writes the network configuration.
    pub cni_conf: PathBuf,
    /// Where network plug-ins other than Podway are.
    pub cni_path: Vec<PathBuf>,
    /// Logs of pods: `NAMESPACE_POD/CONTAINER.log`.
    pub pod_logs: PathBuf,
    pub images: Images,
    /// How often the Lease is renewed.
    pub renewal: Duration,
}

impl Config {
    /// The defaults of a lab's node.
    #[must_use]
    pub fn new(node: &str, root: &Path) -> Config {
        Config {
            node: node.to_owned(),
            root: root.to_owned(),
            cni_conf: root.join("cni"),
            cni_path: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            pod_logs: layout::node_logs(node).join("pods"),
            images: Images::default(),
            renewal: Duration::from_millis(300),
        }
    }
}

/// Runs the pods of a node until `stop`; they go on without it.
pub async fn run(
    config: Config,
    client: Client,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let shelf = Shelf::open(&config.root)?;
    let records = shelf.read()?;
    let (directory, network) = NetworkDirectory::open(&config)?;
    collect_garbage(&network, &records).await;
    let (node, node_follower) = watch::channel(None);
    let (services, told) = watch::channel(Arc::default());
    let mut recorder = Recorder::new(client.clone(), Some(config.node.clone()));
    let (remarks, mut heard) = mpsc::unbounded_channel::<event::Event>();
    let shared = Arc::new(Shared { config, client, shelf, network, services: told, remarks });
    let watcher = watch_kinds(&shared.client, &watches(&shared.config.node));
    let kubelet = Kubelet {
        shared: Arc::clone(&shared),
        node,
        services,
        knows_services: false,
        host_ips: Vec::new(),
        pods: BTreeMap::new(),
        records,
        early: Vec::new(),
        workers: JoinSet::new(),
    };
    tokio::select! {
        failed = directory.follow() => failed,
        () = node::keep_lease(Arc::clone(&shared)) => Ok(()),
        () = node::keep_ready(shared, node_follower) => Ok(()),
        () = kubelet.follow(watcher) => Ok(()),
        () = async { while let Some(event) = heard.recv().await { recorder.tell(event) } } => Ok(()),
        () = stop => Ok(()),
    }
}

/// Tells the plug-ins what a kubelet before this one left, before anything new is made: all else is garbage.
async fn collect_garbage(network: &Network, records: &BTreeMap<String, Record>) {
    let sandboxes = records.values().filter_map(|record| record.sandbox.as_ref());
    let alive: Vec<_> = sandboxes.map(|it| it.container.clone()).collect();
    let network = network.borrow().clone();
    if let Some(network) = network
        && let Err(error) = network.gc(&alive).await
    {
        tracing::warn!(%error, "garbage not collected");
    }
}

fn watches(node: &str) -> [Watch; 3] {
    let with = |kind: Kind, fields: String| Watch { fields: Some(fields), ..kind.into() };
    [
        with(Kind::NODE, format!("metadata.name={node}")),
        with(Kind::POD, format!("spec.nodeName={node}")),
        Kind::SERVICE.into(),
    ]
}

/// The pods of the node, each with a task of its own.
struct Kubelet {
    shared: Arc<Shared>,
    /// The node as the API has it.
    node: watch::Sender<Option<Value>>,
    /// What containers are told of when they start.
    services: watch::Sender<Arc<Services>>,
    knows_services: bool,
    host_ips: Vec<IpAddr>,
    /// By uid.
    pods: BTreeMap<String, mpsc::UnboundedSender<Event>>,
    /// What a kubelet before this one left, by uid, until the pods begin.
    records: BTreeMap<String, Record>,
    /// Pods that came before what they are told of: the node's address, and Services.
    early: Vec<Value>,
    workers: JoinSet<String>,
}

impl Kubelet {
    async fn follow(mut self, mut watcher: Watcher) {
        self.resume();
        loop {
            tokio::select! {
                event = watcher.next() => self.note(event),
                Some(ended) = self.workers.join_next() => {
                    // A worker that failed has left its record: the next kubelet goes on with it.
                    match ended {
                        Ok(uid) => drop(self.pods.remove(&uid)),
                        Err(error) => tracing::error!(%error, "a pod's task failed"),
                    }
                }
            }
        }
    }

    /// Pods that are known go on at once, whether or not the API answers.
    fn resume(&mut self) {
        for (uid, record) in std::mem::take(&mut self.records) {
            self.begin(uid, record);
        }
    }

    fn note(&mut self, event: client::Event) {
        match event {
            client::Event::Applied { kind: Kind::NODE, object } => self.note_node(object),
            client::Event::Applied { kind: Kind::SERVICE, object } => {
                self.services.send_modify(|known| note_service(Arc::make_mut(known), &object));
            }
            client::Event::Deleted { kind: Kind::SERVICE, object } => {
                let gone = parse_service(&object).map(|service| service.meta.key);
                self.services.send_modify(|known| {
                    gone.map(|key| Arc::make_mut(known).remove(&key));
                });
            }
            client::Event::Restarted { kind: Kind::SERVICE, objects } => {
                let mut all = Services::new();
                objects.iter().for_each(|object| note_service(&mut all, object));
                self.services.send_replace(Arc::new(all));
                self.knows_services = true;
                self.begin_early();
            }
            client::Event::Applied { object, .. } => self.note_pod(object),
            client::Event::Deleted { kind: Kind::POD, object } => self.note_gone(&uid(&object)),
            client::Event::Restarted { kind: Kind::NODE, objects } => {
                objects.into_iter().for_each(|object| self.note_node(object));
            }
            client::Event::Restarted { objects, .. } => self.note_all(objects),
            client::Event::Deleted { .. }
            | client::Event::Listing { .. }
            | client::Event::Listed { .. }
            | client::Event::Synced => {}
        }
    }

    fn note_node(&mut self, object: Value) {
        if name(&object) != Some(&self.shared.config.node) {
            return;
        }
        self.host_ips = internal_ips(&object);
        self.node.send_replace(Some(object));
        self.begin_early();
    }

    fn begin_early(&mut self) {
        if self.can_begin() {
            std::mem::take(&mut self.early).into_iter().for_each(|pod| self.note_pod(pod));
        }
    }

    fn can_begin(&self) -> bool {
        !self.host_ips.is_empty() && self.knows_services
    }

    fn note_all(&mut self, objects: Vec<Value>) {
        self.early.clear();
        let listed: BTreeSet<_> = objects.iter().map(uid).collect();
        let missing: Vec<_> =
            self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        missing.iter().for_each(|uid| self.note_gone(uid));
        objects.into_iter().for_each(|object| self.note_pod(object));
    }

    fn note_gone(&mut self, gone: &str) {
        self.early.retain(|pod| uid(pod) != gone);
        if let Some(pod) = self.pods.get(gone) {
            // A worker that has ended already needs no word.
            pod.send(Event::Gone).ok();
        }
    }

    fn note_pod(&mut self, object: Value) {
        let assigned = object.pointer("/spec/nodeName").and_then(Value::as_str);
        if assigned != Some(&self.shared.config.node) {
            return;
        }
        let uid = uid(&object);
        match self.pods.get(&uid) {
            // A worker that has ended already needs no word.
            Some(pod) => drop(pod.send(Event::Updated(object))),
            None if !self.can_begin() => self.early.push(object),
            None => {
                let record = Record::new(object, clock::now(), self.host_ips.clone());
                self.begin(uid, record);
            }
        }
    }

    fn begin(&mut self, uid: String, record: Record) {
        match Worker::new(&self.shared, record) {
            Ok((worker, sender)) => {
                self.pods.insert(uid.clone(), sender);
                self.workers.spawn(async move {
                    worker.run().await;
                    uid
                });
            }
            Err(error) => tracing::error!(uid, %error, "no pod that can be run"),
        }
    }
}

fn note_service(services: &mut Services, object: &Value) {
    services.extend(parse_service(object).map(|service| (service.meta.key.clone(), service)));
}

fn parse_service(object: &Value) -> Option<Service> {
    match Object::parse(object) {
        Ok(Object::Service(service)) => Some(service),
        _ => None,
    }
}

fn uid(object: &Value) -> String {
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    uid.unwrap_or_default().to_owned()
}

fn name(object: &Value) -> Option<&str> {
    object.pointer("/metadata/name")?.as_str()
}

fn internal_ips(node: &Value) -> Vec<IpAddr> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let internal = addresses.into_iter().flatten().filter(|it| it["type"] == "InternalIP");
    internal.filter_map(|it| it["address"].as_str()?.parse().ok()).collect()
}
