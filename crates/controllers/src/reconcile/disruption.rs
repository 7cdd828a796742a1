//! How much of the cluster is down, and how fast pods may then be taken from its dead nodes.
//!
//! Where no node at all is ready it is rather us who are cut off, and where most of a zone is not ready, its network
//! has failed: pods that are moved then run twice, or crowd the few nodes that are left.

use super::node_life::deadline;
use crate::cluster::Cluster;
use crate::record::Node;
use crate::settings::Settings;
use std::time::Duration;

/// From so many nodes on that are not ready their share counts, in percent.
const FEW: usize = 3;
const UNHEALTHY: usize = 55;
/// A zone of at most so many nodes has no nodes to spare.
const SMALL: usize = 50;

/// No node is ready.
pub(super) fn is_total(cluster: &Cluster, settings: &Settings, uptime: Duration) -> bool {
    let mut counted = cluster.nodes().filter(|node| !node.is_exempt()).peekable();
    counted.peek().is_some() && counted.all(|node| is_down(cluster, node, settings, uptime))
}

/// How long a node that is to lose its pods waits after the last one of its zone; `None`: until its zone is better.
pub(super) fn pause(
    cluster: &Cluster,
    node: &Node,
    settings: &Settings,
    uptime: Duration,
) -> Option<Duration> {
    let zone = node.failure_domain();
    let (mut all, mut down) = (0, 0);
    for node in cluster.nodes().filter(|it| !it.is_exempt() && it.failure_domain() == zone) {
        all += 1;
        down += usize::from(is_down(cluster, node, settings, uptime));
    }
    // A zone that is down as a whole is gone, and others have room.
    let is_partial = down >= FEW && down < all && down * 100 >= all * UNHEALTHY;
    match is_partial {
        false => Some(settings.eviction_pause),
        true => (all > SMALL).then_some(settings.slow_eviction_pause),
    }
}

fn is_down(cluster: &Cluster, node: &Node, settings: &Settings, uptime: Duration) -> bool {
    let is_overdue = || deadline(cluster, node.name(), settings).is_some_and(|it| it <= uptime);
    !node.base.ready || is_overdue()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{apply, node};
    use serde_json::json;

    /// Zones, and how many of their nodes are ready and how many not.
    fn cluster(zones: &[(&str, u32, u32)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (zone, ready, down) in zones {
            for number in 0..ready + down {
                let status = if number < *ready { "True" } else { "False" };
                let with = json!({
                    "metadata": {"labels": {"topology.kubernetes.io/zone": zone}},
                    "status": {"conditions": [{"type": "Ready", "status": status}]},
                });
                apply(&mut cluster, [node(&format!("{zone}-{number}"), with)]);
            }
        }
        cluster
    }

    #[test]
    fn a_zone_that_is_cut_off_loses_no_pods_or_slowly() {
        let settings = Settings::default();
        let (normal, slow) = (Some(settings.eviction_pause), Some(settings.slow_eviction_pause));
        let rows: [(&[_], _, _); 12] = [
            (&[("x", 2, 1)], normal, false),
            (&[("x", 1, 2)], normal, false),
            (&[("x", 3, 3)], normal, false),
            (&[("x", 2, 3)], None, false),
            (&[("x", 10, 12)], normal, false),
            (&[("x", 9, 11)], None, false),
            (&[("x", 20, 30)], None, false),
            (&[("x", 20, 31)], slow, false),
            (&[("x", 20, 31), ("y", 0, 9)], slow, false),
            (&[("x", 0, 9), ("y", 1, 8)], normal, false),
            (&[("x", 0, 1), ("y", 0, 8)], normal, true),
            (&[("x", 0, 1)], normal, true),
        ];
        for (zones, expected, total) in rows {
            let cluster = cluster(zones);
            let (zone, ready, _) = zones[0];
            let dead = cluster.node(&format!("{zone}-{ready}")).unwrap();
            let found = pause(&cluster, dead, &settings, Duration::ZERO);
            assert_eq!(found, expected, "{zones:?}");
            assert_eq!(is_total(&cluster, &settings, Duration::ZERO), total, "{zones:?}");
        }
        assert!(!is_total(&Cluster::default(), &settings, Duration::ZERO), "there are no nodes");
    }

    #[test]
    fn some_nodes_do_not_count() {
        let exempt = |name: &str, status: &str| {
            node(
                name,
                json!({
                    "metadata": {"labels": {"node.kubernetes.io/exclude-disruption": ""}},
                    "status": {"conditions": [{"type": "Ready", "status": status}]},
                }),
            )
        };
        let mut cluster = cluster(&[("x", 0, 1)]);
        apply(&mut cluster, [exempt("well", "True")]);
        assert!(is_total(&cluster, &Settings::default(), Duration::ZERO));
        let mut cluster = Cluster::default();
        apply(&mut cluster, [exempt("ill", "False")]);
        assert!(!is_total(&cluster, &Settings::default(), Duration::ZERO));
    }
}
