//! The API of the lab's cluster, and what stands behind it.
//!
//! ```text
//!   machine   127.0.0.1:PORT ─────┐ a socket that was opened outside and handed in
//!   ══════════════════════════════│══════════════
//!   lab       10.1.1.1:6443 ──────┴─ TLS ─► API ◄─ plain HTTP ── /run/podway/api.sock
//! ```

use super::events::{Event, Events};
use crate::plan::{Families, Plan};
use crate::{Error, Result, layout};
use apiserver::containers::ContainerRequest;
use apiserver::{Access, ApiServer, Config, Disk};
use client::Client;
use controllers::Settings;

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

/// Where the API listens on the gateway's address.
const PORT: u16 = 6443;
const LOOPBACK: &str = "the machine's loopback";

/// An API that is being served.
pub(super) struct Api {
    /// Its URL inside.
    pub(super) url: String,
    pub(super) client: Client,
    /// For clients on the machine, outside of the lab.
    pub(super) kubeconfig: String,
}

/// Starts the API; `outside` is a listener on the machine's loopback.
pub(super) async fn serve(
    name: &str,
    plan: &Plan,
    outside: std::net::TcpListener,
    disk: Option<Disk>,
    events: Events,
) -> Result<Api> {
    let address = SocketAddr::new(IpAddr::V4(plan.gateway), PORT);
    let (service_cidrs, nodes) = (plan.service_cidrs(), Some(forward(events)));
    let outside = adopted(outside).map_err(Error::file("listen on", LOOPBACK))?;
    let own = plan
        .service_cidrs()
        .into_iter()
        .filter_map(|cidr| cidr.hosts().find(|it| *it != cidr.network()));
    let advertised = SocketAddr::new(reachable(plan), PORT);
    let machines = [address.ip(), advertised.ip(), Ipv4Addr::LOCALHOST.into()];
    let names: Vec<_> = machines.into_iter().chain(own).collect();
    let access = Arc::new(match &disk {
        None => Access::new(&names)?,
        Some(disk) => Access::kept(&names, disk)?,
    });
    let config =
        Config { service_cidrs, nodes, access: Some(access.clone()), ..Config::new(advertised) };
    let server = match disk {
        None => ApiServer::new(&config),
        Some(disk) => ApiServer::on_disk(&config, disk),
    };
    let server = server.map_err(|source| Error::Server(Box::new(source)))?;
    let context = format!("podway-{name}");
    let port = outside.local_addr().map_err(Error::file("listen on", LOOPBACK))?;
    let kubeconfig = access.kubeconfig(&context, &format!("https://{port}"))?;
    let url = format!("https://{address}");
    crate::record::keep(Path::new(layout::KUBECONFIG), &access.kubeconfig(&context, &url)?)?;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(Error::file("listen on", address.to_string()))?;
    let socket = UnixListener::bind(layout::API).map_err(Error::file("listen on", layout::API))?;
    tokio::spawn(server.clone().serve_tls(listener, access.clone(), pending()));
    if advertised != address {
        let listener = TcpListener::bind(advertised).await;
        let listener = listener.map_err(Error::file("listen on", advertised.to_string()))?;
        tokio::spawn(server.clone().serve_tls(listener, access.clone(), pending()));
    }
    tokio::spawn(server.clone().serve_tls(outside, access, pending()));
    tokio::spawn(server.serve_unix(socket, pending()));
    let client = client::connect(Some(Path::new(layout::KUBECONFIG)), None).await?;
    Ok(Api { url, client, kubeconfig })
}

/// Where pods find the API. Those of IPv6 alone have no way to an address of IPv4.
fn reachable(plan: &Plan) -> IpAddr {
    match &plan.v6 {
        Some(v6) if plan.families == Families::V6 => v6.gateway.into(),
        _ => plan.gateway.into(),
    }
}

/// Puts what the API wants of containers into the supervisor's queue.
fn forward(events: Events) -> mpsc::UnboundedSender<ContainerRequest> {
    let (sender, mut requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            events.send(Event::Container(request)).ok();
        }
    });
    sender
}

fn adopted(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Starts the controllers at the given moment; they go on for ever.
pub(super) fn control(
    plan: &Plan,
    client: Client,
    moment: impl Future<Output = ()> + Send + 'static,
) {
    // The plan has given every node its part of the pod network, so the mask is only for nodes added later.
    let node_mask = plan.nodes.iter().map(|node| node.pod_cidr.prefix_len()).max().unwrap_or(24);
    let settings = Settings { cluster_cidrs: plan.pod_cidrs(), node_mask, ..Settings::lab() };
    tokio::spawn(async move {
        moment.await;
        if let Err(error) = controllers::run(client, settings).await {
            tracing::error!(error = crate::error::chain(&error), "the controllers have ended");
        }
    });
}
