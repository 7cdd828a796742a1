//! What the agent answers about itself.

use crate::node::{Node, in_own_namespace};
use client::Kind;
use serde_json::{Value, json};

const HEALTH: u16 = 10256;
const METRICS: u16 = 10249;

fn local_service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.5.5", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30999, "ports": [{"port": 80, "nodePort": 30080}]},
    })
}

fn slice(nodes: &[&str]) -> Value {
    let endpoint = |(host, node): (usize, &&str)| json!({"addresses": [format!("10.244.0.{}", host + 5)], "nodeName": node});
    let now = jiff::Timestamp::now().to_string();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": nodes.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
    })
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

#[test]
fn it_says_what_is_programmed() {
    in_own_namespace("health::it_says_what_is_programmed", async || {
        let node = Node::new("programmed").await;
        let agent = node.start_agent().await;
        let service = node.apply(local_service()).await;
        let slice = node.apply(slice(&["node-1"])).await;
        let query =
            format!("/programmed?Service={}&EndpointSlice={}", version(&service), version(&slice));
        let answer = node.ask(HEALTH, &query).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let applied = &answer.json()["applied"];
        assert!(applied["Service"].as_u64() >= version(&service).parse().ok(), "{applied}");
        assert!(applied["ServiceCIDR"].is_u64(), "{applied}");
        let services = backend::nft::read::all_services().unwrap();
        assert!(services.iter().any(|served| served.port == 80), "{services:?}");
        assert_eq!(node.ask(HEALTH, "/programmed?Service=soon").await.status, 400);
        agent.abort();
    });
}

#[test]
fn a_node_that_leaves_is_no_longer_eligible() {
    in_own_namespace("health::a_node_that_leaves_is_no_longer_eligible", async || {
        let node = Node::new("leaving").await;
        let agent = node.start_agent().await;
        assert_eq!(node.ask(HEALTH, "/programmed?Node=1").await.status, 200);
        let answer = node.ask(HEALTH, "/healthz").await;
        assert_eq!((answer.status, &answer.json()["nodeEligible"]), (200, &json!(true)));
        let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"});
        let patch = json!({"spec": {"taints": [taint]}});
        let changed =
            client::patch_merge(&node.client, Kind::NODE, None, "node-1", &patch).await.unwrap();
        node.ask(HEALTH, &format!("/programmed?Node={}", version(&changed))).await;
        let answer = node.ask(HEALTH, "/healthz").await;
        assert_eq!((answer.status, &answer.json()["nodeEligible"]), (503, &json!(false)));
        assert_eq!(node.ask(HEALTH, "/livez").await.status, 200);
        let metrics = node.ask(METRICS, "/metrics").await.body;
        for line in [
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1",
        ] {
            assert!(metrics.lines().any(|have| have == line), "{line} in {metrics}");
        }
        assert_eq!(node.ask(METRICS, "/proxyMode").await.body, "nftables");
        agent.abort();
    });
}

#[test]
fn load_balancers_hear_of_local_endpoints() {
    in_own_namespace("health::load_balancers_hear_of_local_endpoints", async || {
        let node = Node::new("ports").await;
        let agent = node.start_agent().await;
        node.ask(HEALTH, "/programmed?Node=1").await;
        let service = node.apply(local_service()).await;
        let made = node.apply(slice(&["node-1", "node-1", "node-2"])).await;
        let versions = format!("Service={}&EndpointSlice={}", version(&service), version(&made));
        node.ask(HEALTH, &format!("/programmed?{versions}")).await;
        let answer = node.ask(30999, "/").await;
        assert_eq!(answer.status, 200);
        for header in [
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 2",
        ] {
            assert!(answer.head.contains(header), "{header} in {}", answer.head);
        }
        let expected = json!({"service": {"namespace": "default", "name": "web"},
            "localEndpoints": 2, "serviceProxyHealthy": true});
        assert_eq!(answer.json(), expected);
        let elsewhere = json!({"endpoints": slice(&["node-2"])["endpoints"]});
        let (kind, namespace) = (Kind::ENDPOINT_SLICE, Some("default"));
        let made = client::patch_merge(&node.client, kind, namespace, "web-1", &elsewhere);
        let versions = format!("EndpointSlice={}", version(&made.await.unwrap()));
        node.ask(HEALTH, &format!("/programmed?{versions}")).await;
        let answer = node.ask(30999, "/").await;
        assert_eq!((answer.status, &answer.json()["localEndpoints"]), (503, &json!(0)));
        let metrics = node.ask(METRICS, "/metrics").await.body;
        for line in [
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 1",
            "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family=\"IPv4\"} 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending{ip_family=\"IPv4\"} 0",
        ] {
            assert!(metrics.lines().any(|have| have == line), "{line} in {metrics}");
        }
        agent.abort();
    });
}
