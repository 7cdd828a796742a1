//! The API of the lab's cluster, and what stands behind it.

use crate::plan::Plan;
use crate::{Error, Result};
use apiserver::{ApiServer, Config};
use client::Client;
use controllers::Settings;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Where the API listens on the gateway's address.
const PORT: u16 = 6443;

/// Starts the API; returns its URL and a client of it.
pub(super) async fn serve(plan: &Plan) -> Result<(String, Client)> {
    let address = SocketAddr::new(IpAddr::V4(plan.gateway), PORT);
    let config = Config { service_cidr: IpNet::V4(plan.service_cidr), ..Config::new(address) };
    let server = ApiServer::new(&config).map_err(|source| Error::Server(Box::new(source)))?;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(Error::file("listen on", address.to_string()))?;
    tokio::spawn(server.serve(listener, std::future::pending()));
    let url = format!("http://{address}");
    let client = client::connect(None, Some(&url)).await?;
    Ok((url, client))
}

/// Starts the controllers; they go on for ever.
pub(super) fn control(plan: &Plan, client: Client) {
    // The plan has given every node its part of the pod network, so the mask is only for nodes added later.
    let node_mask = plan.nodes.iter().map(|node| node.pod_cidr.prefix_len()).max().unwrap_or(24);
    let settings =
        Settings { cluster_cidr: IpNet::V4(plan.pod_cidr), node_mask, ..Settings::lab() };
    tokio::spawn(async move {
        if let Err(error) = controllers::run(client, settings).await {
            tracing::error!(error = crate::error::chain(&error), "the controllers have ended");
        }
    });
}
