//! Typed objects, as far as the network path depends on them.

pub mod endpoints;
pub mod lifecycle;
pub mod node;
pub mod pod;
pub mod proxy;
pub mod service;
pub mod service_cidr;
pub mod virtual_ip;
pub mod workload;

use crate::field::{Field, FieldError};
use crate::name::shared;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// The kinds that this model understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Deployment,
    Service,
    EndpointSlice,
    ServiceCidr,
    VirtualIp,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Namespace,
        Kind::Node,
        Kind::Pod,
        Kind::Deployment,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::ServiceCidr,
        Kind::VirtualIp,
    ];

    /// `apiVersion`, `kind` and the plural name in URLs.
    pub fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Namespace => ("v1", "Namespace", "namespaces"),
            Kind::Node => ("v1", "Node", "nodes"),
            Kind::Pod => ("v1", "Pod", "pods"),
            Kind::Deployment => ("apps/v1", "Deployment", "deployments"),
            Kind::Service => ("v1", "Service", "services"),
            Kind::EndpointSlice => ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
            Kind::ServiceCidr => ("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs"),
            Kind::VirtualIp => ("podway.io/v1alpha1", "VirtualIP", "virtualips"),
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node | Kind::ServiceCidr | Kind::VirtualIp)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().1)
    }
}

/// A kind this model has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind that Podway's model knows")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Kind::ALL.into_iter().find(|kind| kind.names().1 == text).ok_or(UnknownKind)
    }
}

/// Namespace and name; the namespace is empty for cluster-scoped objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        ObjectKey { namespace: shared(namespace), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The part of `metadata` that matters to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub key: ObjectKey,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `deletionTimestamp` is set.
    pub terminating: bool,
}

impl Meta {
    /// Forgets what only other kinds are asked for: the UID, and all labels and annotations but these.
    pub(crate) fn keep_only(&mut self, names: &[&str]) {
        let keep = |map: &mut BTreeMap<String, String>| {
            // Made anew, for an emptied map keeps its memory.
            let kept = std::mem::take(map).into_iter();
            *map = kept.filter(|(name, _)| names.contains(&name.as_str())).collect();
        };
        keep(&mut self.labels);
        keep(&mut self.annotations);
        self.uid = String::new();
    }

    fn parse(kind: Kind, object: &Field<'_>) -> Result<Self, FieldError> {
        let metadata = object.at("metadata");
        let name = metadata.at("name").text()?;
        let namespace = match metadata.at("namespace").optional_text()? {
            _ if !kind.is_namespaced() => "",
            Some(namespace) if !namespace.is_empty() => namespace,
            _ => "default",
        };
        Ok(Meta {
            key: ObjectKey::new(namespace, name),
            uid: metadata.at("uid").optional_text()?.unwrap_or_default().to_owned(),
            labels: metadata.at("labels").strings()?,
            annotations: metadata.at("annotations").strings()?,
            terminating: metadata.at("deletionTimestamp").is_present(),
        })
    }
}

/// The two Internet Protocols, each a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn of_net(net: &IpNet) -> Self {
        Family::of(net.addr())
    }

    /// `0.0.0.0` or `::`.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// As `spec.ipFamilies` writes them.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Transport protocols a Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The `protocol` member of this field; TCP when absent.
    pub(crate) fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        match field.optional_text()? {
            None | Some("TCP") => Ok(Protocol::Tcp),
            Some("UDP") => Ok(Protocol::Udp),
            Some("SCTP") => Ok(Protocol::Sctp),
            Some(_) => Err(field.error("TCP, UDP or SCTP")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// A port by number or by the name that a container gave it (`IntOrString`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    Number(u16),
    Name(String),
}

impl PortRef {
    pub(crate) fn parse(field: &Field<'_>) -> Result<Option<Self>, FieldError> {
        let expected = "a port number from 1 to 65535 or the name of a container port";
        match (field.optional_text(), field.optional_port()) {
            (Ok(Some(name)), _) if !name.is_empty() => Ok(Some(PortRef::Name(name.to_owned()))),
            (_, Ok(port)) => Ok(port.map(PortRef::Number)),
            _ => Err(field.error(expected)),
        }
    }
}

/// An object of a kind the model understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Namespace(Meta),
    Node(node::Node),
    Pod(pod::Pod),
    Deployment(workload::Deployment),
    Service(service::Service),
    EndpointSlice(endpoints::EndpointSlice),
    ServiceCidr(service_cidr::ServiceCidr),
    VirtualIp(virtual_ip::VirtualIp),
}

/// Why a value is no object of the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Well formed, but of a kind that does not concern the model (ConfigMap, Role…).
    #[error("kind {kind} ({api_version}) does not concern the network model")]
    OtherKind { api_version: String, kind: String },
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl Object {
    /// Parses a manifest or an API object (`apiVersion` and `kind` must be there).
    pub fn parse(value: &Value) -> Result<Object, ObjectError> {
        let root = Field::root(value);
        let (api_version, kind) = (root.at("apiVersion").text()?, root.at("kind").text()?);
        let known = kind.parse::<Kind>().ok().filter(|kind| kind.names().0 == api_version);
        let Some(known) = known else {
            let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
            return Err(ObjectError::OtherKind { api_version, kind });
        };
        let meta = Meta::parse(known, &root)?;
        Ok(match known {
            Kind::Namespace => Object::Namespace(meta),
            Kind::Node => Object::Node(node::Node::parse(meta, &root)?),
            Kind::Pod => Object::Pod(pod::Pod::parse(meta, &root)?),
            Kind::Deployment => Object::Deployment(workload::Deployment::parse(meta, &root)?),
            Kind::Service => Object::Service(service::Service::parse(meta, &root)?),
            Kind::EndpointSlice => {
                Object::EndpointSlice(endpoints::EndpointSlice::parse(meta, &root)?)
            }
            Kind::ServiceCidr => {
                Object::ServiceCidr(service_cidr::ServiceCidr::parse(meta, &root)?)
            }
            Kind::VirtualIp => Object::VirtualIp(virtual_ip::VirtualIp::parse(meta, &root)?),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Object::Namespace(_) => Kind::Namespace,
            Object::Node(_) => Kind::Node,
            Object::Pod(_) => Kind::Pod,
            Object::Deployment(_) => Kind::Deployment,
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::ServiceCidr(_) => Kind::ServiceCidr,
            Object::VirtualIp(_) => Kind::VirtualIp,
        }
    }

    pub fn meta(&self) -> &Meta {
        match self {
            Object::Namespace(meta) => meta,
            Object::Node(node) => &node.meta,
            Object::Pod(pod) => &pod.meta,
            Object::Deployment(deployment) => &deployment.meta,
            Object::Service(service) => &service.meta,
            Object::EndpointSlice(slice) => &slice.meta,
            Object::ServiceCidr(cidr) => &cidr.meta,
            Object::VirtualIp(vip) => &vip.meta,
        }
    }
}
