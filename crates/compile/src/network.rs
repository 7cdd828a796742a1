//! Nodes and pods: subnets, gateways, tunnels.

use crate::Settings;
use crate::finding::{Code, Finding};
use ipnet::IpNet;
use model::{Family, Kind, Node, ObjectKey, Origin, World};
use program::{LocalPod, Peer, PodNetwork};
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::Mac;

/// flannel's VXLAN network identifier.
const VNI: u32 = 1;
/// The kernel's VXLAN port, which flannel uses too; IANA's is 4789.
const TUNNEL_PORT: u16 = 8472;

/// The node's part of the pod network of each family: the first subnet of each.
pub(crate) fn own(
    node: &Node,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Family, PodNetwork> {
    if node.pod_cidrs.is_empty() {
        let text = "the node has no podCIDR yet: it can have no pods".to_owned();
        let origin = origin(node, "spec.podCIDR");
        findings.push(Finding { code: Code::NodeWithoutSubnet, origin, text });
    }
    let mut networks = BTreeMap::new();
    for subnet in node.pod_cidrs.iter().rev() {
        let network = own_network(node, *subnet, settings, findings);
        networks.extend(network.map(|network| (Family::of_net(subnet), network)));
    }
    networks
}

fn own_network(
    node: &Node,
    subnet: IpNet,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> Option<PodNetwork> {
    let (family, origin) = (Family::of_net(&subnet), origin(node, "spec.podCIDR"));
    if !settings.cluster_cidrs.iter().any(|cluster| cluster.contains(&subnet)) {
        let text = format!("podCIDR {subnet} lies outside of the cluster's pod network");
        findings.push(Finding { code: Code::SubnetOutsideCluster, origin: origin.clone(), text });
    }
    let cluster = settings.cluster_cidrs.iter().filter(|net| Family::of_net(net) == family);
    let vtep = node.vteps.get(&family);
    Some(PodNetwork {
        cluster: cluster.copied().collect(),
        subnet,
        gateway: first_host(subnet)?,
        tunnel_address: subnet.network(),
        tunnel_mac: vtep.map_or_else(|| tunnel_mac(node), |vtep| vtep.mac),
        vni: VNI,
        tunnel_port: TUNNEL_PORT,
        origin,
    })
}

/// Another node's pods, for each family of which it has any and has announced its tunnel end.
pub(crate) fn peers(node: &Node, findings: &mut Vec<Finding>) -> BTreeMap<Family, Peer> {
    if node.addresses.is_empty() {
        let text = "no InternalIP in status.addresses".to_owned();
        let origin = origin(node, "status.addresses");
        findings.push(Finding { code: Code::NodeWithoutAddress, origin, text });
    }
    let mut peers = BTreeMap::new();
    for family in Family::ALL {
        let of_family = node.pod_cidrs.iter().filter(|net| Family::of_net(net) == family);
        let subnets: Vec<IpNet> = of_family.copied().collect();
        if subnets.is_empty() {
            continue;
        }
        let Some(vtep) = node.vteps.get(&family) else {
            let text = format!(
                "the node has not announced its VXLAN end for {family}: its pods cannot be reached"
            );
            let origin = origin(node, "metadata.annotations");
            findings.push(Finding { code: Code::NodeWithoutTunnel, origin, text });
            continue;
        };
        let peer = Peer {
            subnets,
            public_ip: vtep.public_ip,
            tunnel_mac: vtep.mac,
            origin: origin(node, "spec.podCIDR"),
        };
        peers.insert(family, peer);
    }
    peers
}

/// The addresses of a pod that runs on this node, in a namespace of its own.
pub(crate) fn local_pod(world: &World, node: &str, key: &ObjectKey) -> BTreeMap<IpAddr, LocalPod> {
    let here = |pod: &&model::Pod| {
        pod.node.as_deref() == Some(node) && !pod.host_network && !pod.phase.is_over()
    };
    let Some(pod) = world.pod(key).filter(here) else { return BTreeMap::new() };
    let origin = Origin::new(Kind::Pod, &key.namespace, &key.name, "status.podIP");
    let local = LocalPod { pod: key.clone(), origin };
    pod.addresses.iter().map(|address| (*address, local.clone())).collect()
}

fn origin(node: &Node, field: &str) -> Origin {
    Origin::new(Kind::Node, &node.meta.key.namespace, &node.meta.key.name, field)
}

fn first_host(subnet: IpNet) -> Option<IpAddr> {
    match subnet {
        IpNet::V4(net) => {
            Some(IpAddr::from((u32::from(net.network()).checked_add(1)?).to_be_bytes()))
        }
        IpNet::V6(net) => {
            Some(IpAddr::from((u128::from(net.network()).checked_add(1)?).to_be_bytes()))
        }
    }
}

/// A locally administered address that is the node's for as long as it has its name (FNV-1a).
fn tunnel_mac(node: &Node) -> Mac {
    let hash = node.meta.key.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    Mac([0x0a, a, b, c, d, e])
}
