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
}
