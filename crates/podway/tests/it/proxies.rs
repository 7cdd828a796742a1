//! `examples/proxy-modes`: every node serves Services in another way, and explanations know which.

use crate::labs::{Lab, example, new_name, podway};
use serde_json::Value;

const PODS: [&str; 3] = ["pod/web-1", "pod/web-2", "pod/web-3"];
const NODES: [&str; 3] = ["node/node-1", "node/node-2", "node/node-3"];

/// Every place asks for everything, and the kernels do what is explained.
#[test]
fn each_node_is_explained_by_its_own_settings() {
    let lab = Lab::up(&[&example("proxy-modes")], &[]);
    let senders = [&["client"], &PODS[..], &NODES[..]].concat();
    let targets = [
        "svc/web:80",
        "svc/web:81",
        "10.1.1.110:30080",
        "10.1.1.111:30080",
        "10.1.1.112:30080",
        "svc/local:80",
        "10.1.1.110:30081",
        "10.1.1.112:30081",
        "10.1.1.201:80",
        "10.1.1.201:81",
        "10.96.7.7:80",
    ];
    let mut differing = Vec::new();
    for from in &senders {
        for to in targets {
            let done = lab.run(&format!("explain --from {from} --to {to} --verify"));
            if !(0..=1).contains(&done.code) {
                differing.push(format!("{from} to {to}\n{}{}", done.stdout, done.stderr));
            }
        }
    }
    let asked = senders.len() * targets.len();
    println!("agreement with the kernel: {} of {asked}", asked - differing.len());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    says_what_differs(|question| {
        let done = lab.run(&format!("explain {question} --verify -o json"));
        assert!((0..=1).contains(&done.code), "{done:?}");
        done.json()
    });
    announced(&lab);
}

/// Where the settings make the difference, it is said, with a lab and without.
fn says_what_differs(explain: impl Fn(&str) -> Value) {
    // Who asks for what, the address that the pod sees, and a code.
    let rows = [
        ("--from pod/web-2 --to svc/local:80", "10.244.1.0", "client-address-replaced"),
        ("--from pod/web-3 --to svc/local:80", "10.244.2.0", "proxy-relays"),
        ("--from pod/web-1 --to svc/local:80", "10.244.0.2", "reply-direct"),
        ("--from client --to 10.1.1.111:30080", "", "node-port-not-on-address"),
    ];
    for (question, sees, code) in rows {
        let json = explain(question);
        let seen = json["receiver"]["sees"].as_str().unwrap_or_default();
        // Which address a pod has is the order in which pods start.
        let same_net = |a: &str, b: &str| {
            a.rsplit_once('.').map(|it| it.0) == b.rsplit_once('.').map(|it| it.0)
        };
        assert!(same_net(seen, sees), "{question}: {json:#}");
        let codes: Vec<_> =
            json["findings"].as_array().unwrap().iter().map(|it| &it["code"]).collect();
        assert!(codes.iter().any(|it| *it == code), "{question}: {codes:?}");
    }
    let delivered = explain("--from node/node-2 --to 10.244.1.1:30080");
    assert_eq!(delivered["verdict"], "delivered", "{delivered:#}");
}

/// Once, and not again when nothing changed.
fn announced(lab: &Lab) {
    let node = |name: &str| lab.api("GET", &format!("/api/v1/nodes/{name}"));
    let rows = [("node-1", "nft"), ("node-2", "iptables"), ("node-3", "userspace")];
    for (name, mode) in rows {
        let text = node(name)["metadata"]["annotations"]["podway.io/agent"].clone();
        let settings: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert_eq!(settings["mode"], mode, "{settings}");
        assert_eq!(settings["clusterCIDR"], "10.244.0.0/16", "{settings}");
    }
    let log = lab.run("lab logs node/node-2").stdout;
    assert_eq!(log.matches("service proxy announced").count(), 1, "{log}");
}

#[test]
fn manifests_say_it_without_a_lab() {
    let folder = example("proxy-modes");
    says_what_differs(|question| {
        let line = format!("explain -f {} {question} -o json", folder.display());
        let done = podway(&new_name(), &line.split_whitespace().collect::<Vec<_>>());
        assert!((0..=1).contains(&done.code), "{done:?}");
        done.json()
    });
}

const KUBE_PROXY: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-proxy, namespace: kube-system}
data:
  config.conf: |-
    apiVersion: kubeproxy.config.k8s.io/v1alpha1
    kind: KubeProxyConfiguration
    mode: "MODE"
    clusterCIDR: 10.244.0.0/16
    nodePortAddresses: null
    iptables: {masqueradeAll: true, masqueradeBit: 14, localhostNodePorts: null, syncPeriod: 0s}
    ipvs: {scheduler: "", strictARP: false}
    nftables: {masqueradeAll: false}
"#;

#[test]
fn kube_proxys_configuration_counts_where_no_agent_runs() {
    let folder = std::env::temp_dir().join(new_name());
    std::fs::create_dir(&folder).unwrap();
    let explain = |mode: &str, more: &str| {
        std::fs::write(folder.join("kube-proxy.yaml"), KUBE_PROXY.replace("MODE", mode)).unwrap();
        let (mine, example) = (folder.display(), example("kubeadm-ha"));
        let question = "--from node/node-1 --to svc/web:80 -o json";
        let line = format!("explain -f {mine} -f {} {question} {more}", example.display());
        podway(&new_name(), &line.split_whitespace().collect::<Vec<_>>())
    };
    let text = |mode: &str, more: &str| explain(mode, more).json().to_string();
    let iptables = text("", "");
    assert!(iptables.contains("in mode iptables"), "{iptables}");
    let ipvs = text("ipvs", "");
    assert!(ipvs.contains("in turn (scheduler rr)") && ipvs.contains("in mode ipvs"), "{ipvs}");
    // A flag is stronger than what is configured.
    let flag = text("ipvs", "--proxy-mode nftables");
    assert!(flag.contains("in mode nft") && flag.contains("at random"), "{flag}");
    let wrong = explain("magic", "");
    assert_eq!(wrong.code, 2, "{wrong:?}");
    let expected = "ConfigMap kube-system/kube-proxy .data[config.conf]: mode: expected nft";
    assert!(wrong.stderr.contains(expected), "{wrong:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}
