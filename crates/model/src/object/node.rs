//! Nodes.

use crate::field::{Field, FieldError};
use crate::object::proxy::Proxy;
use crate::object::{Family, Meta};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeMap;
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
    /// Its ends of the VXLAN, where it has announced any: one for each family of pods.
    pub vteps: BTreeMap<Family, Vtep>,
    /// The settings of its agent, where one announced any; or what is wrong with them.
    pub proxy: Option<Result<Proxy, FieldError>>,
    /// Nobody is to send it new connections from outside: it is about to go
    /// (taint `ToBeDeletedByClusterAutoscaler`, or being deleted).
    pub leaving: bool,
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
    pub const BACKEND_V6_DATA: &str = "flannel.alpha.coreos.com/backend-v6-data";
    pub const PUBLIC_IPV6: &str = "flannel.alpha.coreos.com/public-ipv6";
    pub const KUBE_SUBNET_MANAGER: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

    /// The annotations that announce it, octet for octet as flannel writes them:
    /// flannel finds its MAC again by splitting at `:"`.
    pub fn annotations(&self) -> [(&'static str, String); 4] {
        let (data, public_ip) = Vtep::names(Family::of(self.public_ip));
        [
            (Vtep::BACKEND_TYPE, "vxlan".to_owned()),
            (data, format!(r#"{{"VNI":{},"VtepMAC":"{}"}}"#, self.vni, self.mac)),
            (public_ip, self.public_ip.to_string()),
            (Vtep::KUBE_SUBNET_MANAGER, "true".to_owned()),
        ]
    }

    fn names(family: Family) -> (&'static str, &'static str) {
        match family {
            Family::V4 => (Vtep::BACKEND_DATA, Vtep::PUBLIC_IP),
            Family::V6 => (Vtep::BACKEND_V6_DATA, Vtep::PUBLIC_IPV6),
        }
    }

    /// `None` where the node announced nothing, another back end, or nonsense.
    fn from_annotations(meta: &Meta, family: Family) -> Option<Self> {
        let annotation = |name| meta.annotations.get(name);
        if annotation(Vtep::BACKEND_TYPE)? != "vxlan" {
            return None;
        }
        let (data, public_ip) = Vtep::names(family);
        let data: Value = serde_json::from_str(annotation(data)?).ok()?;
        let public_ip: IpAddr = annotation(public_ip)?.parse().ok()?;
        Some(Vtep {
            public_ip: Some(public_ip).filter(|ip| Family::of(*ip) == family)?,
            mac: data.get("VtepMAC")?.as_str()?.parse().ok()?,
            vni: u32::try_from(data.get("VNI").and_then(Value::as_u64).unwrap_or(1)).ok()?,
        })
    }
}

impl Node {
    pub const ZONE: &str = "topology.kubernetes.io/zone";

    pub fn zone(&self) -> Option<&str> {
        self.meta.labels.get(Node::ZONE).map(String::as_str)
    }

    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let vtep = |family| Some((family, Vtep::from_annotations(&meta, family)?));
        let vteps = Family::ALL.into_iter().filter_map(vtep).collect();
        let announced = meta.annotations.get(Proxy::ANNOTATION);
        let proxy = announced.map(|text| Proxy::announced(text));
        Ok(Node {
            addresses: internal_addresses(object)?,
            pod_cidrs: pod_cidrs(object)?,
            ready: is_ready(object)?,
            vteps,
            proxy,
            leaving: meta.terminating || is_to_be_deleted(object)?,
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

fn is_to_be_deleted(object: &Field<'_>) -> Result<bool, FieldError> {
    for taint in object.at("spec").at("taints").items()? {
        if taint.at("key").optional_text()? == Some("ToBeDeletedByClusterAutoscaler") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_ready(object: &Field<'_>) -> Result<bool, FieldError> {
    for condition in object.at("status").at("conditions").items()? {
        if condition.at("type").text()? == "Ready" {
            return Ok(condition.at("status").text()? == "True");
        }
    }
    Ok(true)
}
