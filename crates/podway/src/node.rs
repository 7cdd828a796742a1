//! What runs on a node besides the daemons: the kubelet, the built-in server, the CNI plug-in.

use crate::daemon::{Connection, block_on, told_to_end};
use anyhow::Context;
use clap::Args;
use lab::console::Manner;
use lab::echo::{Config, Identity, Server};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Run the pods of this node: a small kubelet for labs
#[derive(Debug, Args)]
pub(crate) struct Kubelet {
    /// Name of the Node object that this machine is
    #[arg(long, env = "PODWAY_NODE")]
    node: String,
    #[command(flatten)]
    connection: Connection,
    /// Where it keeps what it must not forget
    #[arg(long)]
    root: PathBuf,
    /// Where the agent writes the network configuration [default: ROOT/cni]
    #[arg(long)]
    cni_conf: Option<PathBuf>,
    /// What stands for which image, as `lab up` writes it [default: the built-in server for all]
    #[arg(long)]
    images: Option<PathBuf>,
    /// Where pods' logs go, as NAMESPACE_POD/CONTAINER.log
    #[arg(long)]
    pod_log_dir: Option<PathBuf>,
}

/// Answer every request with who answered and whom it saw
#[derive(Debug, Args)]
pub(crate) struct Echo {
    /// Answer HTTP on this TCP port; may come several times
    #[arg(long = "port")]
    tcp: Vec<u16>,
    /// Answer datagrams on this UDP port; may come several times
    #[arg(long = "udp-port")]
    udp: Vec<u16>,
    /// How many seconds at most to go on once told to end, as long as anybody still asks
    #[arg(long, default_value_t = 0)]
    grace: u64,
}

/// Hold a container's input, and its terminal
#[derive(Debug, Args)]
pub(crate) struct Console {
    /// The container hears what people say
    #[arg(long)]
    input: bool,
    /// Its input ends with the first who spoke
    #[arg(long)]
    once: bool,
    /// Its input and output are one terminal
    #[arg(long)]
    terminal: bool,
}

pub(crate) fn kubelet(arguments: Kubelet) -> anyhow::Result<ExitCode> {
    let Kubelet { node, connection, root, cni_conf, images, pod_log_dir } = arguments;
    let mut config = lab::kubelet::Config::new(&node, &root);
    config.cni_conf = cni_conf.unwrap_or(config.cni_conf);
    config.pod_logs = pod_log_dir.unwrap_or(config.pod_logs);
    if let Some(path) = images {
        let context = || path.display().to_string();
        let text = std::fs::read(&path).with_context(context)?;
        config.images = serde_json::from_slice(&text).with_context(context)?;
    }
    block_on(async {
        let client = connection.connect().await?;
        lab::kubelet::run(config, client, told_to_end()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn echo(ports: Echo) -> anyhow::Result<ExitCode> {
    let identity = Identity::from_variables(|name| std::env::var(name).ok());
    block_on(async {
        let end = told_to_end()?;
        let grace = Duration::from_secs(ports.grace);
        let config = Config { tcp: ports.tcp, udp: ports.udp, identity, grace };
        let server = Server::listen(config).await?;
        server.run(end).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Its standard error is a container's log, which is not the place to say why it failed.
pub(crate) fn console(manner: &Console) -> ExitCode {
    let Console { input, once, terminal } = *manner;
    match lab::console::run(Manner { input, once, terminal }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A container runtime calls: it says so in the environment and brings no arguments.
pub(crate) fn is_plug_in() -> bool {
    std::env::var_os("CNI_COMMAND").is_some() && std::env::args_os().len() == 1
}

pub(crate) fn plug_in() -> anyhow::Result<ExitCode> {
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).context("no network configuration")?;
    let outcome = cni::main(|name| std::env::var(name).ok(), &stdin);
    std::io::stdout().write_all(outcome.stdout.as_bytes()).context("no result")?;
    Ok(ExitCode::from(outcome.exit))
}
