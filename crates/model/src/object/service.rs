//! Services.

use crate::field::{Field, FieldError};
use crate::object::{Meta, PortRef, Protocol};
use crate::selector::Selector;
use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub meta: Meta,
    pub kind: ServiceType,
    /// `spec.clusterIPs`, else `spec.clusterIP`; empty for headless Services and where none is allocated yet.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `None`: the endpoints are made by hand.
    pub selector: Option<Selector>,
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for the only port of a Service.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub target: PortRef,
    pub node_port: Option<u16>,
}

impl Service {
    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let spec = object.at("spec");
        let selector = spec.at("selector").strings()?;
        let ports = spec.at("ports").items()?;
        Ok(Service {
            kind: ServiceType::parse(&spec.at("type"))?,
            cluster_ips: cluster_ips(&spec)?,
            headless: spec.at("clusterIP").optional_text()? == Some("None"),
            selector: (!selector.is_empty()).then(|| Selector::from_labels(selector)),
            ports: ports.iter().map(ServicePort::parse).collect::<Result<_, _>>()?,
            publish_not_ready_addresses: spec
                .at("publishNotReadyAddresses")
                .optional_bool()?
                .unwrap_or(false),
            meta,
        })
    }
}

impl ServiceType {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        match field.optional_text()? {
            None | Some("ClusterIP") => Ok(ServiceType::ClusterIp),
            Some("NodePort") => Ok(ServiceType::NodePort),
            Some("LoadBalancer") => Ok(ServiceType::LoadBalancer),
            Some("ExternalName") => Ok(ServiceType::ExternalName),
            Some(_) => Err(field.error("ClusterIP, NodePort, LoadBalancer or ExternalName")),
        }
    }
}

impl ServicePort {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let port = field.at("port").port()?;
        let node_port = field.at("nodePort").optional_number::<u16>("a node port number")?;
        Ok(ServicePort {
            name: field.at("name").optional_text()?.unwrap_or_default().to_owned(),
            protocol: Protocol::parse(&field.at("protocol"))?,
            port,
            target: PortRef::parse(&field.at("targetPort"))?.unwrap_or(PortRef::Number(port)),
            node_port: node_port.filter(|port| *port != 0),
        })
    }
}

fn cluster_ips(spec: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    let mut listed = spec.at("clusterIPs").items()?;
    if listed.is_empty() {
        listed.push(spec.at("clusterIP"));
    }
    let mut addresses = Vec::new();
    for entry in &listed {
        match entry.optional_text()? {
            None | Some("" | "None") => {}
            Some(_) => addresses.push(entry.ip()?),
        }
    }
    Ok(addresses)
}
