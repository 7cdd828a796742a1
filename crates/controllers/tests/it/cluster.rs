//! A cluster on loopback: the API, the controllers, nodes.

use crate::kubelet::kubelet;
use crate::real_server::{RealServer, audit};
use crate::view::View;
use apiserver::{ApiServer, Config};
use client::{Client, Kind, connect, create};
use controllers::{Settings, run};
use kube::core::Request;
use kube::core::params::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// Enough for a test machine that has much else to do.
const GRACE: Duration = Duration::from_secs(3);

enum Api {
    Embedded(SocketAddr, JoinHandle<()>),
    Real(RealServer),
}

/// Everything in it ends when it is dropped.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The same API with the rights of the controllers.
    pub(crate) theirs: Client,
    settings: Settings,
    api: Api,
    tasks: JoinSet<()>,
    controllers: AbortHandle,
    kubelets: BTreeMap<String, AbortHandle>,
}

impl Cluster {
    /// A node may be silent for longer than any test machine stands still.
    pub(crate) async fn start() -> Self {
        Self::with_grace(Duration::from_secs(60)).await
    }

    /// Where it matters what becomes of silent nodes.
    pub(crate) async fn impatient() -> Self {
        Self::with_grace(GRACE).await
    }

    async fn with_grace(grace: Duration) -> Self {
        let (address, api) = spawn_api("127.0.0.1:0".parse().unwrap()).await;
        let client = connect_to(address).await;
        Self::of(client.clone(), client, Api::Embedded(address, api), settings(grace))
    }

    /// With a real API server, and controllers that may do there what `deploy/` lets them.
    pub(crate) async fn real() -> Self {
        Self::real_with(settings(GRACE)).await
    }

    /// The same where somebody else does what these settings leave out.
    pub(crate) async fn real_with(settings: Settings) -> Self {
        let server = RealServer::start();
        let (client, theirs) = server.clients().await;
        Self::of(client, theirs, Api::Real(server), settings)
    }

    fn of(client: Client, theirs: Client, api: Api, settings: Settings) -> Self {
        let mut tasks = JoinSet::new();
        let controllers = spawn_controllers(&mut tasks, &theirs, &settings);
        Cluster { client, theirs, settings, api, tasks, controllers, kubelets: BTreeMap::new() }
    }

    /// What was asked of the real server, by whom.
    pub(crate) fn audit(&self) -> Vec<Value> {
        audit(self.folder())
    }

    /// Of the real server.
    pub(crate) fn folder(&self) -> &Path {
        let Api::Real(server) = &self.api else { panic!("no real server") };
        &server.folder
    }

    pub(crate) fn embedded_address(&self) -> SocketAddr {
        let Api::Embedded(address, _) = &self.api else { panic!("a real one") };
        *address
    }

    /// An API that nobody stands behind.
    pub(crate) async fn without_controllers() -> Self {
        let cluster = Self::start().await;
        cluster.stop_controllers();
        cluster
    }

    pub(crate) fn stop_controllers(&self) {
        self.controllers.abort();
    }

    /// With nodes a, b and c.
    pub(crate) async fn with_nodes() -> Self {
        let mut cluster = Self::start().await;
        cluster.add_nodes().await;
        cluster
    }

    /// Three that take pods.
    pub(crate) async fn add_nodes(&mut self) {
        for name in ["a", "b", "c"] {
            self.add_node(name, json!({})).await;
        }
        let takes_pods = |node: &Value| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
        let all =
            |view: &View| view.all(Kind::NODE).count() == 3 && view.all(Kind::NODE).all(takes_pods);
        self.view().until("the nodes take pods", all).await;
    }

    pub(crate) async fn add_node(&mut self, name: &str, labels: Value) {
        let metadata = json!({"name": name, "labels": labels});
        self.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})).await;
        self.power_on(name);
    }

    pub(crate) fn power_on(&mut self, node: &str) {
        let running = kubelet(self.client.clone(), node.to_owned());
        self.kubelets.insert(node.to_owned(), self.tasks.spawn(running));
    }

    pub(crate) fn cut_power(&mut self, node: &str) {
        self.kubelets.remove(node).unwrap().abort();
    }

    /// Another API server at the same place, which knows nothing. The controllers have to notice; the test has a new
    /// client, whose first request does not go into a connection that has just died.
    pub(crate) async fn restart_api_empty(&mut self) {
        let Api::Embedded(address, api) = &mut self.api else { panic!("a real one keeps all") };
        api.abort();
        assert!((&mut *api).await.is_err_and(|error| error.is_cancelled()));
        (_, *api) = spawn_api(*address).await;
        self.client = connect_to(*address).await;
    }

    pub(crate) fn restart_controllers(&mut self) {
        self.controllers.abort();
        self.controllers = spawn_controllers(&mut self.tasks, &self.theirs, &self.settings);
    }

    /// Others in their place.
    pub(crate) fn run_controllers(&mut self, settings: Settings) {
        self.settings = settings;
        self.restart_controllers();
    }

    pub(crate) async fn create(&self, object: Value) -> Value {
        create(&self.client, &object).await.unwrap()
    }

    pub(crate) async fn patch(&self, kind: Kind, name: &str, patch: Value) {
        let patched = client::patch_merge(&self.client, kind, Some("default"), name, &patch).await;
        patched.unwrap();
    }

    pub(crate) async fn patch_node(&self, name: &str, patch: Value) {
        client::patch_merge(&self.client, Kind::NODE, None, name, &patch).await.unwrap();
    }

    pub(crate) async fn delete(&self, kind: Kind, name: &str) {
        let found = client::delete(&self.client, kind, Some("default"), name, None).await.unwrap();
        assert!(found, "{kind} {name}");
    }

    /// Deletes it and leaves behind what it owns, as `kubectl delete --cascade=orphan`.
    pub(crate) async fn orphan(&self, kind: Kind, name: &str) {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        let path = format!("/apis/{}/namespaces/default/{}", kind.api_version(), kind.plural);
        let request = Request::new(path).delete(name, &params).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }

    pub(crate) fn view(&self) -> View {
        self.view_with(&[])
    }

    /// The same and these kinds.
    pub(crate) fn view_with(&self, kinds: &[Kind]) -> View {
        View::of(&self.client, &[View::KINDS, kinds].concat())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Api::Embedded(_, api) = &self.api {
            api.abort();
        }
    }
}

pub(crate) fn settings(grace: Duration) -> Settings {
    Settings { node_monitor_grace: grace, pod_eviction: Duration::from_secs(1), ..Settings::lab() }
}

async fn connect_to(address: SocketAddr) -> Client {
    connect(None, Some(&format!("http://{address}"))).await.unwrap()
}

async fn spawn_api(address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = ApiServer::new(&Config::new(address)).unwrap();
    (address, tokio::spawn(server.serve(listener, std::future::pending())))
}

fn spawn_controllers(tasks: &mut JoinSet<()>, client: &Client, settings: &Settings) -> AbortHandle {
    let running = run(client.clone(), settings.clone());
    tasks.spawn(async { running.await.expect("the settings are good") })
}

pub(crate) fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "echo", "image": "one",
                    "ports": [{"name": "http", "containerPort": 9376}]}]},
            },
        },
    })
}

pub(crate) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}
