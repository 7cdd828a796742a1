//! Who asks for what: text to hosts and addresses.

use crate::near::nearest;
use crate::path::Host;
use crate::settings::Settings;
use model::{Kind, ObjectKey, Pod, Protocol, Service, ServiceType, World};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A question as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `client`, `node/NAME`, `pod/[NAMESPACE/]NAME` or an address.
    pub from: String,
    /// `IP:PORT`, `svc/[NAMESPACE/]NAME:PORT`, `pod/[NAMESPACE/]NAME:PORT`, `node/NAME:PORT` or `client:PORT`.
    pub to: String,
    pub protocol: Protocol,
}

/// Why a question cannot be answered as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error("--from {text}: expected client, node/NAME, pod/NAMESPACE/NAME or an IP address")]
    From { text: String },
    #[error(
        "--to {text}: expected IP:PORT, svc/NAMESPACE/NAME:PORT, pod/NAMESPACE/NAME:PORT or node/NAME:PORT"
    )]
    To { text: String },
    #[error("{kind} {name} does not exist{}", meant(near))]
    NotFound { kind: Kind, name: String, near: Vec<String> },
    #[error("Service {service} has no port named {port}; it has {}", .ports.join(", "))]
    NoSuchPort { service: ObjectKey, port: String, ports: Vec<String> },
    #[error("{kind} {name} has no address yet{}", .reason)]
    NoAddress { kind: Kind, name: ObjectKey, reason: String },
    #[error("the client's address is not known: give it with --client-ip")]
    NoClient,
    /// A Service without a cluster IP, and what it is instead.
    #[error("Service {service} has no cluster IP: {what}")]
    NoClusterIp { service: ObjectKey, what: String },
    #[error("{address} is the virtual IP {vip}: it receives only; ask from the node that holds it")]
    FromVirtualIp { address: IpAddr, vip: String },
    #[error("{source_ip} and {destination} are not of the same IP family")]
    MixedFamilies { source_ip: IpAddr, destination: IpAddr },
}

fn meant(near: &[String]) -> String {
    match near {
        [] => "; there are none at all".to_owned(),
        [one] => format!("; the nearest is {one}"),
        _ => format!("; the nearest are {}", near.join(", ")),
    }
}

/// A sender that exists (or is assumed to).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) host: Host,
    /// `None` for nodes: which of its addresses a node sends from depends on the way.
    pub(crate) address: Option<IpAddr>,
    /// The pod on the host's own network that the packets really come from.
    pub(crate) host_network_pod: Option<ObjectKey>,
}

/// A destination as packets carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// How to call it in the answer.
    pub(crate) text: String,
}

pub(crate) fn sender(
    world: &World,
    settings: &Settings,
    text: &str,
) -> Result<Sender, QuestionError> {
    let (word, rest) = text.split_once('/').unwrap_or((text, ""));
    let plain = |host, address| Sender { host, address, host_network_pod: None };
    match (word, rest) {
        ("client", "") => {
            Ok(plain(Host::Client, Some(settings.client.ok_or(QuestionError::NoClient)?)))
        }
        ("node", name) if !name.is_empty() => {
            let node = node(world, name)?;
            Ok(plain(Host::Node(node.meta.key.name.clone()), None))
        }
        ("pod", name) if !name.is_empty() => pod_sender(pod(world, name)?),
        _ => {
            let failure = || QuestionError::From { text: text.to_owned() };
            address_sender(world, settings, text.parse().map_err(|_not_an_ip| failure())?)
        }
    }
}

fn pod_sender(pod: &Pod) -> Result<Sender, QuestionError> {
    let key = pod.meta.key.clone();
    let node = pod.node.as_deref().ok_or_else(|| no_address(pod))?;
    if pod.host_network {
        let host = Host::Node(node.into());
        return Ok(Sender { host, address: None, host_network_pod: Some(key) });
    }
    let address = pod_address(pod)?;
    Ok(Sender { host: Host::Pod(key), address: Some(address), host_network_pod: None })
}

fn address_sender(
    world: &World,
    settings: &Settings,
    address: IpAddr,
) -> Result<Sender, QuestionError> {
    let host = if let Some(pod) = world.pod_with_address(address) {
        Host::Pod(pod.meta.key.clone())
    } else if let Some(node) = world.node_with_address(address) {
        Host::Node(node.meta.key.name.clone())
    } else if let Some(vip) = world.virtual_ips().find(|vip| vip.addresses.contains(&address)) {
        return Err(QuestionError::FromVirtualIp { address, vip: vip.meta.key.to_string() });
    } else if settings.client == Some(address) {
        Host::Client
    } else {
        Host::Outside(address)
    };
    Ok(Sender { host, address: Some(address), host_network_pod: None })
}

pub(crate) fn target(
    world: &World,
    settings: &Settings,
    question: &Question,
) -> Result<Target, QuestionError> {
    let text = question.to.as_str();
    let failure = || QuestionError::To { text: text.to_owned() };
    let named =
        |address, port| Target { address: SocketAddr::new(address, port), text: text.into() };
    let (host, port) = text.rsplit_once(':').ok_or_else(failure)?;
    let number = || port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(failure);
    let (word, name) = host.split_once('/').unwrap_or((host, ""));
    match (word, name) {
        ("svc" | "service", name) if !name.is_empty() => {
            let service = service(world, name)?;
            let port = service_port(service, port)?.ok_or_else(failure)?;
            Ok(named(cluster_ip(world, service)?, port))
        }
        ("pod", name) if !name.is_empty() => Ok(named(pod_address(pod(world, name)?)?, number()?)),
        ("node", name) if !name.is_empty() => {
            let node = node(world, name)?;
            let address = node.addresses.first().ok_or_else(|| QuestionError::NoAddress {
                kind: Kind::Node,
                name: node.meta.key.clone(),
                reason: ": status.addresses holds no InternalIP".to_owned(),
            })?;
            Ok(named(*address, number()?))
        }
        ("client", "") => Ok(named(settings.client.ok_or(QuestionError::NoClient)?, number()?)),
        _ => {
            let address: SocketAddr = text.parse().map_err(|_not_an_address| failure())?;
            number()?;
            Ok(Target { address, text: text.to_owned() })
        }
    }
}

/// A port by number, whether the Service has it or not, or by a name that it has.
fn service_port(service: &Service, port: &str) -> Result<Option<u16>, QuestionError> {
    if port.chars().all(|digit| digit.is_ascii_digit()) {
        return Ok(port.parse().ok().filter(|port| *port != 0));
    }
    let found = service.ports.iter().find(|have| have.name == port);
    found.map(|have| Some(have.port)).ok_or_else(|| QuestionError::NoSuchPort {
        service: service.meta.key.clone(),
        port: port.to_owned(),
        ports: service.ports.iter().map(|port| PortText(port).to_string()).collect(),
    })
}

/// A Service's port as people say it: `80/TCP (http)`.
pub(crate) struct PortText<'a>(pub(crate) &'a model::ServicePort);

impl fmt::Display for PortText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.port, self.0.protocol)?;
        if self.0.name.is_empty() { Ok(()) } else { write!(f, " ({})", self.0.name) }
    }
}

fn cluster_ip(world: &World, service: &Service) -> Result<IpAddr, QuestionError> {
    if let Some(address) = service.cluster_ips.first()
        && service.kind != ServiceType::ExternalName
    {
        return Ok(*address);
    }
    let what = if service.kind == ServiceType::ExternalName {
        "it is of type ExternalName, an alias that exists in DNS only".to_owned()
    } else if service.headless {
        let key = &service.meta.key;
        let ready = world.slices_of(key).flat_map(|slice| {
            let endpoints = slice.endpoints.iter().enumerate();
            endpoints.filter(|(_, it)| it.ready).filter_map(|(index, _)| slice.pod(index))
        });
        let pods: Vec<_> = ready.map(|pod| format!("pod/{}/{pod}", key.namespace)).collect();
        let pods = if pods.is_empty() { "none is ready".to_owned() } else { pods.join(", ") };
        format!(
            "it is headless, so DNS answers with its pods' own addresses; ask for one of them ({pods})"
        )
    } else {
        "none is allocated yet".to_owned()
    };
    Err(QuestionError::NoClusterIp { service: service.meta.key.clone(), what })
}

fn node<'a>(world: &'a World, name: &str) -> Result<&'a model::Node, QuestionError> {
    world.node(name).ok_or_else(|| QuestionError::NotFound {
        kind: Kind::Node,
        name: name.to_owned(),
        near: nearest(name, world.nodes().map(|node| format!("{}", node.meta.key))),
    })
}

fn key(name: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ObjectKey::new(namespace, name)
}

fn pod<'a>(world: &'a World, name: &str) -> Result<&'a Pod, QuestionError> {
    let key = key(name);
    world.pod(&key).ok_or_else(|| QuestionError::NotFound {
        kind: Kind::Pod,
        name: key.to_string(),
        near: nearest(&key.to_string(), world.pods().map(|pod| pod.meta.key.to_string())),
    })
}

fn service<'a>(world: &'a World, name: &str) -> Result<&'a Service, QuestionError> {
    let key = key(name);
    world.service(&key).ok_or_else(|| QuestionError::NotFound {
        kind: Kind::Service,
        name: key.to_string(),
        near: nearest(&key.to_string(), world.services().map(|have| have.meta.key.to_string())),
    })
}

fn pod_address(pod: &Pod) -> Result<IpAddr, QuestionError> {
    pod.addresses.first().copied().ok_or_else(|| no_address(pod))
}

fn no_address(pod: &Pod) -> QuestionError {
    let reason = match &pod.node {
        None => ": it is not on any node".to_owned(),
        Some(node) => format!(": node {node} has not started it"),
    };
    QuestionError::NoAddress { kind: Kind::Pod, name: pod.meta.key.clone(), reason }
}
