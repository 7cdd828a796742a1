//! A node in a network namespace: an underlay, an API on it, and agents that come and go.

use agent::{CniFiles, Options};
use apiserver::{ApiServer, Config};
use backend::Mode;
use client::{Client, Event, Watch, Watcher};
use ipnet::IpNet;
use kernel::namespace::{Kind, in_netns, make_net};
use kernel::netlink::{Monitor, Socket};
use kernel::process::{Process, Signal, may_administer};
use kernel::route::{self, Change};
use kernel::spawn::{Place, spawn};
use netstate::{Address, Link, LinkKind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// On a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a test as root of a namespace of its own; an ordinary user's runs anew as root of a user namespace.
pub(crate) fn in_own_namespace(test: &str, body: impl AsyncFnOnce() + Send) {
    if !may_administer().unwrap() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([test, "--exact", "--nocapture"]);
        // Root's is closed to others; the test's tools and the agent's share one.
        let lock = std::env::temp_dir().join(format!("podway-{}.lock", test.replace("::", "-")));
        again.env("XTABLES_LOCKFILE", &lock);
        let death_signal = Some(Signal::SIGKILL);
        let place = Place { make: vec![Kind::User], death_signal, ..Place::default() };
        let status = spawn(again, place).unwrap().reap().unwrap();
        std::fs::remove_file(lock).ok();
        assert!(status.success(), "{test} as root");
        return;
    }
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    };
    in_netns(make_net().unwrap(), run).unwrap();
}

pub(crate) struct Node {
    pub(crate) client: Client,
    pub(crate) server: String,
    directory: PathBuf,
    rules: AsyncFd<Monitor>,
}

impl Node {
    /// An underlay with the node's address, and an API that knows the node.
    #[expect(deprecated, reason = "a monitor keeps its one descriptor for life")]
    pub(crate) async fn new(name: &str) -> Self {
        let link =
            |name: &str, kind| Link { name: name.into(), kind, mac: None, mtu: None, up: true };
        let net: IpNet = "10.1.1.110/24".parse().unwrap();
        let changes = [
            Change::SetUp { device: "lo".into(), up: true },
            Change::AddLink(link("eth0", LinkKind::Bridge)),
            Change::AddAddress(Address { device: "eth0".into(), net }),
        ];
        route::apply(&mut Socket::route().unwrap(), &changes).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service_cidrs = ["10.96.0.0/12", "fd00:96::/112"].map(|net| net.parse().unwrap());
        let config = Config { service_cidrs: service_cidrs.into(), ..Config::new(address) };
        let api = ApiServer::new(&config).unwrap();
        tokio::spawn(api.serve(listener, std::future::pending()));
        let server = format!("http://{address}");
        let client = client::connect(None, Some(&server)).await.unwrap();
        let rules = AsyncFd::new(Monitor::rules().unwrap()).unwrap();
        let directory =
            std::env::temp_dir().join(format!("podway-agent-{name}-{}", std::process::id()));
        let node = Node { client, server, directory, rules };
        node.apply(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "spec": {"podCIDR": "10.244.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]},
        }))
        .await;
        node
    }

    pub(crate) async fn apply(&self, object: Value) -> Value {
        client::create(&self.client, &object).await.unwrap()
    }

    /// Creates the object, or replaces the one that is there.
    pub(crate) async fn put(&self, object: Value) -> Value {
        match client::create(&self.client, &object).await {
            Err(client::Error::AlreadyExists { .. }) => {
                client::replace(&self.client, &object).await.unwrap()
            }
            outcome => outcome.unwrap(),
        }
    }

    /// Likewise; returns when the kernel has it.
    pub(crate) async fn put_programmed(&self, object: Value) {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let written = self.put(object).await;
        let version = written["metadata"]["resourceVersion"].as_str().unwrap();
        let answer = self.ask(10256, &format!("/programmed?{kind}={version}")).await;
        assert_eq!(answer.status, 200);
    }

    /// An agent that lives until the handle is aborted, as if killed.
    pub(crate) async fn start_agent(&self) -> JoinHandle<()> {
        self.start_agent_with(|_as_it_is| {}).await
    }

    pub(crate) async fn start_agent_in(&self, mode: Mode) -> JoinHandle<()> {
        self.start_agent_with(|options| options.mode = mode).await
    }

    pub(crate) async fn start_agent_with(
        &self,
        change: impl FnOnce(&mut Options),
    ) -> JoinHandle<()> {
        let client = client::connect(None, Some(&self.server)).await.unwrap();
        let mut options = options(&self.directory);
        change(&mut options);
        tokio::spawn(async { agent::run(client, options, std::future::pending()).await.unwrap() })
    }

    /// Asks an HTTP server of the node, which may be about to start.
    pub(crate) async fn ask(&self, port: u16, path: &str) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, async {
            loop {
                // Nothing tells of a socket that begins to listen.
                match try_ask(port, path).await {
                    Ok(answer) => break answer,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        answer.await.unwrap_or_else(|_late| panic!("{path} on port {port}"))
    }

    pub(crate) fn watch(&self, watch: Watch) -> Watcher {
        client::watch_kinds(&self.client, &[watch])
    }

    /// Waits for an Event with this reason.
    pub(crate) async fn until_event(&self, events: &mut Watcher, reason: &str) -> Value {
        let event = tokio::time::timeout(PATIENCE, async {
            loop {
                let objects = match events.next().await {
                    Event::Applied { object, .. } => vec![object],
                    Event::Restarted { objects, .. } => objects,
                    _ => Vec::new(),
                };
                if let Some(event) = objects.into_iter().find(|object| object["reason"] == reason) {
                    return event;
                }
            }
        });
        event.await.unwrap_or_else(|_late| panic!("no Event {reason}"))
    }

    /// Waits until a metric has a value: woken by nothing, it asks again and again.
    pub(crate) async fn until_metric(&self, port: u16, line: &str) {
        let mut metrics = String::new();
        let outcome = tokio::time::timeout(PATIENCE, async {
            while !metrics.lines().any(|have| have == line) {
                metrics = self.ask(port, "/metrics").await.body;
            }
        });
        let timely = outcome.await.is_ok();
        assert!(timely, "{line} in {metrics}");
    }

    /// An agent that is a process of its own, to be killed.
    pub(crate) fn spawn_agent(&self, mode: Mode) -> Process {
        self.spawn_agent_with(mode, &[("PODWAY_TEST_ACCOUNTING", "1")])
    }

    pub(crate) fn spawn_agent_with(&self, mode: Mode, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["kills::agent_to_be_killed", "--exact", "--ignored", "--nocapture"]);
        command.env("PODWAY_TEST_SERVER", &self.server).env("PODWAY_TEST_HOME", &self.directory);
        command.env("PODWAY_TEST_MODE", mode.name());
        command.envs(environment.iter().copied());
        spawn(command, Place { death_signal: Some(Signal::SIGKILL), ..Place::default() }).unwrap()
    }

    /// Waits until somebody changes rules.
    pub(crate) async fn until_rules_change(&mut self) {
        let outcome = tokio::time::timeout(PATIENCE, async {
            let mut changed = false;
            while !changed {
                let mut ready = self.rules.readable_mut().await.unwrap();
                changed = ready.get_inner_mut().drain().unwrap().any();
                ready.clear_ready();
            }
        });
        assert!(outcome.await.is_ok(), "no rule changes");
    }

    pub(crate) fn conflist(&self) -> PathBuf {
        self.directory.join("10-podway.conflist")
    }

    /// Waits until the endpoints of this front end are as wanted, woken by every change of the rules.
    pub(crate) async fn until_served(&mut self, address: &str, port: u16, wanted: &[&str]) {
        let outcome = tokio::time::timeout(PATIENCE, async {
            while endpoints(address, port) != wanted {
                let mut ready = self.rules.readable_mut().await.unwrap();
                ready.get_inner_mut().drain().unwrap();
                ready.clear_ready();
            }
        });
        let timely = outcome.await.is_ok();
        assert!(timely, "{address}:{port}: {:?}, not {wanted:?}", endpoints(address, port));
    }
}

/// What an agent of the node is told.
pub(crate) fn options(directory: &Path) -> Options {
    let settings = compile::Settings::new(vec!["10.244.0.0/16".parse().unwrap()]);
    let conflist = directory.join("10-podway.conflist");
    Options {
        cni: Some(CniFiles { conflist, data_dir: directory.join("ipam") }),
        healthz: Some(([0, 0, 0, 0], 10256).into()),
        metrics: Some(([127, 0, 0, 1], 10249).into()),
        ..Options::new("node-1", settings)
    }
}

/// Asks an HTTP server of the node.
pub(crate) async fn try_ask(port: u16, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// What an HTTP server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// What the kernel serves at this address and port.
pub(crate) fn endpoints(address: &str, port: u16) -> Vec<String> {
    let services = backend::services::served().unwrap();
    let found = services.into_iter().find(|served| {
        served.port == port && served.address.is_some_and(|have| have.to_string() == address)
    });
    found.map_or(Vec::new(), |served| {
        served.fate.endpoints().map(|endpoint| endpoint.to_string()).collect()
    })
}
