//! What an agent makes of objects, and what it mends.

use crate::node::{Node, PATIENCE, in_own_namespace};
use crate::pods::run;
use backend::Mode;
use client::Kind;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.5.5", "ports": [{"port": 80}]},
    })
}

fn slice(addresses: &[&str]) -> Value {
    let endpoints = addresses.iter().map(|address| json!({"addresses": [address]}));
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

#[test]
fn objects_become_rules_and_their_changes_too() {
    in_own_namespace("follows::objects_become_rules_and_their_changes_too", async || {
        let mut node = Node::new("objects").await;
        let agent = node.start_agent().await;
        node.apply(service()).await;
        node.apply(slice(&["10.244.0.5", "10.244.1.5"])).await;
        node.until_served("10.96.5.5", 80, &["10.244.0.5:8080", "10.244.1.5:8080"]).await;
        let fewer = json!({"endpoints": slice(&["10.244.1.5"])["endpoints"]});
        client::patch_merge(&node.client, Kind::ENDPOINT_SLICE, Some("default"), "web-1", &fewer)
            .await
            .unwrap();
        node.until_served("10.96.5.5", 80, &["10.244.1.5:8080"]).await;
        let conflist = std::fs::read_to_string(node.conflist()).unwrap();
        let conflist: Value = serde_json::from_str(&conflist).unwrap();
        assert_eq!(conflist["plugins"][0]["gateway"], "10.244.0.1");
        assert_eq!(conflist["plugins"][0]["mtu"], 1450);
        agent.abort();
    });
}

#[test]
fn what_somebody_destroys_is_mended_at_once() {
    in_own_namespace("follows::what_somebody_destroys_is_mended_at_once", async || {
        let mut node = Node::new("mended").await;
        node.apply(service()).await;
        node.apply(slice(&["10.244.0.5"])).await;
        let agent = node.start_agent().await;
        node.until_served("10.96.5.5", 80, &["10.244.0.5:8080"]).await;
        for destruction in ["flush ruleset", "flush map ip podway services"] {
            assert!(Command::new("nft").arg(destruction).status().unwrap().success());
            node.until_served("10.96.5.5", 80, &["10.244.0.5:8080"]).await;
        }
        agent.abort();
    });
}

#[test]
fn a_successor_catches_up_with_what_its_predecessor_missed() {
    in_own_namespace(
        "follows::a_successor_catches_up_with_what_its_predecessor_missed",
        async || {
            let mut node = Node::new("successor").await;
            node.apply(service()).await;
            let agent = node.start_agent().await;
            node.until_served("10.96.5.5", 80, &[]).await;
            agent.abort();
            assert!(agent.await.unwrap_err().is_cancelled());
            node.apply(slice(&["10.244.0.5"])).await;
            let agent = node.start_agent().await;
            node.until_served("10.96.5.5", 80, &["10.244.0.5:8080"]).await;
            agent.abort();
        },
    );
}

#[test]
fn a_proxy_mode_that_the_kernel_lacks_has_a_substitute() {
    in_own_namespace("follows::a_proxy_mode_that_the_kernel_lacks_has_a_substitute", async || {
        let mut node = Node::new("substitute").await;
        node.apply(service()).await;
        node.apply(slice(&["10.244.0.5"])).await;
        let agent = node.start_agent_in(Mode::Ipvs).await;
        node.until_served("10.96.5.5", 80, &["10.244.0.5:8080"]).await;
        agent.abort();
    });
}

/// What the agent's own children do to rules is no news to it; what others do is mended.
#[test]
fn rules_of_iptables_are_compared_only_when_others_change_them() {
    const NAME: &str = "follows::rules_of_iptables_are_compared_only_when_others_change_them";
    in_own_namespace(NAME, async || {
        let node = Node::new("children").await;
        node.apply(service()).await;
        let agent = node.start_agent_in(Mode::Iptables).await;
        node.put_programmed(slice(&["10.244.0.5"])).await;
        let before = compared(&node).await;
        for round in 0..5 {
            let address = format!("10.244.1.{round}");
            node.put_programmed(slice(&["10.244.0.5", &address])).await;
        }
        assert_eq!(compared(&node).await, before);
        run("iptables-nft -t nat -F KUBE-SERVICES");
        until_printed("iptables-nft-save -t nat", |text| text.contains("-d 10.96.5.5/32")).await;
        node.until_metric(10249, "podway_repairs_total{what=\"services\"} 1").await;
        agent.abort();
    });
}

/// What pods bring about on their node is no reason to look through everything.
async fn devices_are_no_news(name: &str, mode: Mode, destruction: &str, witness: (&str, &str)) {
    let node = Node::new(name).await;
    node.apply(service()).await;
    let agent = node.start_agent_in(mode).await;
    node.put_programmed(slice(&["10.244.0.5"])).await;
    let before = compared(&node).await;
    for round in 0..3 {
        run(&format!("ip link add pod-{round} type veth peer name there-{round}"));
        run(&format!("ip link set pod-{round} up"));
        run(&format!("ip route add 10.244.0.{round}/32 dev pod-{round}"));
        node.put_programmed(slice(&["10.244.0.5", &format!("10.244.1.{round}")])).await;
    }
    assert_eq!(compared(&node).await, before);
    run(destruction);
    until_printed(witness.0, |text| text.contains(witness.1)).await;
    node.until_metric(10249, "podway_repairs_total{what=\"services\"} 1").await;
    agent.abort();
}

#[test]
fn devices_are_no_news_to_mode_userspace() {
    in_own_namespace("follows::devices_are_no_news_to_mode_userspace", async || {
        let witness = ("ip route show table local", "10.96.5.5");
        let destruction = "ip route delete local 10.96.5.5 table local";
        devices_are_no_news("devices", Mode::Userspace, destruction, witness).await;
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn devices_are_no_news_to_mode_ipvs() {
    in_own_namespace("follows::devices_are_no_news_to_mode_ipvs", async || {
        let witness = ("ip address show dev kube-ipvs0", "10.96.5.5/32");
        let destruction = "ip address delete 10.96.5.5/32 dev kube-ipvs0";
        devices_are_no_news("devices", Mode::Ipvs, destruction, witness).await;
    });
}

/// How often everything was compared.
async fn compared(node: &Node) -> String {
    const COUNT: &str =
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}";
    let metrics = node.ask(10249, "/metrics").await.body;
    metrics.lines().find(|line| line.starts_with(COUNT)).unwrap().to_owned()
}

/// The kernel tells nobody of changes of that variant.
#[test]
fn what_others_do_to_legacy_rules_is_looked_for() {
    in_own_namespace("follows::what_others_do_to_legacy_rules_is_looked_for", async || {
        let node = Node::new("legacy").await;
        // So the node is kept in that variant.
        run("iptables-legacy -t nat -N KUBE-KUBELET-CANARY");
        node.apply(service()).await;
        let agent = node.start_agent_with(|options| {
            options.mode = Mode::Iptables;
            options.look_every = Duration::from_millis(100);
        });
        let agent = agent.await;
        node.put_programmed(slice(&["10.244.0.5"])).await;
        let is_served = |text: &str| text.contains("-d 10.96.5.5/32");
        until_printed("iptables-legacy-save -t nat", is_served).await;
        run("iptables-legacy -t nat -F KUBE-SERVICES");
        until_printed("iptables-legacy-save -t nat", is_served).await;
        agent.abort();
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn ipvs_follows_objects_and_makes_room_for_others() {
    in_own_namespace("follows::ipvs_follows_objects_and_makes_room_for_others", async || {
        let mut node = Node::new("ipvs").await;
        node.apply(service()).await;
        node.apply(slice(&["10.244.0.5", "10.244.1.5"])).await;
        let agent = node.start_agent_in(Mode::Ipvs).await;
        node.until_served("10.96.5.5", 80, &["10.244.0.5:8080", "10.244.1.5:8080"]).await;
        let servers = "-A -t 10.96.5.5:80 -s rr\n\
                       -a -t 10.96.5.5:80 -r 10.244.0.5:8080 -m -w 1\n\
                       -a -t 10.96.5.5:80 -r 10.244.1.5:8080 -m -w 1\n";
        until_printed("ip addr", |text| text.contains("10.96.5.5/32")).await;
        until_printed("ipvsadm -Sn", |text| text.contains(servers)).await;
        agent.abort();
        let agent = node.start_agent_in(Mode::Nft).await;
        until_printed("ip link", |text| !text.contains("kube-ipvs0")).await;
        until_printed("ipvsadm -Sn", str::is_empty).await;
        node.until_served("10.96.5.5", 80, &["10.244.0.5:8080", "10.244.1.5:8080"]).await;
        agent.abort();
    });
}

/// Waits until a witness says what is wanted, woken by nothing.
async fn until_printed(line: &str, wanted: impl Fn(&str) -> bool) {
    let mut words = line.split(' ');
    let (program, arguments) = (words.next().unwrap(), words.collect::<Vec<_>>());
    let printed = || {
        let output = Command::new(program).args(&arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let waited = tokio::time::timeout(PATIENCE, async {
        while !wanted(&printed()) {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "{line}: {}", printed());
}
