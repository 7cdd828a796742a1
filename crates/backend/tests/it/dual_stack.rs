//! Two tunnels, one for each family.

use crate::cluster::object;
use crate::space::{Space, address, as_root, ip};
use backend::link;
use compile::Settings;
use kernel::route::Change;
use model::{Object, World};
use serde_json::json;

fn node(number: u8) -> Object {
    object(&json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "annotations": {
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data":
                format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:04:0{number}"}}"#),
            "flannel.alpha.coreos.com/public-ip": format!("10.1.1.11{number}"),
            "flannel.alpha.coreos.com/backend-v6-data":
                format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:06:0{number}"}}"#),
            "flannel.alpha.coreos.com/public-ipv6": format!("fd00:1::11{number}"),
        }},
        "spec": {"podCIDRs": [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number}::/64")]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": format!("10.1.1.11{number}")},
            {"type": "InternalIP", "address": format!("fd00:1::11{number}")},
        ]},
    }))
}

/// What the witnesses see of the tunnel for IPv6.
fn seen(space: &Space) -> Vec<String> {
    let lines = [
        "ip -6 -brief address show dev flannel-v6.1 scope global",
        "ip -6 route show proto 77",
        "ip -6 neighbour show dev flannel-v6.1 nud permanent",
        "bridge fdb show dev flannel-v6.1",
        "ip -details -brief link show dev flannel-v6.1",
    ];
    let texts = lines.map(|line| space.run(line));
    let mut lines: Vec<_> = texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn each_family_has_a_tunnel_and_both_are_mended() {
    as_root("dual_stack::each_family_has_a_tunnel_and_both_are_mended", || {
        let (mut space, mut other) = (Space::new(), Space::new());
        other.wire("eth1", None, &mut space);
        other.change([Change::SetUp { device: "eth1".into(), up: true }]);
        space.change([address("eth0", "10.1.1.111/24"), address("eth0", "fd00:1::111/64")]);
        let world = World::from_objects([1, 2, 3].map(node));
        let nets = ["10.244.0.0/16", "fd00:244::/56"].map(|net| net.parse().unwrap());
        let settings = Settings::new(nets.to_vec());
        let (program, findings) = compile::compile(&world, "node-1", &settings);
        assert_eq!(findings, []);
        let mut links = space.inside(|| link::Backend::open().unwrap());
        let underlays = ["10.1.1.111", "fd00:1::111"].map(|own| links.underlay(ip(own)).unwrap());
        assert_ne!(links.reconcile(&program, &underlays).unwrap(), 0);
        let right = seen(&space);
        // A device and its address, an unreachable subnet, and for each of two peers three entries.
        assert_eq!(right.len(), 1 + 1 + 1 + 2 * 3, "{right:#?}");
        assert!(right.iter().any(|line| line.contains("fd00:244:0:2::/64 via fd00:244:0:2::")));
        let v4 = space.run("ip -4 route show proto 77");
        assert!(v4.contains("10.244.2.0/24 via 10.244.2.0 dev flannel.1"), "{v4}");
        assert_eq!(links.reconcile(&program, &underlays).unwrap(), 0);
        for line in [
            "ip link delete flannel-v6.1",
            "ip link set flannel-v6.1 down",
            "ip -6 address flush dev flannel-v6.1 scope global",
            "ip -6 route delete fd00:244:0:2::/64",
            "ip -6 route delete unreachable fd00:244:0:1::/64",
            "ip -6 route add fd00:244:0:9::/64 via fd00:244:0:9:: dev flannel-v6.1 onlink proto 77",
            "ip -6 neighbour flush dev flannel-v6.1 nud permanent",
            "bridge fdb delete 0a:00:00:00:06:02 dev flannel-v6.1 dst fd00:1::112",
        ] {
            space.run(line);
            assert_ne!(links.reconcile(&program, &underlays).unwrap(), 0, "{line}");
            assert_eq!(seen(&space), right, "{line}");
            assert_eq!(links.reconcile(&program, &underlays).unwrap(), 0, "{line}");
        }
        assert_ne!(links.reconcile(&program, &underlays[..1]).unwrap(), 0, "only IPv4 is left");
        assert!(!space.run("ip -brief link").contains("flannel-v6.1"));
    });
}
