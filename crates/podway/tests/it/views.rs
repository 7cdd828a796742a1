//! `podway show`: what is programmed, with origins and counters.

use crate::labs::{Lab, example};
use serde_json::Value;

fn show(lab: &Lab, what: &str) -> Vec<Value> {
    let line = format!("lab exec node/node-2 -- podway show {what} -o json");
    lab.run(&line).json().as_array().unwrap().clone()
}

fn row<'a>(rows: &'a [Value], field: &str, value: impl Into<Value>) -> &'a Value {
    let value = value.into();
    let found = rows.iter().find(|row| row[field] == value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {rows:#?}"))
}

#[test]
fn what_connections_carried_is_shown() {
    let lab = Lab::up(&[&example("kubeadm-ha")], &["--agent-arg=--connection-accounting"]);
    for _ in 0..3 {
        lab.get("client", "http://10.1.1.111:30000/");
    }
    let services = show(&lab, "services");
    let node_port = row(&services, "port", 30000);
    let carried = |name: &str| node_port[name].as_u64().unwrap();
    // A request has a SYN, an ACK and more than 70 octets of HTTP; its answer some hundred.
    assert!(carried("request_bytes") > 3 * 200 && carried("reply_bytes") > 3 * 400, "{node_port}");
    assert!(node_port["active"].is_u64(), "{node_port}");
    let endpoints = show(&lab, "endpoints");
    let sum = |name: &str| endpoints.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    assert!(
        sum("connections") >= 3 && sum("reply_bytes") >= carried("reply_bytes"),
        "{endpoints:#?}"
    );
    assert!(
        endpoints
            .iter()
            .all(|row| row["service"] == "default/web:http" || row["service"] == "default/web"),
        "{endpoints:#?}"
    );
    let wide = lab.run("lab exec node/node-2 -- podway show services -o wide").stdout;
    assert!(wide.lines().next().unwrap().ends_with("ACTIVE  REQUEST_BYTES  REPLY_BYTES"), "{wide}");
}

/// Without it the reason is said, and JSON has nulls.
fn nothing_is_accounted(lab: &Lab) {
    let done = lab.run("lab exec node/node-2 -- podway show services -o wide");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("the agent runs without --connection-accounting"), "{done:?}");
    assert!(show(lab, "services").iter().all(|row| row["reply_bytes"].is_null()));
}

#[test]
fn everything_names_the_object_it_comes_from_and_counts() {
    let lab = Lab::up(&[&example("kubeadm-ha")], &[]);
    let before = show(&lab, "services");
    let connections = |rows: &[Value]| row(rows, "port", 30000)["connections"].as_u64().unwrap();
    for _ in 0..3 {
        lab.get("client", "http://10.1.1.111:30000/");
    }
    let after = show(&lab, "services");
    let node_port = row(&after, "port", 30000);
    assert_eq!(node_port["origin"], "Service default/web .spec.ports[0]");
    assert_eq!(node_port["endpoints"].as_array().unwrap().len(), 3);
    assert!(connections(&after) >= connections(&before) + 3, "{before:#?} {after:#?}");

    let routes = show(&lab, "routes");
    assert_eq!(row(&routes, "destination", "10.244.2.0/24")["origin"], "Node node-3 .spec.podCIDR");
    let to_pod = row(&routes, "source", "10.244.1.1");
    let origin = to_pod["origin"].as_str().unwrap();
    assert!(
        origin.starts_with("Pod default/web-") && origin.ends_with(" .status.podIP"),
        "{origin}"
    );

    let rules = show(&lab, "rules");
    let masquerade = row(&rules, "why", "reply through this node");
    assert!(masquerade["rule"].as_str().unwrap().contains("masquerade"), "{masquerade}");
    assert!(rules.iter().any(|rule| rule["packets"].as_u64() > Some(0)), "{rules:#?}");
    nothing_is_accounted(&lab);
}
