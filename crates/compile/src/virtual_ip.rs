//! Virtual IPs: which nodes take part and with what priority.

use crate::finding::{Code, Finding};
use model::{Kind, Listener, Node, Origin, VirtualIp, World};
use program::edge;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The highest priority of a router that does not own the address (RFC 9568 §5.2.4).
const HIGHEST_PRIORITY: usize = 254;
/// Far enough apart that the first backup's advertisement is out before the second one's patience
/// ends: 20/256 of the advertisement interval.
const PRIORITY_STEP: usize = 20;

pub(crate) fn all(
    world: &World,
    node: &str,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Arc<str>, edge::VirtualIp> {
    let mut compiled = BTreeMap::new();
    let mut routers = BTreeMap::new();
    for vip in world.virtual_ips() {
        let name = vip.meta.key.name.clone();
        if let Some(other) = routers.insert(vip.vrrp.virtual_router_id, name.clone()) {
            let text = format!("VirtualIP {other} has the same virtualRouterId");
            let origin = origin(vip, "spec.vrrp.virtualRouterId");
            findings.push(Finding { code: Code::VirtualRouterIdTaken, origin, text });
            continue;
        }
        if let Some(ours) = one(world, node, vip, findings) {
            compiled.insert(name, ours);
        }
    }
    compiled
}

fn one(
    world: &World,
    node: &str,
    vip: &VirtualIp,
    findings: &mut Vec<Finding>,
) -> Option<edge::VirtualIp> {
    let taking_part: Vec<&Node> =
        world.nodes().filter(|node| vip.node_selector.matches(&node.meta.labels)).collect();
    if taking_part.is_empty() {
        let text = "no node matches the nodeSelector".to_owned();
        let origin = origin(vip, "spec.nodeSelector");
        findings.push(Finding { code: Code::VirtualIpWithoutNodes, origin, text });
    }
    for address in &vip.addresses {
        if let Some(owner) = world.node_with_address(*address) {
            let text = format!("{address} is an ordinary address of node {}", owner.meta.key);
            let origin = origin(vip, "spec.addresses");
            findings.push(Finding { code: Code::VirtualIpTaken, origin, text });
            return None;
        }
    }
    let position = taking_part.iter().position(|candidate| &*candidate.meta.key.name == node)?;
    let rank = rank(position, taking_part.len(), vip.vrrp.virtual_router_id);
    Some(edge::VirtualIp {
        addresses: vip.addresses.clone(),
        virtual_router_id: vip.vrrp.virtual_router_id,
        priority: priority(rank, taking_part.len()),
        interval: vip.vrrp.interval,
        preempt: vip.vrrp.preempt,
        listeners: vip
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| self::listener(world, vip, index, listener))
            .collect(),
        origin: origin(vip, "spec"),
    })
}

/// Which in the line of succession a node is: in order of names, but each virtual router begins
/// with another node, so that several virtual IPs spread over the nodes.
fn rank(position: usize, nodes: usize, virtual_router_id: u8) -> usize {
    let first = usize::from(virtual_router_id) % nodes;
    (position + nodes - first) % nodes
}

fn priority(rank: usize, nodes: usize) -> u8 {
    let step = PRIORITY_STEP.min((HIGHEST_PRIORITY - 1) / nodes).max(1);
    let priority = HIGHEST_PRIORITY.saturating_sub(rank * step).max(1);
    u8::try_from(priority).expect("at most 254")
}

fn listener(world: &World, vip: &VirtualIp, index: usize, listener: &Listener) -> edge::Listener {
    let family = vip.addresses.first().is_none_or(|address| address.is_ipv4());
    let backends = world.nodes().filter_map(|node| {
        let address = node.addresses.iter().find(|address| address.is_ipv4() == family)?;
        let address = SocketAddr::new(*address, listener.node_port);
        Some(edge::Backend { node: node.meta.key.name.clone(), address })
    });
    edge::Listener {
        name: listener.name.clone(),
        port: listener.port,
        algorithm: listener.algorithm,
        backends: backends.collect(),
        health_check: listener.health_check.clone(),
        origin: origin(vip, &format!("spec.listeners[{index}]")),
    }
}

fn origin(vip: &VirtualIp, field: &str) -> Origin {
    Origin::new(Kind::VirtualIp, &vip.meta.key.namespace, &vip.meta.key.name, field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn succession_is_distinct_and_starts_elsewhere_for_each_router() {
        let ranks = |vrid| [0, 1, 2].map(|position| rank(position, 3, vrid));
        assert_eq!(ranks(51), [0, 1, 2]);
        assert_eq!(ranks(52), [2, 0, 1]);
        for nodes in [1, 2, 3, 12, 100, 250] {
            let priorities: Vec<_> = (0..nodes).map(|rank| priority(rank, nodes)).collect();
            assert!(priorities.windows(2).all(|pair| pair[0] > pair[1]), "{priorities:?}");
            assert_eq!(priorities[0], 254);
        }
    }
}
