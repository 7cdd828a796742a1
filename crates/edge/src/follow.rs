//! The edge of a node of a cluster: configuration from VirtualIP and Node objects, status back to them.

use crate::config::{self, Algorithm, Backend, Dial, Listener, VirtualIp};
use crate::status::{State, Status};
use client::{Client, Event, Kind, Replica, watch_kinds};
use model::World;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};
use wire::machine::health;
use wire::vrrp::{Addresses, Centiseconds, Interval};

/// Why a node cannot be the edge of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no Node {node} with an IPv4 InternalIP")]
    NoAddress { node: String },
    #[error("no interface has {address}, the InternalIP of Node {node}")]
    NoInterface { node: String, address: Ipv4Addr },
    #[error("reading the interfaces")]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Edge(#[from] crate::Error),
}

/// Takes part in the virtual IPs of the cluster that `client` leads to, until `shutdown`.
///
/// Says in `status.node` of a VirtualIP that this node holds it, while it does. `started` is called when the cluster
/// is known and this node takes part.
pub async fn follow(
    client: Client,
    node: &str,
    interface: Option<&str>,
    started: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut watcher = watch_kinds(&client, &[Kind::NODE.into(), Kind::VIRTUAL_IP.into()]);
    let mut replica = Replica::default();
    // A half-known cluster would make the node resign from what its predecessor held.
    while !watcher.is_synced() || own_address(replica.world(), node).is_err() {
        match watcher.next().await {
            Event::Synced => info!("all objects known"),
            event => drop(replica.absorb(event)),
        }
    }
    let interface = find_interface(replica.world(), node, interface)?;
    let (config, configured) = watch::channel(configuration(replica.world(), node));
    let (reporter, mut reported) = watch::channel(Vec::new());
    started();
    let following = async {
        loop {
            tokio::select! {
                event = watcher.next() => {
                    if !replica.absorb(event).is_empty() {
                        let wanted = configuration(replica.world(), node);
                        config.send_if_modified(|now| {
                            let differs = *now != wanted;
                            *now = wanted;
                            differs
                        });
                    }
                }
                Ok(()) = reported.changed() => {}
            }
            let statuses = reported.borrow_and_update().clone();
            report(&client, replica.world(), node, &statuses).await;
        }
    };
    let running = crate::run(interface, configured, reporter, shutdown);
    tokio::select! {
        outcome = running => Ok(outcome?),
        () = following => Ok(()),
    }
}

/// Takes part in the virtual IPs of a world that does not change, until `shutdown`.
pub async fn stand_alone(
    world: &World,
    node: &str,
    interface: Option<&str>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let interface = find_interface(world, node, interface)?;
    let (_config, configured) = watch::channel(configuration(world, node));
    let (reporter, _reported) = watch::channel(Vec::new());
    Ok(crate::run(interface, configured, reporter, shutdown).await?)
}

/// What the edge of a node has to do in this world.
#[must_use]
pub fn configuration(world: &World, node: &str) -> Vec<VirtualIp> {
    let (virtual_ips, findings) = compile::virtual_ips(world, node);
    for finding in findings {
        warn!(code = %finding.code, origin = %finding.origin, "{}", finding.text);
    }
    from_program(&virtual_ips)
}

/// What cannot be done here (IPv6 addresses) is left out and told.
fn from_program(virtual_ips: &BTreeMap<Arc<str>, program::VirtualIp>) -> Vec<VirtualIp> {
    let one = |(name, vip): (&Arc<str>, &program::VirtualIp)| {
        let addresses = vip.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(address) => {
                warn!(%address, vip = %name, "IPv6 addresses of virtual IPs are not served yet");
                None
            }
        });
        Some(VirtualIp {
            name: name.to_string(),
            addresses: Addresses::new(addresses.collect())?,
            vrid: NonZeroU8::new(vip.virtual_router_id)?,
            interval: Interval::V3(Centiseconds::from_duration(vip.interval)?),
            priority: NonZeroU8::new(vip.priority)?,
            preempt: vip.preempt,
            listeners: vip.listeners.iter().map(listener).collect(),
        })
    };
    virtual_ips.iter().filter_map(one).collect()
}

fn listener(listener: &program::edge::Listener) -> Listener {
    let check = &listener.health_check;
    let count = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let name = match listener.name.as_str() {
        "" => listener.port.to_string(),
        name => name.to_owned(),
    };
    Listener {
        name,
        port: listener.port,
        algorithm: match listener.algorithm {
            model::Algorithm::RoundRobin => Algorithm::RoundRobin,
            model::Algorithm::LeastConnections => Algorithm::LeastConnections,
        },
        backends: listener
            .backends
            .iter()
            .map(|backend| Backend { name: backend.node.to_string(), address: backend.address })
            .collect(),
        health_check: Some(health::Config {
            interval: check.interval,
            timeout: check.timeout,
            fall: count(check.fall),
            rise: count(check.rise),
        }),
        dial: Dial::default(),
    }
}

fn own_address(world: &World, node: &str) -> Result<Ipv4Addr, Error> {
    let addresses = world.node(node).map(|node| node.addresses.as_slice()).unwrap_or_default();
    let ipv4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    ipv4.ok_or_else(|| Error::NoAddress { node: node.to_owned() })
}

fn find_interface(
    world: &World,
    node: &str,
    wanted: Option<&str>,
) -> Result<config::Interface, Error> {
    let address = own_address(world, node)?;
    let mut socket = kernel::netlink::Socket::route()?;
    let addresses = kernel::route::addresses(&mut socket)?;
    let found = addresses.into_iter().find(|have| have.net.addr() == IpAddr::V4(address));
    let name = wanted.map(str::to_owned).or_else(|| found.map(|found| found.device));
    let name = name.ok_or_else(|| Error::NoInterface { node: node.to_owned(), address })?;
    info!(interface = name, %address, "edge");
    Ok(config::Interface { name, address })
}

async fn report(client: &Client, world: &World, node: &str, statuses: &[Status]) {
    let owned = world.virtual_ips().filter(|vip| {
        let ours =
            |status: &Status| *vip.meta.key.name == status.name && status.state == State::Active;
        statuses.iter().any(ours) && vip.owner.as_deref() != Some(node)
    });
    for vip in owned {
        let name = &vip.meta.key.name;
        let status = json!({"status": {"node": node}});
        match client::patch_status(client, Kind::VIRTUAL_IP, None, name, &status).await {
            Ok(_) => info!(vip = %name, "this node holds the addresses"),
            Err(error) => {
                warn!(vip = %name, %error, "cannot report that this node holds the addresses")
            }
        }
    }
}
