//! Nodes: those that the manifests declare, and those made up where there are none.

use super::{PlanError, PlannedNode, Problem, address};
use crate::Manifest;
use ipnet::{IpNet, Ipv4Net};
use model::{Field, FieldError};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Where made-up nodes start.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 110);
/// The usual share of one node in the pod network.
const USUAL_SHARE: u8 = 24;

/// The annotation of a Node manifest that holds more arguments for its agent, with spaces between.
const AGENT_ARGUMENTS: &str = "lab.podway.io/agent-args";

/// A node as its manifest declares it.
pub(super) struct Declared {
    pub(super) name: String,
    source: String,
    pub(super) address: Option<Ipv4Addr>,
    pod_cidr: Option<Ipv4Net>,
    agent_arguments: Vec<String>,
}

/// A node with its address decided.
pub(super) struct Addressed {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    source: String,
    pod_cidr: Option<Ipv4Net>,
    agent_arguments: Vec<String>,
}

impl Addressed {
    pub(super) fn conflict(
        &self,
        field: &'static str,
        value: impl ToString,
        problem: Problem,
    ) -> PlanError {
        conflict(&self.source, &self.name, field, value, problem)
    }
}

pub(super) fn conflict(
    source: &str,
    name: &str,
    field: &'static str,
    value: impl ToString,
    problem: Problem,
) -> PlanError {
    PlanError::Conflict {
        source_name: source.to_owned(),
        object: format!("Node {name}"),
        field,
        value: value.to_string(),
        problem,
    }
}

pub(super) fn no_nodes() -> PlanError {
    PlanError::Flag { flag: "--nodes", value: "0".to_owned(), problem: Problem::NoNodes }
}

pub(super) fn too_many(nodes: &[Addressed], underlay: Ipv4Net) -> PlanError {
    let problem = Problem::TooSmall(nodes.len());
    PlanError::Flag { flag: "the nodes' subnet", value: underlay.to_string(), problem }
}

/// The nodes of the manifests, in their order.
pub(super) fn declared(manifests: &[Manifest]) -> Result<Vec<Declared>, PlanError> {
    let mut nodes: Vec<Declared> = Vec::new();
    for manifest in manifests.iter().filter(|it| it.is("Node")) {
        let node = declare(manifest).map_err(|error| manifest.field_error(error))?;
        if let Some(twin) = nodes.iter().find(|it| it.name == node.name) {
            let problem = Problem::Taken(format!("declared in {}", twin.source));
            return Err(conflict(&node.source, &node.name, "metadata.name", &node.name, problem));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn declare(manifest: &Manifest) -> Result<Declared, FieldError> {
    let root = Field::root(&manifest.value);
    let name = root.at("metadata").at("name").text()?.to_owned();
    let pod_cidr = pod_cidr(&root)?;
    let source = manifest.source.clone();
    let annotations = root.at("metadata").at("annotations");
    let arguments = annotations.at(AGENT_ARGUMENTS).optional_text()?.unwrap_or_default();
    let agent_arguments = arguments.split_whitespace().map(str::to_owned).collect();
    Ok(Declared { name, source, address: internal_ip(&root)?, pod_cidr, agent_arguments })
}

/// The first subnet of IP version 4.
fn pod_cidr(root: &Field<'_>) -> Result<Option<Ipv4Net>, FieldError> {
    for subnet in subnets(root)? {
        if let IpNet::V4(subnet) = subnet {
            return Ok(Some(subnet));
        }
    }
    Ok(None)
}

/// `spec.podCIDRs`, else `spec.podCIDR`.
pub(super) fn subnets(root: &Field<'_>) -> Result<Vec<IpNet>, FieldError> {
    let spec = root.at("spec");
    let mut listed = spec.at("podCIDRs").items()?;
    if listed.is_empty() {
        listed.push(spec.at("podCIDR"));
    }
    let subnets = listed.iter().map(|it| it.optional_parsed("a prefix like 10.244.0.0/24"));
    subnets.filter_map(Result::transpose).collect()
}

/// The first InternalIP of IP version 4.
fn internal_ip(root: &Field<'_>) -> Result<Option<Ipv4Addr>, FieldError> {
    for entry in root.at("status").at("addresses").items()? {
        if entry.at("type").text()? == "InternalIP"
            && let std::net::IpAddr::V4(address) = entry.at("address").ip()?
        {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Gives an address to every node that has none; `count` nodes are made up where none is declared.
/// All addresses are added to `taken`.
pub(super) fn addressed(
    declared: Vec<Declared>,
    count: u32,
    taken: &mut BTreeSet<Ipv4Addr>,
) -> Result<Vec<Addressed>, PlanError> {
    let declared = if declared.is_empty() { made_up(count) } else { declared };
    let mut owners: Vec<(Ipv4Addr, String)> = Vec::new();
    for node in &declared {
        let Some(address) = node.address else { continue };
        if let Some((_, owner)) = owners.iter().find(|(it, _)| *it == address) {
            let problem = Problem::Taken(format!("the address of node {owner}"));
            return Err(conflict(&node.source, &node.name, "status.addresses", address, problem));
        }
        owners.push((address, node.name.clone()));
    }
    taken.extend(owners.iter().map(|(address, _)| *address));
    let first = owners.first().map_or(FIRST, |(address, _)| *address);
    let mut free = (u32::from(first)..).map(Ipv4Addr::from);
    let address = |node: &Declared| {
        let next = || free.find(|it| !matches!(it.octets()[3], 0 | 255) && taken.insert(*it));
        node.address.or_else(next).unwrap_or(first)
    };
    let addresses: Vec<Ipv4Addr> = declared.iter().map(address).collect();
    let nodes = declared.into_iter().zip(addresses);
    Ok(nodes
        .map(|(Declared { name, source, pod_cidr, agent_arguments, .. }, address)| Addressed {
            name,
            address,
            source,
            pod_cidr,
            agent_arguments,
        })
        .collect())
}

/// Whether the nodes exist that pods and templates of pods name: nothing would ever start those pods.
pub(super) fn check_names(manifests: &[Manifest], nodes: &[Addressed]) -> Result<(), PlanError> {
    let fields = [
        ("Pod", "/spec/nodeName", "spec.nodeName"),
        ("Deployment", "/spec/template/spec/nodeName", "spec.template.spec.nodeName"),
    ];
    for (kind, pointer, field) in fields {
        for manifest in manifests.iter().filter(|it| it.is(kind)) {
            let name = manifest.text(pointer);
            if !name.is_empty() && !nodes.iter().any(|node| node.name == name) {
                return Err(PlanError::Conflict {
                    source_name: manifest.source.clone(),
                    object: manifest.object(),
                    field,
                    value: name.to_owned(),
                    problem: Problem::NoSuchNode,
                });
            }
        }
    }
    Ok(())
}

fn made_up(count: u32) -> Vec<Declared> {
    let node = |number| Declared {
        name: format!("node-{number}"),
        source: "--nodes".to_owned(),
        address: None,
        pod_cidr: None,
        agent_arguments: Vec::new(),
    };
    (1..=count).map(node).collect()
}

/// Checks the declared shares of the pod network and gives the next free one to every other node.
pub(super) fn with_pod_cidrs(
    nodes: Vec<Addressed>,
    pod_cidr: Ipv4Net,
) -> Result<Vec<PlannedNode>, PlanError> {
    let mut shares: Vec<(Ipv4Net, String)> = Vec::new();
    for node in &nodes {
        let Some(share) = node.pod_cidr else { continue };
        if !pod_cidr.contains(&share) {
            let problem = Problem::Outside(Box::new(IpNet::V4(pod_cidr)), "--pod-cidr");
            return Err(node.conflict("spec.podCIDR", share, problem));
        }
        if let Some((other, owner)) = shares.iter().find(|(it, _)| address::overlap(*it, share)) {
            let problem = Problem::Overlaps(format!("{other} of node {owner}"));
            return Err(node.conflict("spec.podCIDR", share, problem));
        }
        shares.push((share, node.name.clone()));
    }
    let declared: Vec<Ipv4Net> = shares.into_iter().map(|(share, _)| share).collect();
    let count = nodes.len();
    let too_small = || {
        let problem = Problem::TooSmall(count);
        PlanError::Flag { flag: "--pod-cidr", value: pod_cidr.to_string(), problem }
    };
    let length = share_length(pod_cidr, count).ok_or_else(too_small)?;
    let mut free = pod_cidr
        .subnets(length)
        .into_iter()
        .flatten()
        .filter(|net| !declared.iter().any(|it| address::overlap(*it, *net)));
    nodes
        .into_iter()
        .map(|Addressed { name, address, pod_cidr, agent_arguments, .. }| {
            let pod_cidr = pod_cidr.or_else(|| free.next()).ok_or_else(too_small)?;
            let pod_cidr = pod_cidr.trunc();
            Ok(PlannedNode { name, address, pod_cidr, v6: None, agent_arguments })
        })
        .collect()
}

/// A /24 each, or less where the pod network is too small for that; none: not even four addresses each.
fn share_length(pod_cidr: Ipv4Net, count: usize) -> Option<u8> {
    let bits = u8::try_from(count.next_power_of_two().trailing_zeros()).ok()?;
    let length = (pod_cidr.prefix_len() + bits).max(USUAL_SHARE);
    (length <= 30).then_some(length)
}
