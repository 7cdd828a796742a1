//! `podway apiserver`: the API of a lab without the lab.

use crate::daemon::told_to_end;
use ::apiserver::{Access, ApiServer, Config, Disk, DiskError};
use anyhow::{Context, bail};
use clap::Args;
use ipnet::IpNet;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serve a Kubernetes API for tests and development: objects and rules, no nodes; production has its own
#[derive(Debug, Args)]
pub(crate) struct Apiserver {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    bind_address: IpAddr,
    /// Port to listen on; 0 is any free one
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Directory to keep objects and credentials in; without it all is in memory and goes with the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to write the administrator's kubeconfig
    #[arg(long, value_name = "FILE", default_value = "podway.kubeconfig")]
    kubeconfig: PathBuf,
    /// Where Services get their addresses from, one prefix of a family
    #[arg(long, default_value = "10.96.0.0/12", value_delimiter = ',')]
    service_cluster_ip_range: Vec<IpNet>,
}

pub(crate) fn run(options: &Apiserver) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Apiserver) -> anyhow::Result<ExitCode> {
    let end = told_to_end()?;
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address}"))?;
    let address = listener.local_addr()?;
    let disk = options.data_dir.as_deref().map(Disk::open).transpose()?;
    let names = [address.ip()];
    let access = match &disk {
        None => Access::new(&names)?,
        Some(disk) => Access::kept(&names, disk)?,
    };
    let access = Arc::new(access);
    let service_cidrs = options.service_cluster_ip_range.clone();
    let config = Config { service_cidrs, access: Some(access.clone()), ..Config::new(address) };
    let server = match disk {
        None => ApiServer::new(&config)?,
        Some(disk) => ApiServer::on_disk(&config, disk)?,
    };
    let kubeconfig = access.kubeconfig("podway", &format!("https://{address}"))?;
    keep(&options.kubeconfig, &kubeconfig)
        .with_context(|| format!("write {}", options.kubeconfig.display()))?;
    eprintln!("the API listens on {address}; kubeconfig: {}", options.kubeconfig.display());
    tokio::select! {
        () = server.clone().serve_tls(listener, access, end) => Ok(ExitCode::SUCCESS),
        why = server.failure() => bail!("the store takes no more writes: {why}"),
    }
}

/// Writes a file that only this user may read.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// sysexits.h: data that cannot be used is 65 (`EX_DATAERR`), what somebody else holds is 69 (`EX_UNAVAILABLE`).
pub(crate) fn exit_code(error: &DiskError) -> u8 {
    match error {
        DiskError::Foreign { .. } | DiskError::Newer { .. } | DiskError::Damaged { .. } => 65,
        DiskError::Busy { .. } => 69,
        DiskError::File { .. } => 1,
    }
}
