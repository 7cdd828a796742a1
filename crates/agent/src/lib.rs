//! The node daemon: watch, compile, difference, apply.
//!
//! *Here*: one loop that keeps a node's kernel as the cluster's objects want it, and the files that a
//! container runtime needs to know of it.
//! *Not here*: what the objects mean (crate `compile`), how the kernel is told (crates `backend`, `kernel`),
//! virtual IPs and balancing (crate `edge`, a process of its own, so that a killed agent cuts no connection).
//! *Start at* [`run`].
//!
//! ```text
//!  API events ──► Replica ──touched──► recompile ──changes──► back ends ──► kernel
//!                                                                 ▲
//!  kernel notifications (somebody else changed something) ──► reconcile: read, compare, mend
//! ```
//!
//! The agent may be killed at any moment: what is in the kernel goes on working, and the next one reads it
//! back and changes only what differs.

mod accounting;
mod announce;
mod care;
mod cni_files;
mod events;
mod health;
mod health_ports;
pub mod http;
mod metrics;
mod node;
mod place;
mod report;
mod sysctls;
mod watch;

pub use care::Care;
pub use cni_files::CniFiles;
pub use node::Error;
pub use sysctls::Conntrack;

use backend::Mode;
use compile::Settings;
use model::{Proxy, ProxyProgram};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

/// What an agent must be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the Node object that it is.
    pub node: String,
    pub settings: Settings,
    /// How Services are served; nft, where the kernel or this build lacks it.
    pub mode: Mode,
    pub services: backend::services::Settings,
    /// How often to look for what others did to rules, where the kernel does not tell (iptables, variant legacy).
    pub look_every: Duration,
    /// Remove what kube-proxy left, in any of its modes, once Services are served.
    pub take_over_kube_proxy: bool,
    /// Where the container runtime's files go; `None`: somebody else's plug-in wires the pods.
    pub cni: Option<CniFiles>,
    pub conntrack: Conntrack,
    pub care: Care,
    /// What connections to Services carry is summed up by front end and endpoint.
    pub connection_accounting: bool,
    /// Where `/healthz`, `/livez` and `/programmed` are answered.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is answered.
    pub metrics: Option<SocketAddr>,
}

impl Options {
    /// What is announced of it, once it serves in the mode that is asked for.
    pub fn proxy(&self) -> Proxy {
        Proxy {
            program: ProxyProgram::Podway,
            mode: self.mode,
            cluster_cidrs: self.settings.cluster_cidrs.clone(),
            local_detection: self.settings.local_detection.clone(),
            masquerade_all: self.settings.masquerade_all,
            node_ports: self.settings.node_ports.clone(),
            scheduler: self.services.scheduler.filter(|_| self.mode == Mode::Ipvs),
        }
    }

    /// Without options: nothing listens, no file is written.
    pub fn new(node: &str, settings: Settings) -> Self {
        Options {
            node: node.to_owned(),
            settings,
            mode: Mode::default(),
            services: backend::services::Settings::default(),
            look_every: Duration::from_secs(60),
            take_over_kube_proxy: false,
            cni: None,
            conntrack: Conntrack::default(),
            care: Care::default(),
            connection_accounting: false,
            healthz: None,
            metrics: None,
        }
    }
}

/// Keeps the node as the cluster wants it until `shutdown`; then leaves everything in place.
pub async fn run(
    client: client::Client,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    tokio::select! {
        outcome = watch::follow(client, options) => outcome,
        () = shutdown => Ok(()),
    }
}
