//! IPv6: a second network beside that of IPv4, node by node.
//!
//! Every machine has an address of IPv4 in any case, by which it finds the lab's API; in a cluster of IPv6 alone nobody
//! in it knows of those.

use super::node::{conflict, subnets};
use super::{PlanError, PlannedNode, Problem};
use crate::Manifest;
use ipnet::{IpNet, Ipv6Net};
use model::{Field, FieldError};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const UNDERLAY: Ipv6Net = net(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0), 64);
const PODS: Ipv6Net = net(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0), 48);
const SERVICES: Ipv6Net = net(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);
/// A node's share of the pod network.
const SHARE: u8 = 64;

const fn net(address: Ipv6Addr, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(address, length)
}

/// Of which families pods and Services are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Families {
    #[default]
    V4,
    V6,
    /// IPv4 first.
    Dual,
}

/// Not a word for families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ipv4, ipv6 or dual")]
pub struct UnknownFamilies;

impl FromStr for Families {
    type Err = UnknownFamilies;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ipv4" => Ok(Families::V4),
            "ipv6" => Ok(Families::V6),
            "dual" => Ok(Families::Dual),
            _ => Err(UnknownFamilies),
        }
    }
}

impl Families {
    /// Dual where an object of the cluster speaks of IPv6.
    pub(super) fn wanted_by(manifests: &[Manifest]) -> Self {
        let speaks = |manifest: &Manifest| {
            let list = |pointer: &str| {
                manifest
                    .value
                    .pointer(pointer)
                    .and_then(|list| list.as_array())
                    .into_iter()
                    .flatten()
            };
            let family = |text: &str| text == "IPv6";
            match manifest.text("/kind") {
                "Node" => {
                    let addresses =
                        list("/status/addresses").filter_map(|it| it["address"].as_str());
                    let subnets = list("/spec/podCIDRs").filter_map(|it| it.as_str());
                    addresses.chain(subnets).any(|text| text.contains(':'))
                }
                "Service" => {
                    list("/spec/ipFamilies").filter_map(|it| it.as_str()).any(family)
                        || manifest.text("/spec/ipFamilyPolicy") == "RequireDualStack"
                }
                _ => false,
            }
        };
        if manifests.iter().any(speaks) { Families::Dual } else { Families::V4 }
    }

    pub(super) fn choose<T>(self, v4: T, v6: Option<T>) -> Vec<T> {
        match self {
            Families::V4 => vec![v4],
            Families::V6 => v6.into_iter().collect(),
            Families::Dual => std::iter::once(v4).chain(v6).collect(),
        }
    }
}

/// The part of IPv6 in a lab's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanV6 {
    pub underlay: Ipv6Net,
    pub gateway: Ipv6Addr,
    pub client: Ipv6Addr,
    pub pod_cidr: Ipv6Net,
    pub service_cidr: Ipv6Net,
}

/// The part of IPv6 in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeV6 {
    pub address: Ipv6Addr,
    pub pod_cidr: Ipv6Net,
}

/// What a node's manifest declares of IPv6.
#[derive(Default)]
struct Declared {
    address: Option<Ipv6Addr>,
    pod_cidr: Option<Ipv6Net>,
    source: String,
}

/// Gives every node its part; what the manifests declare comes first.
pub(super) fn plan(
    manifests: &[Manifest],
    nodes: &mut [PlannedNode],
    gateway: Ipv4Addr,
    client: Ipv4Addr,
) -> Result<PlanV6, PlanError> {
    let mut declared = Vec::new();
    for node in nodes.iter() {
        declared.push(declare(manifests, &node.name)?);
    }
    let first = declared.iter().find_map(|it| it.address);
    let underlay = first.map_or(UNDERLAY, |address| net(address, UNDERLAY.prefix_len()).trunc());
    check(nodes, &declared, underlay)?;
    let taken: Vec<_> = declared.iter().filter_map(|it| it.pod_cidr).collect();
    let overlaps = |a: &Ipv6Net, b: &Ipv6Net| a.contains(b) || b.contains(a);
    let shares = PODS.subnets(SHARE).into_iter().flatten();
    let mut free = shares.filter(|share| !taken.iter().any(|other| overlaps(share, other)));
    let count = nodes.len();
    for (node, declared) in nodes.iter_mut().zip(&declared) {
        let too_small = || PlanError::Flag {
            flag: "the pod network",
            value: PODS.to_string(),
            problem: Problem::TooSmall(count),
        };
        node.v6 = Some(NodeV6 {
            address: declared.address.unwrap_or_else(|| like(underlay, node.address)),
            pod_cidr: declared.pod_cidr.or_else(|| free.next()).ok_or_else(too_small)?,
        });
    }
    let [gateway, client] = [gateway, client].map(|address| like(underlay, address));
    Ok(PlanV6 { underlay, gateway, client, pod_cidr: PODS, service_cidr: SERVICES })
}

fn declare(manifests: &[Manifest], name: &str) -> Result<Declared, PlanError> {
    let is_it = |it: &&Manifest| it.is("Node") && it.text("/metadata/name") == name;
    let Some(manifest) = manifests.iter().find(is_it) else { return Ok(Declared::default()) };
    let read = || -> Result<Declared, FieldError> {
        let root = Field::root(&manifest.value);
        let mut declared = Declared { source: manifest.source.clone(), ..Declared::default() };
        for entry in root.at("status").at("addresses").items()? {
            if entry.at("type").text()? == "InternalIP"
                && let IpAddr::V6(address) = entry.at("address").ip()?
            {
                declared.address.get_or_insert(address);
            }
        }
        let is_v6 = |subnet: IpNet| match subnet {
            IpNet::V4(_) => None,
            IpNet::V6(subnet) => Some(subnet.trunc()),
        };
        declared.pod_cidr = subnets(&root)?.into_iter().find_map(is_v6);
        Ok(declared)
    };
    read().map_err(|error| manifest.field_error(error))
}

/// Addresses in one subnet and nobody's twice, subnets in the pod network and apart.
fn check(nodes: &[PlannedNode], declared: &[Declared], underlay: Ipv6Net) -> Result<(), PlanError> {
    for (index, (node, own)) in nodes.iter().zip(declared).enumerate() {
        let others = || nodes.iter().zip(declared).take(index);
        let refuse = |field, value: String, problem| {
            Err(conflict(&own.source, &node.name, field, value, problem))
        };
        if let Some(address) = own.address {
            let (field, value) = ("status.addresses", address.to_string());
            if !underlay.contains(&address) {
                return refuse(field, value, Problem::NotInSubnet(Box::new(IpNet::V6(underlay))));
            }
            if let Some((twin, _)) = others().find(|(_, it)| it.address == Some(address)) {
                let whose = format!("the address of node {}", twin.name);
                return refuse(field, value, Problem::Taken(whose));
            }
        }
        if let Some(subnet) = own.pod_cidr {
            let (field, value) = ("spec.podCIDRs", subnet.to_string());
            if !PODS.contains(&subnet) {
                let problem = Problem::Outside(Box::new(IpNet::V6(PODS)), "a subnet of it");
                return refuse(field, value, problem);
            }
            let overlaps = |it: &Ipv6Net| it.contains(&subnet) || subnet.contains(it);
            if let Some((twin, _)) =
                others().find(|(_, it)| it.pod_cidr.as_ref().is_some_and(overlaps))
            {
                return refuse(
                    field,
                    value,
                    Problem::Overlaps(format!("that of node {}", twin.name)),
                );
            }
        }
    }
    Ok(())
}

/// The address whose last groups read like the one of IPv4: 10.1.1.110 is `…:10:1:1:110`.
fn like(underlay: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    let digits = |number: u8| {
        u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10)
    };
    let [a, b, c, d, ..] = underlay.network().segments();
    let [e, f, g, h] = address.octets().map(digits);
    Ipv6Addr::new(a, b, c, d, e, f, g, h)
}
