//! `podway agent` and `podway edge`: the daemons of a node.

use crate::manifests;
use ::agent::CniFiles;
use anyhow::Context;
use clap::Args;
use ipnet::IpNet;
use model::World;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Which API, and who this is
#[derive(Debug, Args)]
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

/// Keep this node's pod network and service table as the cluster wants them
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Name of the Node object that this machine is
    #[arg(long, env = "PODWAY_NODE")]
    node: String,
    #[command(flatten)]
    connection: Connection,
    /// The addresses of all pods; several prefixes with commas between
    #[arg(
        long,
        env = "PODWAY_CLUSTER_CIDR",
        default_value = "10.244.0.0/16",
        value_delimiter = ','
    )]
    cluster_cidr: Vec<IpNet>,
    /// How Services are served: nft, iptables, ipvs or userspace; nft, where this kernel lacks another one
    #[arg(long, default_value_t)]
    proxy_mode: backend::Mode,
    /// The scheduler of Services that do not name one, in proxy mode ipvs
    #[arg(long, default_value = "rr")]
    ipvs_scheduler: model::Scheduler,
    /// Write 10-podway.conflist into this directory, for the container runtime
    #[arg(long)]
    cni_conf_dir: Option<PathBuf>,
    /// Where the CNI plug-in keeps the addresses it gave out
    #[arg(long, default_value = "/var/lib/cni/podway")]
    cni_data_dir: PathBuf,
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
}

pub(crate) fn agent(agent: Agent) -> anyhow::Result<ExitCode> {
    let cni = agent.cni_conf_dir.map(|directory| CniFiles {
        conflist: directory.join("10-podway.conflist"),
        data_dir: agent.cni_data_dir,
    });
    let settings = compile::Settings::new(agent.cluster_cidr);
    let services = backend::services::Settings { scheduler: Some(agent.ipvs_scheduler) };
    let mode = agent.proxy_mode;
    let options = ::agent::Options { node: agent.node, settings, mode, services, cni };
    block_on(async {
        let client = agent.connection.connect().await?;
        ::agent::run(client, options, told_to_end()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn edge(edge: Edge) -> anyhow::Result<ExitCode> {
    let Edge { node, connection, files, interface } = edge;
    block_on(async {
        let end = told_to_end()?;
        if files.is_empty() {
            let client = connection.connect().await?;
            ::edge::follow::follow(client, &node, interface.as_deref(), end).await?;
        } else {
            let world = world_of(&files)?;
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
