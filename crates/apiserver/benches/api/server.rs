//! Servers as processes of their own.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(120);

/// How to start a server and what it needs beside it.
pub(crate) struct Plan {
    pub(crate) name: String,
    /// Each is a program with its arguments; the last one is the API server.
    commands: Vec<Vec<String>>,
    kubeconfig: PathBuf,
    /// A path that is answered once the server is ready.
    ready: &'static str,
    /// What is in it outlives the process.
    pub(crate) lasts: bool,
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn command(program: &Path, arguments: &[String]) -> Vec<String> {
    std::iter::once(program.display().to_string()).chain(arguments.iter().cloned()).collect()
}

impl Plan {
    pub(crate) fn podway(podway: &Path, scratch: &Path, lasts: bool) -> Result<Self, Failure> {
        let kubeconfig = scratch.join(format!("podway-{lasts}.kubeconfig"));
        let mut arguments = vec!["apiserver".to_owned(), format!("--secure-port={}", free_port()?)];
        arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
        if lasts {
            arguments.push(format!("--data-dir={}", scratch.join("podway").display()));
        }
        let place = if lasts { "on disk, each write synced" } else { "in memory" };
        Ok(Self {
            name: format!("podway apiserver, {place}"),
            commands: vec![command(podway, &arguments)],
            kubeconfig,
            ready: "/readyz",
            lasts,
        })
    }

    /// etcd alone: what it cannot do, no kube-apiserver in front of it does.
    pub(crate) fn etcd(etcd: &Path, scratch: &Path) -> Result<Self, Failure> {
        let (client, peer) = (free_port()?, free_port()?);
        let kubeconfig = scratch.join("etcd.kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_of(&format!("http://127.0.0.1:{client}")))?;
        let name = "etcd alone, puts over its JSON gateway".to_owned();
        let commands = vec![etcd_command(etcd, &scratch.join("etcd"), client, peer)];
        Command::new(etcd).arg("--version").stdout(Stdio::null()).status()?;
        Ok(Self { name, commands, kubeconfig, ready: "/health", lasts: true })
    }

    pub(crate) fn kubernetes(kube: &Path, etcd: &Path, scratch: &Path) -> Result<Self, Failure> {
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        let file = |name: &str| scratch.join(name).display().to_string();
        let kubeconfig = scratch.join("kubernetes.kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_of(&format!("https://127.0.0.1:{port}")))?;
        std::fs::write(file("tokens.csv"), "bench,admin,1,system:masters\n")?;
        let mut key = Command::new("openssl");
        key.args(["genrsa", "-out", &file("accounts.key"), "2048"]).stderr(Stdio::null());
        if !key.status()?.success() {
            return Err("openssl made no key".into());
        }
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{client}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--cert-dir={}", file("certificates")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.96.0.0/12".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", file("accounts.key")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            // Pods are to be stored, not to be run.
            "--disable-admission-plugins=ServiceAccount".into(),
            // What is measured is the server, not its protection against one client.
            "--max-requests-inflight=0".into(),
            "--max-mutating-requests-inflight=0".into(),
            "--enable-priority-and-fairness=false".into(),
        ];
        let data = scratch.join("kubernetes-etcd");
        Ok(Self {
            name: format!("{} with {}", kube.display(), etcd.display()),
            commands: vec![etcd_command(etcd, &data, client, peer), command(kube, &arguments)],
            kubeconfig,
            ready: "/readyz",
            lasts: true,
        })
    }
}

fn etcd_command(etcd: &Path, data: &Path, client: u16, peer: u16) -> Vec<String> {
    let arguments = [
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
        "--log-level=error".into(),
    ];
    command(etcd, &arguments)
}

fn kubeconfig_of(url: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: x, cluster: {{server: \"{url}\", insecure-skip-tls-verify: true}}}}]\n\
         contexts: [{{name: x, context: {{cluster: x, user: x}}}}]\n\
         users: [{{name: x, user: {{token: bench}}}}]\n"
    )
}

/// A server that ends with this value.
pub(crate) struct Server {
    processes: Vec<Child>,
    pub(crate) client: Client,
    /// From its start to its first answer that it is ready.
    pub(crate) took: Duration,
}

impl Server {
    pub(crate) async fn start(plan: &Plan) -> Result<Self, Failure> {
        let mut processes = Vec::new();
        let begun = Instant::now();
        for command in &plan.commands {
            let mut process = Command::new(&command[0]);
            process.args(&command[1..]).stdin(Stdio::null());
            processes.push(process.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        let mut server = Waiting { processes: Some(processes) };
        while begun.elapsed() < PATIENCE {
            if let Ok(client) = ready(plan).await {
                let (took, processes) = (begun.elapsed(), server.processes.take());
                return Ok(Self { processes: processes.unwrap_or_default(), client, took });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(format!("{} does not become ready", plan.name).into())
    }

    /// Kills it and starts it again on what it has kept.
    pub(crate) async fn restart(self, plan: &Plan) -> Result<Self, Failure> {
        drop(self);
        Self::start(plan).await
    }

    /// Resident and private memory of each process, in MiB.
    pub(crate) fn memory(&self) -> String {
        let figures = self.processes.iter().map(|process| {
            let path = format!("/proc/{}/smaps_rollup", process.id());
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let kib = |name: &str| -> usize {
                let lines = text.lines().filter(|line| line.starts_with(name));
                lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok()).sum()
            };
            let own = kib("Private_Dirty:") + kib("Private_Clean:");
            format!(
                "{} MiB ({} without the program's file)",
                kib("Rss:") >> 10,
                (own.min(kib("Anonymous:"))) >> 10
            )
        });
        figures.collect::<Vec<_>>().join(" + ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.processes);
    }
}

/// Processes of which nobody knows yet whether they become a server.
struct Waiting {
    processes: Option<Vec<Child>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(|processes| end(processes));
    }
}

fn end(processes: &mut [Child]) {
    for process in processes.iter_mut().rev() {
        process.kill().and_then(|()| process.wait()).ok();
    }
}

async fn ready(plan: &Plan) -> Result<Client, Failure> {
    let kubeconfig = Kubeconfig::read_from(&plan.kubeconfig)?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    let client = Client::try_from(config)?;
    client.request_text(http::Request::get(plan.ready).body(Vec::new())?).await?;
    Ok(client)
}
