//! What somebody else destroys is noticed, put right at once, counted and told.

use crate::node::{Answer, Node, endpoints, in_own_namespace};
use crate::pods::run;
use backend::Mode;
use client::{Kind, Watch};
use serde_json::{Value, json};
use std::time::Duration;

const HEALTH: u16 = 10256;
const METRICS: u16 = 10249;
const SERVED: [&str; 2] = ["10.244.0.5:8080", "10.244.1.5:8080"];

fn objects() -> [Value; 3] {
    let peer = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2", "annotations": {
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"}"#,
            "flannel.alpha.coreos.com/public-ip": "10.1.1.111",
        }},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.111"}]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.5.5", "ports": [{"port": 80, "nodePort": 30080}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.5"]}, {"addresses": ["10.244.1.5"]}],
    });
    [peer, service, slice]
}

/// What is done, what of the node it is, and who witnesses that it is right again.
type Row = (&'static str, &'static str, &'static str);

/// Does all of it, and waits each time until it is as it was.
async fn destroy(node: &Node, mode: Mode, rows: &[Row], reasons: &[&str]) {
    let agent = node.start_agent_with(|options| {
        options.mode = mode;
        options.look_every = Duration::from_millis(100);
    });
    let agent = agent.await;
    for object in objects() {
        let written = node.apply(object).await;
        let kind = written["kind"].as_str().unwrap();
        let version = written["metadata"]["resourceVersion"].as_str().unwrap();
        assert_eq!(node.ask(HEALTH, &format!("/programmed?{kind}={version}")).await.status, 200);
    }
    assert_eq!(endpoints("10.96.5.5", 80), SERVED);
    assert!(repairs(node).await.is_empty(), "what the agent did itself is no repair");
    let mut expected = std::collections::BTreeMap::from([("links", 0), ("services", 0)]);
    for (destruction, what, witness) in rows {
        let before = printed(witness);
        run(destruction);
        *expected.get_mut(what).unwrap() += 1;
        let line = format!("podway_repairs_total{{what=\"{what}\"}} {}", expected[what]);
        node.until_metric(METRICS, &line).await;
        assert_eq!(printed(witness), before, "{destruction}");
        assert_eq!(endpoints("10.96.5.5", 80), SERVED, "{destruction}");
    }
    for reason in reasons {
        let mut events = node.watch(Watch::from(Kind::EVENT));
        let event = node.until_event(&mut events, reason).await;
        assert_eq!(event["involvedObject"]["name"], "node-1");
        assert_eq!(event["type"], "Warning");
        let message = event["message"].as_str().unwrap();
        assert!(message.starts_with("somebody changed"), "{message}");
    }
    agent.abort();
}

/// What a witness says, without what it has counted.
fn printed(line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = std::process::Command::new(words.next().unwrap());
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let uncounted = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(uncounted);
    // Rules that exclude each other may stand in any order, and interfaces have new numbers.
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.join("\n")
}

async fn repairs(node: &Node) -> Vec<String> {
    let Answer { body, .. } = node.ask(METRICS, "/metrics").await;
    let counted = |line: &&str| line.starts_with("podway_repairs_total{") && !line.ends_with(" 0");
    body.lines().filter(counted).map(str::to_owned).collect()
}

const TABLE: &str = "nft -st list table ip podway";

#[test]
fn in_nftables() {
    in_own_namespace("repairs::in_nftables", async || {
        let rows = [
            ("nft flush table ip podway", "services", TABLE),
            ("nft delete table ip podway", "services", TABLE),
            ("nft flush ruleset", "services", TABLE),
            ("nft flush chain ip podway dispatch", "services", TABLE),
            (
                "nft flush chain ip podway postrouting ; delete chain ip podway postrouting",
                "services",
                TABLE,
            ),
            ("nft insert rule ip podway dispatch drop", "services", TABLE),
            ("nft add chain ip podway dispatch2", "services", TABLE),
            ("nft flush map ip podway slots", "services", TABLE),
            ("nft delete element ip podway node-ports { tcp . 30080 }", "services", TABLE),
            ("nft delete table ip6 podway", "services", "nft -st list table ip6 podway"),
        ];
        destroy(&Node::new("nftables").await, Mode::Nft, &rows, &["ServicesRepaired"]).await;
    });
}

const SAVED: &str = "iptables-save";

#[test]
fn in_iptables() {
    in_own_namespace("repairs::in_iptables", async || {
        let rows = [
            ("iptables -t nat -F KUBE-SERVICES", "services", SAVED),
            ("iptables -t nat -F", "services", SAVED),
            ("iptables -t filter -F", "services", SAVED),
            ("iptables -t nat -D PREROUTING 1", "services", SAVED),
            ("iptables -t nat -I KUBE-SERVICES -j RETURN", "services", SAVED),
            ("nft delete table ip nat", "services", SAVED),
            ("nft flush ruleset", "services", SAVED),
            ("ip6tables -t nat -F", "services", "ip6tables-save"),
        ];
        destroy(&Node::new("iptables").await, Mode::Iptables, &rows, &["ServicesRepaired"]).await;
    });
}

/// Of legacy tables the kernel tells nobody: they are looked at now and then.
#[test]
fn in_legacy_iptables() {
    const SAVED: &str = "iptables-legacy-save";
    in_own_namespace("repairs::in_legacy_iptables", async || {
        // As the kubelet says which variant the node is kept in.
        run("iptables-legacy -t mangle -N KUBE-IPTABLES-HINT");
        let rows = [
            ("iptables-legacy -t nat -F KUBE-SERVICES", "services", SAVED),
            ("iptables-legacy -t filter -D INPUT 1", "services", SAVED),
        ];
        destroy(&Node::new("legacy").await, Mode::Iptables, &rows, &["ServicesRepaired"]).await;
    });
}

#[test]
fn in_the_pod_network() {
    const ROUTES: &str = "ip route show proto 77";
    const DEVICE: &str = "ip -4 -br address show flannel.1";
    in_own_namespace("repairs::in_the_pod_network", async || {
        let rows = [
            ("ip link set flannel.1 down", "links", ROUTES),
            ("ip link delete flannel.1", "links", DEVICE),
            ("ip link set flannel.1 down name stolen", "links", DEVICE),
            ("ip link set flannel.1 mtu 900", "links", "ip link show flannel.1"),
            ("ip route delete 10.244.1.0/24", "links", ROUTES),
            ("ip route flush proto 77", "links", ROUTES),
            ("ip address flush dev flannel.1", "links", DEVICE),
            ("ip neigh flush dev flannel.1 nud permanent", "links", "ip neigh show dev flannel.1"),
            (
                "bridge fdb delete 0a:00:00:00:00:02 dev flannel.1 dst 10.1.1.111",
                "links",
                "bridge fdb show dev flannel.1",
            ),
        ];
        destroy(&Node::new("links").await, Mode::Nft, &rows, &["PodNetworkRepaired"]).await;
    });
}
