//! Many changes at once.

use crate::node::{Node, in_own_namespace};
use backend::Mode;
use kernel::process::Signal;
use serde_json::{Value, json};

const CHANGES: u32 = 1000;
/// More steps than this would be one for each handful of changes.
const STEPS: u64 = 100;

fn slice(round: u32) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [format!("10.244.0.{}", 2 + round % 200)]}],
    })
}

async fn syncs(node: &Node) -> u64 {
    let name = "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} ";
    let metrics = node.ask(10249, "/metrics").await.body;
    metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[test]
fn a_burst_is_few_steps() {
    in_own_namespace("bursts::a_burst_is_few_steps", async || {
        let node = Node::new("burst").await;
        node.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.5.5", "ports": [{"port": 80}]},
        }))
        .await;
        node.put(slice(0)).await;
        let agent = node.spawn_agent(Mode::Nft);
        node.ask(10256, "/programmed?Node=1").await;
        let before = syncs(&node).await;
        // They come while it cannot attend to them.
        agent.signal(Signal::SIGSTOP).unwrap();
        let mut last = Value::Null;
        for round in 1..=CHANGES {
            last = node.put(slice(round)).await;
        }
        agent.signal(Signal::SIGCONT).unwrap();
        let version = last["metadata"]["resourceVersion"].as_str().unwrap();
        let answer = node.ask(10256, &format!("/programmed?EndpointSlice={version}")).await;
        assert_eq!(answer.status, 200);
        let steps = syncs(&node).await - before;
        println!("{CHANGES} changes, {steps} steps");
        assert!((1..=STEPS).contains(&steps), "{steps} steps");
        agent.signal(Signal::SIGKILL).unwrap();
        agent.reap().unwrap();
    });
}
