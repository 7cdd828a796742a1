//! Scenarios and what is said about them. `UPDATE=1 cargo test -p explain` writes the files; read them then.

use crate::cluster::{Cluster, pod, service, slice};
use explain::render::{Style, json, svg, tree};
use explain::{Code, Environment, Explanation, Question, Verdict, explain};
use model::Protocol;
use serde_json::json;
use std::path::PathBuf;

pub(crate) fn ask(cluster: &Cluster, from: &str, to: &str) -> Explanation {
    let world = cluster.world();
    let question = Question { from: from.into(), to: to.into(), protocol: Protocol::Tcp };
    explain(&world, &cluster.settings(&world), &question).unwrap()
}

/// The same path twice gives the same text, and the text is the one in the file.
pub(crate) fn check(
    name: &str,
    cluster: Cluster,
    from: &str,
    to: &str,
    verdict: Verdict,
) -> Explanation {
    let explanation = ask(&cluster, from, to);
    assert_eq!(explanation, ask(&cluster, from, to), "{name}: not deterministic");
    let text = tree(&explanation, Style::default());
    compare(&format!("{name}.txt"), &format!("$ podway explain --from {from} --to {to}\n{text}"));
    assert_eq!(explanation.verdict(), verdict, "{name}: {}", explanation.summary());
    let reply_is_whole = explanation.path().reply.last().is_some_and(|hop| {
        let asked = explanation.path().request[0].before;
        (hop.after.source, hop.after.destination) == (asked.destination, asked.source)
    });
    assert_eq!(reply_is_whole, verdict == Verdict::Delivered, "{name}: the reply");
    explanation
}

pub(crate) fn compare(file: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{file} differs: UPDATE=1 writes it anew");
}

#[test]
fn virtual_ip() {
    use Verdict::{Delivered, Dropped, Refused};
    let vip = "10.1.1.200:30000";
    let explanation = check("virtual-ip", Cluster::healthy(), "client", vip, Delivered);
    compare("virtual-ip.json", &(json(&explanation) + "\n"));
    compare("virtual-ip.svg", &svg(&explanation));
    let down = |name| Cluster::healthy().node_down(name);
    check("virtual-ip-owner-down", down("node-1"), "client", vip, Delivered);
    check("virtual-ip-backend-down", down("node-3"), "client", vip, Delivered);
    check("virtual-ip-no-listener", Cluster::healthy(), "client", "10.1.1.200:80", Refused);
    let two_ports = Cluster::healthy()
        .with(service("shop", 20, json!({"app": "web"}), Some(30001)))
        .with(slice("shop", &[("web-a", 0, 2)]));
    check("virtual-ip-node-port", two_ports, "client", "10.1.1.200:30001", Refused);
    check("virtual-ip-from-pod", Cluster::healthy(), "pod/default/shell", vip, Delivered);
    check("virtual-ip-from-owner", Cluster::healthy(), "node/node-1", vip, Delivered);
    let all_down = down("node-1").node_down("node-2").node_down("node-3");
    check("virtual-ip-unheld", all_down, "client", vip, Dropped);
    let none_ready = Cluster::healthy().change("EndpointSlice", "web-1", |slice| {
        slice["endpoints"] = json!([]);
    });
    let none_ready = ["web-a", "web-b", "web-c"].into_iter().fold(none_ready, |cluster, name| {
        cluster.change("Pod", name, |pod| pod["status"]["conditions"][0]["status"] = json!("False"))
    });
    check("virtual-ip-no-endpoints", none_ready, "client", vip, Refused);
}

#[test]
fn services() {
    use Verdict::{Delivered, Dropped, Refused};
    let one = |name, node| {
        Cluster::healthy().change("EndpointSlice", "web-1", |it| {
            *it = slice("web", &[(name, node, 2)]);
        })
    };
    let web = "svc/default/web:80";
    check("service-same-node", one("web-a", 0), "pod/default/shell", web, Delivered);
    check("service-other-node", one("web-b", 1), "pod/default/shell", web, Delivered);
    check("service-hairpin", one("web-a", 0), "pod/default/web-a", web, Delivered);
    let from_node =
        check("service-from-node", one("web-b", 1), "node/node-1", "svc/web:http", Delivered);
    compare("service-from-node.svg", &svg(&from_node));
    check(
        "service-endpoint-node-down",
        Cluster::healthy().node_down("node-3"),
        "pod/shell",
        web,
        Delivered,
    );
    check(
        "service-wrong-port",
        Cluster::healthy(),
        "pod/default/shell",
        "svc/default/web:9376",
        Refused,
    );
    check("service-from-outside", Cluster::healthy(), "client", web, Dropped);
    check(
        "service-unknown-address",
        Cluster::healthy(),
        "pod/default/shell",
        "10.96.7.7:80",
        Dropped,
    );
}

#[test]
fn services_without_endpoints() {
    let from = "pod/default/shell";
    let ask = |name, cluster| check(name, cluster, from, "svc/default/shop:80", Verdict::Refused);
    let shop = |selector| Cluster::healthy().with(service("shop", 20, selector, None));
    let selector = ask("no-endpoints-selector", shop(json!({"app": "wbe"})));
    compare("no-endpoints-selector.json", &(json(&selector) + "\n"));
    compare("no-endpoints-selector.svg", &svg(&selector));
    ask(
        "no-endpoints-not-ready",
        shop(json!({"app": "shop"})).with(pod("shop-a", 1, 7, "shop", false)),
    );
    let named = shop(json!({"app": "web"})).change("Service", "shop", |service| {
        service["spec"]["ports"][0]["targetPort"] = json!("web");
    });
    ask("no-endpoints-named-port", named);
    ask("no-endpoints-behind", shop(json!({"app": "web"})));
    let dead =
        shop(json!({"app": "shop"})).with(pod("shop-a", 2, 7, "shop", false)).node_down("node-3");
    ask("no-endpoints-node-down", dead);
    let by_hand = shop(json!(null));
    ask("no-endpoints-by-hand", by_hand);
    let deployment = shop(json!({"app": "shop"})).with(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "shop"}}, "template": {
            "metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "shop"}]}}},
    }));
    ask("no-endpoints-no-replicas", deployment);
}

#[test]
fn node_ports() {
    use Verdict::{Delivered, Dropped, Refused};
    let one = |name, node| {
        Cluster::healthy().change("EndpointSlice", "web-1", |it| {
            *it = slice("web", &[(name, node, 2)]);
        })
    };
    check("node-port-pod-here", one("web-b", 1), "client", "10.1.1.111:30000", Delivered);
    check("node-port-pod-elsewhere", one("web-c", 2), "client", "node/node-2:30000", Delivered);
    check(
        "node-port-from-pod-elsewhere",
        one("web-c", 2),
        "pod/shell",
        "10.1.1.111:30000",
        Delivered,
    );
    check("node-port-on-itself", one("web-c", 2), "node/node-2", "10.1.1.111:30000", Delivered);
    check("node-port-wrong", Cluster::healthy(), "client", "10.1.1.111:30009", Refused);
    check(
        "node-down",
        Cluster::healthy().node_down("node-2"),
        "client",
        "10.1.1.111:30000",
        Dropped,
    );
}

#[test]
fn pods_on_their_nodes_network() {
    let cluster = || {
        let hosty = pod("hosty", 1, 0, "hosty", true);
        let on_host = |pod: &mut serde_json::Value| {
            pod["spec"]["hostNetwork"] = json!(true);
            pod["status"]["podIP"] = json!("10.1.1.111");
        };
        let endpoints = slice("hosty", &[("hosty", 1, 0)]);
        let at_node = |slice: &mut serde_json::Value| {
            slice["endpoints"][0]["addresses"] = json!(["10.1.1.111"]);
        };
        Cluster::healthy()
            .with(hosty)
            .change("Pod", "hosty", on_host)
            .with(service("hosty", 30, json!({"app": "hosty"}), Some(30001)))
            .with(endpoints)
            .change("EndpointSlice", "hosty-1", at_node)
    };
    let delivered = Verdict::Delivered;
    check("host-network-direct", cluster(), "pod/shell", "pod/hosty:9376", delivered);
    check("host-network-service", cluster(), "pod/shell", "svc/hosty:80", delivered);
    check("host-network-node-port", cluster(), "client", "10.1.1.111:30001", delivered);
    check("host-network-sender", cluster(), "pod/hosty", "svc/web:80", delivered);
}

/// The page of the documentation that lists all codes is written here, too.
#[test]
fn every_code_is_explained() {
    let mut codes: Vec<(String, &str)> =
        Code::ALL.iter().map(|(code, meaning)| (code.to_string(), *meaning)).collect();
    codes.extend(Code::OF_COMPILER.iter().map(|(code, meaning)| (code.to_string(), *meaning)));
    codes.sort();
    codes.dedup_by(|a, b| a.0 == b.0);
    let mut page = String::from(
        "# Findings\n\n`podway explain` says what is noteworthy on a path with codes that never change.\n\n| Code | Meaning |\n|---|---|\n",
    );
    for (code, meaning) in codes {
        page.push_str(&format!("| `{code}` | {meaning} |\n"));
    }
    compare("../../../../docs/findings.md", &page);
}

#[test]
fn pods_and_the_outside() {
    use Verdict::{Delivered, Dropped, Refused, Unknown};
    let healthy = Cluster::healthy;
    check("pod-to-pod", healthy(), "pod/default/shell", "pod/default/web-c:9376", Delivered);
    check("node-to-pod", healthy(), "node/node-2", "10.244.0.2:9376", Delivered);
    check("pod-to-pod-not-listening", healthy(), "pod/shell", "pod/web-c:80", Refused);
    let own_program = healthy().change("Pod", "web-c", |pod| {
        pod["spec"]["containers"][0]["command"] = json!(["server"]);
    });
    check("pod-to-pod-own-program", own_program, "pod/shell", "pod/web-c:80", Unknown);
    let not_ready = healthy().with(pod("lazy", 1, 7, "lazy", false));
    check("pod-not-ready", not_ready, "pod/shell", "pod/lazy:9376", Delivered);
    check("pod-unknown-address", healthy(), "pod/shell", "10.244.2.99:9376", Dropped);
    check("pod-from-outside", healthy(), "10.1.1.77", "10.244.2.2:9376", Dropped);
    check("pod-to-client", healthy(), "pod/shell", "client:8080", Unknown);
    check("pod-to-api-server", healthy(), "pod/shell", "10.1.1.1:6443", Delivered);
    check("pod-to-nobody", healthy(), "pod/shell", "10.1.1.99:80", Dropped);
    check("pod-to-internet", healthy(), "pod/shell", "192.0.2.7:443", Dropped);
    let real = Cluster { environment: Environment::Cluster, ..healthy() };
    check("pod-to-internet-real", real, "pod/shell", "192.0.2.7:443", Unknown);
    let no_tunnel = healthy().change("Node", "node-3", |node| {
        node["metadata"]["annotations"] = json!({});
    });
    check("pod-to-pod-no-tunnel", no_tunnel, "pod/shell", "pod/web-c:9376", Dropped);
}

#[test]
fn questions_that_cannot_be_answered_say_why() {
    let cluster = Cluster::healthy()
        .with(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"},
                     "spec": {"type": "ExternalName", "externalName": "example.org"}}))
        .with(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"},
                     "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}}));
    let world = cluster.world();
    let settings = cluster.settings(&world);
    let mut text = String::new();
    for (from, to) in [
        ("nobody", "10.1.1.200:80"),
        ("node/node-9", "10.1.1.200:80"),
        ("pod/default/wbe-a", "10.1.1.200:80"),
        ("pod/", "10.1.1.200:80"),
        ("10.1.1.200", "10.1.1.200:80"),
        ("client", "web"),
        ("client", "10.1.1.200"),
        ("client", "10.1.1.200:0"),
        ("client", "10.1.1.200:70000"),
        ("client", "svc/default/wbe:80"),
        ("client", "svc/default/web:https"),
        ("client", "svc/default/alias:80"),
        ("client", "svc/default/db:5432"),
        ("client", "[fd00::1]:80"),
    ] {
        let question = Question { from: from.into(), to: to.into(), protocol: Protocol::Tcp };
        let error = explain(&world, &settings, &question).unwrap_err();
        text.push_str(&format!("--from {from} --to {to}\n    {error}\n"));
    }
    compare("questions.txt", &text);
}
