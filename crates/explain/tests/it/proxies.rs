//! Each node serves Services in its own way, as its agent announces or kube-proxy's configuration says.

use crate::cluster::{Cluster, service, slice};
use crate::golden::{ask, check};
use explain::{Code, Environment, Explanation, Probability, Verdict};
use serde_json::{Value, json};

const WEB: &str = "svc/default/web:80";

/// `web` with one endpoint only.
fn one(name: &str, node: u8) -> Cluster {
    Cluster::healthy().change("EndpointSlice", "web-1", |it| *it = slice("web", &[(name, node, 2)]))
}

/// A Service with an address outside of the cluster.
fn external(cluster: Cluster) -> Cluster {
    let mut shop = service("shop", 20, json!({"app": "web"}), None);
    shop["spec"]["externalIPs"] = json!(["10.1.1.201"]);
    cluster.with(shop).with(slice("shop", &[("web-b", 1, 2)]))
}

fn has(explanation: &Explanation, code: Code) -> bool {
    explanation.findings.iter().any(|finding| finding.code == code)
}

fn sees(cluster: &Cluster, from: &str, to: &str) -> String {
    let explanation = ask(cluster, from, to);
    let receiver = explanation.path().receiver.as_ref();
    receiver.map_or_else(|| explanation.summary(), |receiver| receiver.sees.to_string())
}

#[test]
fn userspace_makes_a_second_connection() {
    let userspace = |cluster: Cluster| cluster.serving("node-1", json!({"mode": "userspace"}));
    let from = "pod/default/shell";
    let other =
        check("userspace-other-node", userspace(one("web-b", 1)), from, WEB, Verdict::Delivered);
    assert!(has(&other, Code::ProxyRelays));
    check("userspace-same-node", userspace(one("web-a", 0)), from, WEB, Verdict::Delivered);
    let third = one("web-b", 1).serving("node-3", json!({"mode": "userspace"}));
    check("userspace-virtual-ip", third, "client", "10.1.1.200:30000", Verdict::Delivered);
    // It tries another endpoint where one does not answer, which rules cannot.
    let half_dead = || Cluster::healthy().node_down("node-3");
    let chance = |cluster: &Cluster| ask(cluster, from, WEB).delivered;
    assert_eq!(chance(&half_dead()), Probability { numerator: 2, denominator: 3 });
    assert!(chance(&userspace(half_dead())).is_certain());
    check("userspace-endpoint-node-down", userspace(half_dead()), from, WEB, Verdict::Delivered);
    // Its addresses are the node's own.
    check(
        "userspace-unknown-port",
        userspace(external(one("web-b", 1))),
        from,
        "10.1.1.201:81",
        Verdict::Refused,
    );
    // It masquerades nothing, so hosts outside would have to know the way to pods.
    let outside = userspace(Cluster::healthy());
    let lost = ask(&outside, from, "10.1.1.1:6443");
    let end = &lost.path().end;
    assert_eq!((end.verdict, end.code), (Verdict::Dropped, Some(Code::PodIpFromOutside)));
    // Nodes in other modes go on as they do.
    assert_eq!(sees(&userspace(one("web-b", 1)), "pod/default/web-b", WEB), "10.244.1.1");
}

#[test]
fn ipvs_schedules_and_has_the_addresses() {
    let ipvs = |settings: Value| {
        let mut all = json!({"mode": "ipvs"});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        Cluster::healthy().serving("node-1", all)
    };
    let from = "pod/default/shell";
    check("ipvs", ipvs(json!({"scheduler": "wlc"})), from, WEB, Verdict::Delivered);
    check("ipvs-unknown-port", external(ipvs(json!({}))), from, "10.1.1.201:81", Verdict::Refused);
    let by_rules = ask(&external(Cluster::healthy()), from, "10.1.1.201:81");
    assert_eq!(by_rules.path().end.code, Some(Code::NoSuchHost), "{}", by_rules.summary());
}

#[test]
fn node_ports_answer_where_each_node_says() {
    let second = "10.1.1.151";
    let two = |cluster: Cluster| {
        cluster.change("Node", "node-2", |node| {
            let addresses = node["status"]["addresses"].as_array_mut().unwrap();
            addresses.push(json!({"type": "InternalIP", "address": second}));
        })
    };
    let asked = format!("{second}:30000");
    check("node-port-other-address", two(one("web-b", 1)), "client", &asked, Verdict::Refused);
    let everywhere = json!({"mode": "nft", "nodePortAddresses": ["0.0.0.0/0"]});
    let served = || two(one("web-b", 1)).serving("node-2", everywhere.clone());
    assert_eq!(ask(&served(), "client", &asked).verdict(), Verdict::Delivered);
    // As kube-proxy does by default in mode iptables, on every node.
    let kube_proxy = two(one("web-b", 1)).kube_proxy(json!({"clusterCIDR": "10.244.0.0/16"}));
    let by_default =
        check("node-port-kube-proxy", kube_proxy, "client", &asked, Verdict::Delivered);
    assert!(has(&by_default, Code::KubeProxy));
    // A virtual IP is an address of the node that holds it, and its node ports come before the balancer.
    let shadowed = one("web-a", 0).serving("node-1", everywhere);
    check("node-port-on-virtual-ip", shadowed, "client", "10.1.1.200:30000", Verdict::Delivered);
}

#[test]
fn who_is_masqueraded_depends_on_the_node() {
    let from = "pod/default/shell";
    let plain = one("web-b", 1);
    assert_eq!(sees(&plain, from, WEB), "10.244.0.9");
    let all = one("web-b", 1).serving("node-1", json!({"mode": "nft", "masqueradeAll": true}));
    check("masquerade-all", all, from, WEB, Verdict::Delivered);
    let elsewhere =
        one("web-b", 1).serving("node-2", json!({"mode": "nft", "masqueradeAll": true}));
    assert_eq!(sees(&elsewhere, from, WEB), "10.244.0.9");
    // A pod that none of the prefixes holds is taken for somebody from outside.
    let wrong =
        one("web-b", 1).serving("node-1", json!({"mode": "nft", "clusterCIDR": "10.99.0.0/16"}));
    assert_eq!(sees(&wrong, from, WEB), "10.244.0.0");
    // Without a clusterCIDR kube-proxy takes nobody for an outsider, not even the node itself.
    let nobody = one("web-b", 1).kube_proxy(json!({"mode": "nftables"}));
    assert_eq!(sees(&nobody, from, WEB), "10.244.0.9");
}

#[test]
fn who_counts_as_a_pod_depends_on_the_node() {
    // Policy Local, no endpoint on node-1, which does not know the cluster's pods by their addresses.
    let local = |detect: &str| {
        let settings =
            json!({"mode": "nft", "clusterCIDR": "10.99.0.0/16", "detectLocalMode": detect});
        let cluster = one("web-c", 2).serving("node-1", settings);
        let cluster = cluster.change("Service", "web", |service| {
            service["spec"]["externalTrafficPolicy"] = json!("Local");
        });
        ask(&cluster, "pod/default/shell", "10.1.1.110:30000").verdict()
    };
    assert_eq!(local("ClusterCIDR"), Verdict::Dropped);
    assert_eq!(local("NodeCIDR"), Verdict::Delivered);
}

#[test]
fn kube_proxys_rules_know_nothing_of_other_ports() {
    let from = "pod/default/shell";
    let ask = |configuration: Value, to: &str| {
        let explanation = ask(&Cluster::healthy().kube_proxy(configuration), from, to);
        (explanation.verdict(), explanation.path().end.code)
    };
    use Verdict::{Dropped, Refused};
    let rows = [
        ("iptables", "10.96.0.10:81", Dropped, Code::ClusterIpFromOutside),
        ("ipvs", "10.96.0.10:81", Refused, Code::UnknownServicePort),
        ("nftables", "10.96.0.10:81", Refused, Code::UnknownServicePort),
        ("iptables", "10.96.7.7:80", Dropped, Code::UnknownAddress),
    ];
    for (mode, to, verdict, code) in rows {
        let got = ask(json!({"mode": mode, "clusterCIDR": "10.244.0.0/16"}), to);
        assert_eq!(got, (verdict, Some(code)), "{mode} {to}");
    }
}

#[test]
fn where_settings_come_from_is_said() {
    let from = "pod/default/shell";
    let bad = one("web-b", 1).serving("node-1", json!({"mode": "ebpf"}));
    let bad = check("settings-unreadable", bad, from, WEB, Verdict::Delivered);
    assert!(has(&bad, Code::ProxyUnreadable));
    let real = |cluster: Cluster| Cluster { environment: Environment::Cluster, ..cluster };
    let nobody = check("settings-assumed", real(one("web-b", 1)), from, WEB, Verdict::Delivered);
    assert!(has(&nobody, Code::ProxyAssumed));
    let told = real(one("web-b", 1).serving("node-1", json!({"mode": "nft"})));
    assert!(!has(&ask(&told, from, WEB), Code::ProxyAssumed));
    // Who only passes it on need not say.
    assert!(!has(&ask(&real(one("web-b", 1)), from, "pod/web-b:9376"), Code::ProxyAssumed));
}
