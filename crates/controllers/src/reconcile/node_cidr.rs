//! Nodes get their pod subnets.

use crate::cluster::Cluster;
use crate::settings::Settings;
use crate::task::Task;
use crate::write::Write;
use client::Kind;
use ipnet::IpNet;
use model::ObjectKey;
use serde_json::json;

pub(super) fn plan(cluster: &mut Cluster, name: &str, settings: &Settings) -> Vec<Write> {
    let waits = cluster.node(name).is_some_and(|node| node.base.pod_cidrs.is_empty());
    if !waits {
        return Vec::new();
    }
    let used: Vec<_> = cluster.nodes().flat_map(|node| &node.base.pod_cidrs).copied().collect();
    let mut subnets = Vec::new();
    for cidr in &settings.cluster_cidrs {
        let Some(free) = free_subnet(*cidr, settings.mask_of(cidr), &used) else {
            tracing::warn!(node = name, %cidr, "no subnet left for the node");
            let about = cluster.about(&Task::NodeCidr(name.into()));
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            let told = about.map(|it| it.normal("cidrAllocator", "CIDRNotAvailable", message));
            return told.map(Write::Tell).into_iter().collect();
        };
        subnets.push(free);
    }
    let texts: Vec<_> = subnets.iter().map(ToString::to_string).collect();
    cluster.assume_subnets(name, subnets);
    vec![Write::Patch {
        kind: Kind::NODE,
        key: ObjectKey::new("", name),
        patch: json!({"spec": {"podCIDR": texts.first(), "podCIDRs": texts}}),
    }]
}

/// The first subnet of that length that overlaps none of those in use.
fn free_subnet(cluster: IpNet, mask: u8, used: &[IpNet]) -> Option<IpNet> {
    let overlaps = |subnet: &IpNet, other: &IpNet| subnet.contains(other) || other.contains(subnet);
    let mut taken: Vec<_> = used.iter().filter(|other| overlaps(&cluster, other)).collect();
    taken.sort_unstable_by_key(|subnet| subnet.network());
    let mut subnets = cluster.subnets(mask).ok()?;
    // Both run upwards: each used subnet is looked at only while it is near.
    let mut taken = taken.into_iter().peekable();
    subnets.find(|subnet| {
        while taken.next_if(|other| other.broadcast() < subnet.network()).is_some() {}
        !taken.peek().is_some_and(|other| overlaps(subnet, other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{apply, node};

    #[test]
    fn a_node_gets_a_subnet_of_each_family() {
        let networks = ["10.244.0.0/16", "fd00:244::/48"].map(|net| net.parse().unwrap());
        let settings = Settings { cluster_cidrs: networks.to_vec(), ..Settings::default() };
        settings.check().unwrap();
        let mut cluster = Cluster::default();
        apply(&mut cluster, ["a", "b"].map(|name| node(name, json!({}))));
        let given = ["a", "b"].map(|name| match &plan(&mut cluster, name, &settings)[..] {
            [Write::Patch { patch, .. }] => patch["spec"]["podCIDRs"].clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(given[0], json!(["10.244.0.0/24", "fd00:244::/64"]));
        assert_eq!(given[1], json!(["10.244.1.0/24", "fd00:244:0:1::/64"]));
        assert_eq!(plan(&mut cluster, "a", &settings), []);
    }

    #[test]
    fn the_first_free_one() {
        let rows: [(&str, u8, &[&str], Option<&str>); 8] = [
            ("10.244.0.0/16", 24, &[], Some("10.244.0.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/24"], Some("10.244.1.0/24")),
            ("10.244.0.0/16", 24, &["10.244.1.0/24", "10.244.0.0/24"], Some("10.244.2.0/24")),
            ("10.244.0.0/16", 24, &["10.244.1.0/24"], Some("10.244.0.0/24")),
            // Others' lengths, and subnets elsewhere.
            ("10.244.0.0/16", 24, &["10.244.0.0/22", "10.9.0.0/16"], Some("10.244.4.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.128/25"], Some("10.244.1.0/24")),
            ("10.244.0.0/16", 24, &["10.0.0.0/8"], None),
            ("10.244.0.0/23", 24, &["10.244.0.0/24", "10.244.1.0/24"], None),
        ];
        for (cluster, mask, used, expected) in rows {
            let used: Vec<_> = used.iter().map(|net| net.parse().unwrap()).collect();
            let found = free_subnet(cluster.parse().unwrap(), mask, &used);
            assert_eq!(found, expected.map(|net| net.parse().unwrap()), "{cluster} {used:?}");
        }
    }
}
