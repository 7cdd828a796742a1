//! Nodes.

use crate::field::{Field, FieldError};
use crate::object::Meta;
use ipnet::IpNet;
use serde_json::Value;
use std::net::IpAddr;
use wire::Mac;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub meta: Meta,
    /// `status.addresses` of type InternalIP, in order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`, else `spec.podCIDR`.
    pub pod_cidrs: Vec<IpNet>,
    /// The Ready condition is True; a node without conditions counts as ready.
    pub ready: bool,
    /// Its end of the VXLAN, where it has announced one.
    pub vtep: Option<Vtep>,
}

/// A node's VXLAN tunnel end point, from the annotations that flannel defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vtep {
    /// Underlay address that the outer packets go to.
    pub public_ip: IpAddr,
    pub mac: Mac,
    pub vni: u32,
}

impl Vtep {
    pub const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
    pub const BACKEND_DATA: &str = "flannel.alpha.coreos.com/backend-data";
    pub const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
    pub const KUBE_SUBNET_MANAGER: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

    /// The annotations that announce it, octet for octet as flannel writes them:
    /// flannel finds its MAC again by splitting at `:"`.
    pub fn annotations(&self) -> [(&'static str, String); 4] {
        [
            (Vtep::BACKEND_TYPE, "vxlan".to_owned()),
            (Vtep::BACKEND_DATA, format!(r#"{{"VNI":{},"VtepMAC":"{}"}}"#, self.vni, self.mac)),
            (Vtep::PUBLIC_IP, self.public_ip.to_string()),
            (Vtep::KUBE_SUBNET_MANAGER, "true".to_owned()),
        ]
    }

    /// `None` where the node announced nothing, another back end, or nonsense.
    fn from_annotations(meta: &Meta) -> Option<Self> {
        let annotation = |name| meta.annotations.get(name);
        if annotation(Vtep::BACKEND_TYPE)? != "vxlan" {
            return None;
        }
        let data: Value = serde_json::from_str(annotation(Vtep::BACKEND_DATA)?).ok()?;
        Some(Vtep {
            public_ip: annotation(Vtep::PUBLIC_IP)?.parse().ok()?,
            mac: data.get("VtepMAC")?.as_str()?.parse().ok()?,
            vni: u32::try_from(data.get("VNI").and_then(Value::as_u64).unwrap_or(1)).ok()?,
        })
    }
}

impl Node {
    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let vtep = Vtep::from_annotations(&meta);
        Ok(Node {
            addresses: internal_addresses(object)?,
            pod_cidrs: pod_cidrs(object)?,
            ready: is_ready(object)?,
            vtep,
            meta,
        })
    }
}

fn internal_addresses(object: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    let mut addresses = Vec::new();
    for entry in object.at("status").at("addresses").items()? {
        if entry.at("type").text()? == "InternalIP" {
            addresses.push(entry.at("address").ip()?);
        }
    }
    Ok(addresses)
}

fn pod_cidrs(object: &Field<'_>) -> Result<Vec<IpNet>, FieldError> {
    let expected = "a prefix like 10.244.0.0/24";
    let spec = object.at("spec");
    let mut listed = spec.at("podCIDRs").items()?;
    if listed.is_empty() {
        listed.push(spec.at("podCIDR"));
    }
    let parsed = listed.iter().map(|entry| entry.optional_parsed::<IpNet>(expected));
    parsed.filter_map(Result::transpose).map(|net| net.map(|net| net.trunc())).collect()
}

fn is_ready(object: &Field<'_>) -> Result<bool, FieldError> {
    for condition in object.at("status").at("conditions").items()? {
        if condition.at("type").text()? == "Ready" {
            return Ok(condition.at("status").text()? == "True");
        }
    }
    Ok(true)
}
