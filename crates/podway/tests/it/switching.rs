//! Agents that start anew in another proxy mode, under traffic.

use crate::labs::{Lab, Manifest, Traffic, wait_until};
use serde_json::{Value, json};

const NODES: [(&str, &str); 2] = [("node-1", "10.1.1.110"), ("node-2", "10.1.1.111")];
const TCP: u16 = 30_080;
const UDP: u16 = 30_053;
/// What each node's agent is told, one after the other; labs begin with the first.
const MODES: [&str; 4] = ["nft", "userspace", "iptables", "nft"];

fn manifest() -> Manifest {
    let port = |name: &str, protocol: &str, port: u16, node_port: u16| json!({"name": name, "protocol": protocol, "port": port, "nodePort": node_port});
    let declared = |protocol: &str, port: u16| json!({"protocol": protocol, "containerPort": port});
    Manifest::of(&[
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": 4,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{
                        "name": "c", "image": "x",
                        "ports": [declared("TCP", 80), declared("UDP", 53)],
                    }]},
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.0.80", "selector": {"app": "web"},
                "ports": [port("http", "TCP", 80, TCP), port("dns", "UDP", 53, UDP)],
            },
        }),
    ])
}

/// The mode that the node's agent has announced, which it does once it serves in it.
fn announced(lab: &Lab, node: &str) -> String {
    let node = lab.api("GET", &format!("/api/v1/nodes/{node}"));
    let text = node["metadata"]["annotations"]["podway.io/agent"].as_str().unwrap_or_default();
    let settings: Value = serde_json::from_str(text).unwrap_or_default();
    settings["mode"].as_str().unwrap_or_default().to_owned()
}

/// What serves in the mode is there, and what served in others is not.
fn serves_alone(lab: &Lab, node: &str, mode: &str) -> bool {
    let line = "nft list tables 2>/dev/null | grep -qx 'table ip podway' && echo nft
        iptables-save 2>/dev/null | grep -q '^-A KUBE-SVC-' && echo iptables
        podway show services -o json | grep -q '\"unserved\"' && echo userspace; true";
    let done = lab.shell(&format!("node/{node}"), line);
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout.split_whitespace().eq([mode])
}

#[test]
fn agents_in_another_mode_fail_no_connection() {
    let lab = Lab::up(&[&manifest().0], &["--nodes", "2", "--agent-arg=--proxy-mode=nft"]);
    let clients = |node: &str| -> [Traffic; 3] {
        [
            lab.traffic(&format!("http://{node}:{TCP}/")),
            lab.lasting(node, TCP),
            lab.datagrams(node, UDP),
        ]
    };
    let clients = NODES.map(|(_, address)| clients(address));
    for mode in &MODES[1..] {
        for (node, address) in NODES {
            let done = lab.run(&format!("lab agent node/{node} -- --proxy-mode={mode}"));
            assert_eq!(done.code, 0, "{done:?}");
            wait_until("the agent serves in the new mode", || announced(&lab, node) == *mode);
            wait_until("nothing is left of the old one", || serves_alone(&lab, node, mode));
            lab.get("client", &format!("http://{address}:{TCP}/"));
            lab.get(&format!("node/{node}"), "http://10.96.0.80/");
        }
    }
    for client in clients.into_iter().flatten() {
        let answers = client.stop();
        let failed: Vec<_> = answers.iter().filter(|it| *it != "200").collect();
        assert!(answers.len() > 20, "{} answers", answers.len());
        assert!(failed.is_empty(), "{failed:?} of {}", answers.len());
    }
}

#[test]
fn an_agent_is_not_started_with_what_it_does_not_take() {
    let lab = Lab::up(&[], &["--nodes", "1"]);
    let done = lab.run("lab agent node/node-1 -- --proxy-mode=magic");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("there are nft"), "{done:?}");
    let done = lab.run("lab agent node/node-7");
    assert!(done.code != 0 && done.stderr.contains("node/node-7"), "{done:?}");
}
