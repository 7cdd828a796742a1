//! Requests of every kind reach the right pods.

use crate::labs::{Lab, example};
use std::collections::BTreeSet;

const VIRTUAL_IP: &str = "http://10.1.1.200:30000/hello?x=1";

#[test]
fn the_virtual_ip_answers_from_every_pod() {
    let lab = Lab::kubeadm_ha();
    let status = lab.status();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3, "{status}");
    let answers: Vec<_> = (0..40).map(|_| lab.get("client", VIRTUAL_IP)).collect();
    let pods: BTreeSet<_> = answers.iter().map(|answer| answer["pod"].to_string()).collect();
    assert_eq!(pods.len(), 3, "40 requests reach each of 3 pods, but for one run in 3 000 000");
    for answer in &answers {
        assert_eq!(answer["namespace"], "default");
        assert_eq!(answer["localPort"], 9376);
        assert_eq!(answer["method"], "GET");
        assert_eq!(answer["path"], "/hello?x=1");
        assert_eq!(answer["host"], "10.1.1.200:30000");
        let pod_ip = answer["podIP"].as_str().unwrap();
        assert!(pod_ip.starts_with("10.244."), "{answer}");
        let node = answer["node"].as_str().unwrap();
        let client = answer["clientIP"].as_str().unwrap();
        assert!(
            client.starts_with("10.1.1.11") || client.starts_with("10.244."),
            "the pod sees a node, because NodePorts masquerade: {answer} on {node}"
        );
    }
}

#[test]
fn node_ports_answer_on_nodes_own_addresses_only() {
    let lab = Lab::kubeadm_ha();
    for node in ["10.1.1.110", "10.1.1.111", "10.1.1.112"] {
        for place in ["client", "node/node-1", "node/node-3"] {
            let answer = lab.get(place, &format!("http://{node}:30000/"));
            assert_eq!(answer["namespace"], "default", "{place} to {node}: {answer}");
        }
        let refused = lab.try_get("client", &format!("http://{node}:30001/"));
        assert_eq!(refused.code, 7, "nobody listens there: {refused:?}");
    }
}

/// The pods of a namespace whose name begins like this.
fn pods(lab: &Lab, namespace: &str, stem: &str) -> Vec<(String, String)> {
    let status = lab.status();
    let pods = status["pods"].as_array().unwrap().iter();
    let text = |pod: &serde_json::Value, field: &str| pod[field].as_str().unwrap().to_owned();
    pods.filter(|pod| pod["namespace"] == namespace)
        .map(|pod| (text(pod, "name"), text(pod, "address")))
        .filter(|(name, _)| name.starts_with(stem))
        .collect()
}

fn larger() -> Lab {
    let cidrs = ["--pod-cidr", "10.42.0.0/16", "--service-cidr", "10.43.0.0/16"];
    Lab::up(&[&example("larger")], &cidrs)
}

#[test]
fn another_cluster_with_other_addresses_works_as_well() {
    let lab = larger();
    let rows = [
        ("client", "http://192.168.50.100:8080/", "shop", "frontend", 8080),
        ("client", "http://192.168.50.100:9000/", "shop", "frontend", 9090),
        ("client", "http://192.168.50.13:31080/", "shop", "frontend", 8080),
        ("node/cedar", "http://192.168.50.13:31080/", "shop", "frontend", 8080),
        ("pod/ops/toolbox", "http://10.43.10.10/", "shop", "frontend", 8080),
        ("pod/ops/toolbox", "http://10.43.10.10:9090/", "shop", "frontend", 9090),
        ("pod/ops/toolbox", "http://10.43.10.20/", "shop", "cart", 5000),
        ("pod/data/store-1", "http://10.43.20.10:5432/", "data", "store-0", 5432),
        ("pod/data/store-0", "http://10.43.30.10:7000/", "ops", "toolbox", 7000),
        ("pod/ops/toolbox", "http://10.43.30.10:7000/", "ops", "toolbox", 7000),
        ("node/alder", "http://10.43.10.20/", "shop", "cart", 5000),
        ("pod/data/store-0", "http://192.168.50.12:31080/", "shop", "frontend", 8080),
    ];
    for (place, url, namespace, stem, port) in rows {
        let answer = lab.get(place, url);
        assert_eq!(answer["namespace"], namespace, "{place} {url}: {answer}");
        assert!(answer["pod"].as_str().unwrap().starts_with(stem), "{place} {url}: {answer}");
        assert_eq!(answer["localPort"], port, "{place} {url}: {answer}");
    }
    refused_where_nobody_stands_behind(&lab);
    pods_reach_each_other(&lab);
    datagrams_reach_a_udp_service(&lab);
}

fn refused_where_nobody_stands_behind(lab: &Lab) {
    let rows = [
        ("pod/ops/toolbox", "http://10.43.10.30/"),
        ("node/birch", "http://10.43.10.30/"),
        ("client", "http://192.168.50.11:31099/"),
        ("client", "http://192.168.50.100:31080/"),
    ];
    for (place, url) in rows {
        let done = lab.try_get(place, url);
        assert_eq!(done.code, 7, "{place} {url} is refused at once: {done:?}");
    }
}

/// With each other's own addresses, nothing translated on the way.
fn pods_reach_each_other(lab: &Lab) {
    let carts = pods(lab, "shop", "cart");
    assert_eq!(carts.len(), 2);
    let [(_, from)] = &pods(lab, "ops", "toolbox")[..] else { panic!("one toolbox") };
    for (name, address) in &carts {
        let answer = lab.get("pod/ops/toolbox", &format!("http://{address}:5000/"));
        assert_eq!(answer["pod"], **name);
        assert_eq!(answer["clientIP"], **from, "{answer}");
    }
}

fn datagrams_reach_a_udp_service(lab: &Lab) {
    let line = "exec 3<>/dev/udp/10.43.0.10/53; echo hello >&3; timeout 3 head -c 2 <&3";
    let arguments = ["lab", "exec", "pod/ops/toolbox", "--", "bash", "-c", line];
    let done = crate::labs::podway(&lab.name, &arguments);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.stdout.is_empty(), "{done:?}");
}
