//! What the daemons of a node have in common, and `podway edge`.

use crate::agent::{Listen, listen};
use crate::manifests;
use ::agent::http::{self, Answer};
use anyhow::Context;
use clap::Args;
use model::World;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Which API, and who this is
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// URL of the API server; without it the kubeconfig, else the service account of the pod
    #[arg(long, env = "PODWAY_SERVER", global = true)]
    server: Option<String>,
    /// Path of a kubeconfig file
    #[arg(long, env = "KUBECONFIG", global = true)]
    kubeconfig: Option<PathBuf>,
}

impl Connection {
    /// Whether an API is named at all, by an option or in the environment.
    pub(crate) fn is_named(&self) -> bool {
        self.server.is_some() || self.kubeconfig.is_some()
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<client::Client> {
        let client = client::connect(self.kubeconfig.as_deref(), self.server.as_deref()).await;
        client.context("no Kubernetes API")
    }
}

/// For those who look after this process
#[derive(Debug, Clone, Args)]
pub(crate) struct Probes {
    /// Where /livez and /healthz are answered; "off": nowhere
    #[arg(long, default_value = "off", value_parser = listen)]
    healthz_bind_address: Listen,
}

impl Probes {
    /// Answers from now on: `/livez` with 200, since the thread that does the work is the one that answers; `/healthz`
    /// with 200 once the sender has said so.
    pub(crate) fn serve(&self) -> watch::Sender<bool> {
        let (sender, ready) = watch::channel(false);
        if let Some(address) = self.healthz_bind_address.0 {
            let answer = move |path: String| {
                let answer = match path.split('?').next() {
                    Some("/livez") => Answer::text(200, "ok\n".to_owned()),
                    Some("/healthz") if *ready.borrow() => Answer::text(200, "ok\n".to_owned()),
                    Some("/healthz") => {
                        Answer::text(503, "the cluster is not known yet\n".to_owned())
                    }
                    _ => Answer::not_found(),
                };
                std::future::ready(answer)
            };
            tokio::spawn(http::serve(address, "health", answer));
        }
        sender
    }
}

/// Hold virtual IPs by VRRP and balance the connections to them
#[derive(Debug, Args)]
pub(crate) struct Edge {
    /// Name of the Node object that this machine is
    #[arg(long, env = "PODWAY_NODE")]
    node: String,
    #[command(flatten)]
    connection: Connection,
    /// Take Node and VirtualIP objects from these manifests instead of an API
    #[arg(short, long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// The interface of the virtual IPs; without it the one that has the node's InternalIP
    #[arg(long)]
    interface: Option<String>,
    #[command(flatten)]
    probes: Probes,
}

pub(crate) fn edge(edge: Edge) -> anyhow::Result<ExitCode> {
    let Edge { node, connection, files, interface, probes } = edge;
    block_on(async {
        let end = told_to_end()?;
        let ready = probes.serve();
        if files.is_empty() {
            let client = connection.connect().await?;
            let started = || {
                ready.send_replace(true);
            };
            ::edge::follow::follow(client, &node, interface.as_deref(), started, end).await?;
        } else {
            let world = world_of(&files)?;
            ready.send_replace(true);
            ::edge::follow::stand_alone(&world, &node, interface.as_deref(), end).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn world_of(files: &[PathBuf]) -> anyhow::Result<World> {
    let objects = manifests::load(files)?;
    Ok(World::from_objects(objects.into_iter().filter_map(|(_, object)| object)))
}

/// One thread is enough: what takes time is the kernel's work.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Completes at SIGTERM or SIGINT.
pub(crate) fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
