use super::*;
use serde_json::{Value, json};

fn node(name: &str, address: &str, pod_cidr: &str) -> Value {
    let addresses =
        json!([{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]);
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    if !address.is_empty() {
        node["status"] = json!({"addresses": addresses});
    }
    if !pod_cidr.is_empty() {
        node["spec"] = json!({"podCIDR": pod_cidr});
    }
    node
}

fn virtual_ip(address: &str) -> Value {
    named_virtual_ip("edge", address, 51)
}

fn named_virtual_ip(name: &str, address: &str, router_id: u8) -> Value {
    json!({"apiVersion": "podway.io/v1alpha1", "kind": "VirtualIP", "metadata": {"name": name},
        "spec": {"addresses": [address], "vrrp": {"virtualRouterId": router_id}}})
}

fn pod(node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": node}})
}

fn manifests(values: &[Value]) -> Vec<Manifest> {
    let manifest = |value: &Value| Manifest { value: value.clone(), source: "lab.yaml".to_owned() };
    values.iter().map(manifest).collect()
}

/// `underlay gateway client | name address podCIDR | …`
fn outline(plan: &Plan) -> String {
    let nodes =
        plan.nodes.iter().map(|it| format!(" | {} {} {}", it.name, it.address, it.pod_cidr));
    let onlink = plan.onlink.iter().map(|it| format!(" | onlink {it}"));
    let head = format!("{} {} {}", plan.underlay, plan.gateway, plan.client);
    std::iter::once(head).chain(nodes).chain(onlink).collect()
}

fn check(objects: &[Value], wishes: Wishes, expected: &str) {
    let seen = match plan(&manifests(objects), &wishes) {
        Ok(plan) => outline(&plan),
        Err(error) => error.to_string(),
    };
    assert_eq!(seen, expected, "{objects:?}");
}

#[test]
fn manifests_without_nodes_get_some() {
    let wishes = |nodes| Wishes { nodes, ..Wishes::default() };
    check(
        &[],
        wishes(2),
        "10.1.1.0/24 10.1.1.1 10.1.1.254 | node-1 10.1.1.110 10.244.0.0/24 | node-2 10.1.1.111 10.244.1.0/24",
    );
    check(
        &[
            named_virtual_ip("a", "10.1.1.110", 1),
            named_virtual_ip("b", "10.1.1.254", 2),
            named_virtual_ip("c", "10.1.1.1", 3),
        ],
        wishes(1),
        "10.1.1.0/24 10.1.1.2 10.1.1.253 | node-1 10.1.1.111 10.244.0.0/24",
    );
    check(&[], wishes(0), "--nodes 0: at least one node is needed");
    let many = plan(&[], &wishes(300)).expect("a plan");
    assert_eq!(many.underlay.to_string(), "10.1.0.0/22");
    assert_eq!(many.pod_cidr.prefix_len(), 16);
    assert_eq!(many.nodes[299].pod_cidr.prefix_len(), 25, "256 are not enough for a /24 each");
}

#[test]
fn declared_nodes_keep_what_they_declare() {
    check(
        &[node("b", "10.1.1.9", "10.244.7.0/24"), node("a", "10.1.1.8", "")],
        Wishes::default(),
        "10.1.1.0/24 10.1.1.1 10.1.1.254 | b 10.1.1.9 10.244.7.0/24 | a 10.1.1.8 10.244.0.0/24",
    );
    check(
        &[node("a", "192.168.1.1", "10.244.0.0/24"), node("b", "", "")],
        Wishes::default(),
        "192.168.1.0/24 192.168.1.3 192.168.1.254 | a 192.168.1.1 10.244.0.0/24 | b 192.168.1.2 10.244.1.0/24",
    );
    check(
        &[node("a", "10.1.1.8", ""), node("b", "10.1.2.8", ""), virtual_ip("192.0.2.1")],
        Wishes::default(),
        "10.1.0.0/22 10.1.0.1 10.1.3.254 | a 10.1.1.8 10.244.0.0/24 | b 10.1.2.8 10.244.1.0/24 | onlink 192.0.2.1",
    );
}

#[test]
fn a_conflict_names_the_object_and_the_field() {
    let rows = [
        (
            vec![node("a", "10.1.1.8", ""), node("b", "10.1.1.8", "")],
            "lab.yaml: Node b: status.addresses: 10.1.1.8 is also the address of node a",
        ),
        (
            vec![node("a", "10.1.1.8", ""), node("a", "10.1.1.9", "")],
            "lab.yaml: Node a: metadata.name: a is also declared in lab.yaml",
        ),
        (
            vec![node("a", "10.1.1.8", "10.42.0.0/24")],
            "lab.yaml: Node a: spec.podCIDR: 10.42.0.0/24 is outside 10.244.0.0/16; set --pod-cidr",
        ),
        (
            vec![node("a", "10.1.1.8", "10.244.0.0/23"), node("b", "10.1.1.9", "10.244.1.0/24")],
            "lab.yaml: Node b: spec.podCIDR: 10.244.1.0/24 is in the same place as 10.244.0.0/23 of node a",
        ),
        (
            vec![node("a", "10.1.1.8", ""), node("b", "192.168.1.9", "")],
            "lab.yaml: Node b: status.addresses: 192.168.1.9 is too far from 10.1.1.8 for one subnet",
        ),
        (
            vec![node("a", "10.1.1", "")],
            "lab.yaml: Node a: status.addresses[1].address: expected an IP address, found \"10.1.1\"",
        ),
        (
            vec![node("a", "10.244.1.8", "")],
            "--pod-cidr 10.244.0.0/16: in the same place as the nodes' subnet 10.244.1.0/24",
        ),
        (
            vec![node("a", "10.1.1.8", ""), virtual_ip("10.1.1.8")],
            "lab.yaml: VirtualIP edge: spec.addresses: 10.1.1.8 is also the InternalIP of node a",
        ),
        (
            vec![virtual_ip("10.1.1.9"), named_virtual_ip("b", "10.1.1.9", 52)],
            "lab.yaml: VirtualIP b: spec.addresses: 10.1.1.9 is also in VirtualIP edge",
        ),
        (
            vec![virtual_ip("10.1.1.9"), named_virtual_ip("b", "10.1.1.10", 51)],
            "lab.yaml: VirtualIP b: spec.vrrp.virtualRouterId: 51 is also that of VirtualIP edge",
        ),
        (
            vec![virtual_ip("fd00::1")],
            "lab.yaml: VirtualIP edge: spec.addresses[0]: expected an IPv4 address, as all of a lab has, found \"fd00::1\"",
        ),
        (
            vec![node("a", "10.1.1.8", ""), pod("b")],
            "lab.yaml: Pod p: spec.nodeName: b is no node of this lab",
        ),
    ];
    for (objects, expected) in rows {
        check(&objects, Wishes::default(), expected);
    }
}

#[test]
fn the_client_gets_its_wish_or_a_reason() {
    let rows = [
        ("10.1.1.50", "10.1.1.0/24 10.1.1.1 10.1.1.50 | a 10.1.1.8 10.244.0.0/24"),
        ("10.1.1.1", "10.1.1.0/24 10.1.1.2 10.1.1.1 | a 10.1.1.8 10.244.0.0/24"),
        ("10.1.1.8", "--client-ip 10.1.1.8: also the InternalIP of node a"),
        ("10.1.1.200", "--client-ip 10.1.1.200: also a virtual IP"),
        ("10.1.2.1", "--client-ip 10.1.2.1: not an address of the nodes' subnet 10.1.1.0/24"),
        ("10.1.1.255", "--client-ip 10.1.1.255: not an address of the nodes' subnet 10.1.1.0/24"),
    ];
    for (wish, expected) in rows {
        let wishes = Wishes { client_ip: Some(wish.parse().unwrap()), ..Wishes::default() };
        check(&[node("a", "10.1.1.8", ""), virtual_ip("10.1.1.200")], wishes, expected);
    }
}

#[test]
fn a_second_family_stands_beside_the_first() {
    let dual = |name: &str, number: u8| {
        let mut node = node(name, &format!("10.1.1.{number}"), "");
        let addresses = node["status"]["addresses"].as_array_mut().unwrap();
        addresses.push(json!({"type": "InternalIP", "address": format!("fd00:1::{number}")}));
        node["spec"] = json!({"podCIDRs": ["10.244.7.0/24", "fd00:10:244:7::/64"]});
        node
    };
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
    let outline = |objects: &[Value], families: Option<Families>| match plan(
        &manifests(objects),
        &Wishes { nodes: 2, families, ..Wishes::default() },
    ) {
        Ok(plan) => {
            let v6 = plan.v6.as_ref().map_or("-".to_owned(), |v6| {
                format!("{} {} {} {}", v6.underlay, v6.gateway, v6.client, v6.service_cidr)
            });
            let nodes = plan.nodes.iter().map(|node| {
                let pods = node
                    .pod_cidrs(plan.families)
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>();
                let own = node
                    .addresses(plan.families)
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>();
                format!(" | {} {}", own.join(","), pods.join(","))
            });
            std::iter::once(v6).chain(nodes).collect::<String>()
        }
        Err(error) => error.to_string(),
    };
    let made_up = "fd00:10::/64 fd00:10::10:1:1:1 fd00:10::10:1:1:254 fd00:10:96::/112";
    let rows = [
        (vec![], None, "- | 10.1.1.110 10.244.0.0/24 | 10.1.1.111 10.244.1.0/24".to_owned()),
        (
            vec![service(json!({"ipFamilyPolicy": "RequireDualStack"}))],
            None,
            format!("{made_up} | 10.1.1.110,fd00:10::10:1:1:110 10.244.0.0/24,fd00:10:244::/64 | 10.1.1.111,fd00:10::10:1:1:111 10.244.1.0/24,fd00:10:244:1::/64"),
        ),
        (
            vec![],
            Some(Families::V6),
            format!("{made_up} | fd00:10::10:1:1:110 fd00:10:244::/64 | fd00:10::10:1:1:111 fd00:10:244:1::/64"),
        ),
        (
            vec![dual("a", 8)],
            None,
            "fd00:1::/64 fd00:1::10:1:1:1 fd00:1::10:1:1:254 fd00:10:96::/112 | 10.1.1.8,fd00:1::8 10.244.7.0/24,fd00:10:244:7::/64".to_owned(),
        ),
        (
            vec![dual("a", 8), json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"},
                "spec": {"podCIDRs": ["fd00:10:244:7::/64"]}})],
            None,
            "lab.yaml: Node b: spec.podCIDRs: fd00:10:244:7::/64 is in the same place as that of node a".to_owned(),
        ),
        (
            vec![json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"},
                "spec": {"podCIDRs": ["fd00:7::/64"]}})],
            None,
            "lab.yaml: Node b: spec.podCIDRs: fd00:7::/64 is outside fd00:10:244::/48; set a subnet of it".to_owned(),
        ),
    ];
    for (objects, families, expected) in rows {
        assert_eq!(outline(&objects, families), expected, "{objects:?}");
    }
}
