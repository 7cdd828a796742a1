//! Labs of both families, and of IPv6 alone.

use crate::labs::{Lab, Manifest, example};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn object(lab: &Lab, path: &str) -> Value {
    let line = format!("curl -sS --unix-socket /run/podway/api.sock http://api{path}");
    let done = lab.shell("underlay", &line);
    assert_eq!(done.code, 0, "{done:?}");
    done.json()
}

fn service(lab: &Lab, name: &str) -> Vec<String> {
    let service = object(lab, &format!("/api/v1/namespaces/default/services/{name}"));
    let listed =
        service["spec"]["clusterIPs"].as_array().unwrap_or_else(|| panic!("{service}")).iter();
    listed.map(|address| address.as_str().unwrap().to_owned()).collect()
}

fn url(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("http://[{address}]:{port}/"),
        false => format!("http://{address}:{port}/"),
    }
}

/// Asks until every node's pod has answered, at most so often that chance is no excuse.
fn answered_by_all(lab: &Lab, from: &str, url: &str) {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(lab.get(from, url)["node"].as_str().unwrap().to_owned());
        if seen.len() == 2 {
            return;
        }
    }
    panic!("{from} {url}: only {seen:?}");
}

#[test]
fn services_of_both_families_lead_to_pods_of_both() {
    let lab = Lab::up(&[&example("dual-stack")], &["--agent-arg=--localhost-nodeports"]);
    let status = lab.status();
    assert_eq!(status["nodes"][0]["addresses"], json!(["10.1.1.110", "fd00:10:1::110"]));
    assert_eq!(status["nodes"][1]["pod_cidrs"], json!(["10.244.1.0/24", "fd00:10:244:1::/64"]));
    let pods = object(&lab, "/api/v1/namespaces/default/pods");
    for pod in pods["items"].as_array().unwrap() {
        let ips = pod["status"]["podIPs"].as_array().unwrap();
        let families: Vec<_> =
            ips.iter().map(|it| it["ip"].as_str().unwrap().contains(':')).collect();
        assert_eq!(families, [false, true], "{pod}");
        assert_eq!(pod["status"]["hostIPs"].as_array().unwrap().len(), 2, "{pod}");
    }
    assert_eq!(service(&lab, "web"), ["10.96.0.80", "fd00:10:96::80"]);
    let (v4, v6) = (service(&lab, "web-v4"), service(&lab, "web-v6"));
    assert!(v4.len() == 1 && v4[0].starts_with("10.96."), "{v4:?}");
    assert!(v6.len() == 1 && v6[0].starts_with("fd00:10:96::"), "{v6:?}");
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    for address in ["10.96.0.80", "fd00:10:96::80", &v4[0], &v6[0]] {
        for from in ["node/node-1", "node/node-2", &format!("pod/{pod}")] {
            answered_by_all(&lab, from, &url(address, 80));
        }
    }
    for address in ["10.1.1.110", "fd00:10:1::110", "10.1.1.111", "fd00:10:1::111"] {
        answered_by_all(&lab, "client", &url(address, 30_080));
    }
    for loopback in ["127.0.0.1", "::1"] {
        answered_by_all(&lab, "node/node-1", &url(loopback, 30_080));
    }
    let told = lab.run("explain --from node/node-1 --to [::1]:30080 --verify");
    assert!(told.code == 0 && told.stdout.contains("fd00:10:244:"), "{told:?}");
}

#[test]
fn a_cluster_of_ipv6_alone() {
    let lab = Lab::up(
        &[&example("dual-stack").join("web.yaml")],
        &["--nodes", "2", "--ip-family", "dual"],
    );
    assert_eq!(lab.status()["nodes"][0]["addresses"], json!(["10.1.1.110", "fd00:10::10:1:1:110"]));
    drop(lab);
    let web = Manifest::of(&[
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers":
                        [{"name": "c", "image": "x", "ports": [{"containerPort": 8080}]}]},
                },
            },
        }),
    ]);
    let lab = Lab::up(&[&web.0], &["--nodes", "2", "--ip-family", "ipv6"]);
    let status = lab.status();
    assert_eq!(status["nodes"][0]["addresses"], json!(["fd00:10::10:1:1:110"]));
    assert_eq!(status["pod_cidrs"], json!(["fd00:10:244::/48"]));
    assert_eq!(
        object(&lab, "/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIPs"],
        json!(["fd00:10:96::1"])
    );
    let addresses = service(&lab, "web");
    assert!(addresses.len() == 1 && addresses[0].starts_with("fd00:10:96::"), "{addresses:?}");
    answered_by_all(&lab, "node/node-1", &url(&addresses[0], 80));
}
