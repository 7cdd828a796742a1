//! EndpointSlices.

use crate::field::{Field, FieldError};
use crate::object::{Meta, ObjectKey, Protocol};
use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    pub meta: Meta,
    /// The Service it belongs to, from the label `kubernetes.io/service-name`.
    pub service: Option<ObjectKey>,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// Empty for an unnamed port; equal to the Service port's name.
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of `addresses`: the only one that counts.
    pub address: IpAddr,
    pub node: Option<String>,
    /// `conditions.ready`; absent counts as true.
    pub ready: bool,
    /// `conditions.serving`; absent counts as true.
    pub serving: bool,
    pub terminating: bool,
    /// The pod it is, from `targetRef`.
    pub pod: Option<ObjectKey>,
}

impl EndpointSlice {
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let name = meta.labels.get(Self::SERVICE_NAME);
        let service = name.map(|name| ObjectKey {
            namespace: meta.key.namespace.clone(),
            name: name.as_str().into(),
        });
        let ports = object.at("ports").items()?;
        let endpoints = object.at("endpoints").items()?;
        Ok(EndpointSlice {
            service,
            ports: ports
                .iter()
                .filter_map(|port| EndpointPort::parse(port).transpose())
                .collect::<Result<_, _>>()?,
            endpoints: endpoints.iter().map(Endpoint::parse).collect::<Result<_, _>>()?,
            meta,
        })
    }
}

impl EndpointPort {
    /// `None` for a port that is absent or 0: such ports mean nothing.
    fn parse(field: &Field<'_>) -> Result<Option<Self>, FieldError> {
        let port = field.at("port").optional_number::<u16>("a port number from 0 to 65535")?;
        let Some(port) = port.filter(|port| *port != 0) else { return Ok(None) };
        Ok(Some(EndpointPort {
            name: field.at("name").optional_text()?.unwrap_or_default().to_owned(),
            port,
            protocol: Protocol::parse(&field.at("protocol"))?,
        }))
    }
}

impl Endpoint {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let addresses = field.at("addresses");
        let listed = addresses.items()?;
        let first = listed.first().ok_or_else(|| addresses.error("at least one address"))?;
        let conditions = field.at("conditions");
        let target = field.at("targetRef");
        let pod = match target.at("kind").optional_text()? {
            Some("Pod") => Some(ObjectKey::new(
                target.at("namespace").optional_text()?.unwrap_or("default"),
                target.at("name").text()?,
            )),
            _ => None,
        };
        Ok(Endpoint {
            address: first.ip()?,
            node: field.at("nodeName").optional_text()?.map(str::to_owned),
            ready: conditions.at("ready").optional_bool()?.unwrap_or(true),
            serving: conditions.at("serving").optional_bool()?.unwrap_or(true),
            terminating: conditions.at("terminating").optional_bool()?.unwrap_or(false),
            pod,
        })
    }
}
