//! `examples/services`: what each kind of Service does is explained, and the explanation is what the kernel does.

use crate::labs::{Lab, example, wait_until};
use serde_json::Value;

/// Who asks, for what, how it ends, and the code that says why.
const ROWS: [(&str, &str, &str, Option<&str>); 16] = [
    ("client", "10.1.1.200:80", "delivered", None),
    ("pod/default/asker", "10.1.1.200:80", "dropped", Some("source-not-allowed")),
    ("pod/default/asker", "svc/default/shop:80", "delivered", None),
    ("client", "10.1.1.110:30080", "delivered", None),
    ("client", "10.1.1.111:30081", "delivered", None),
    ("client", "10.1.1.110:30081", "dropped", Some("no-local-endpoint")),
    ("pod/default/asker", "10.1.1.110:30081", "delivered", None),
    ("node/node-1", "10.1.1.110:30081", "delivered", None),
    ("pod/default/asker", "svc/default/node-local:80", "dropped", Some("no-local-endpoint")),
    ("pod/default/web-2", "svc/default/node-local:80", "delivered", None),
    ("pod/default/asker", "svc/default/near:80", "delivered", None),
    ("pod/default/web-1", "svc/default/near:80", "delivered", None),
    ("pod/default/asker", "svc/default/hashed:80", "delivered", None),
    ("node/node-2", "10.1.1.201:80", "delivered", None),
    ("pod/default/asker", "svc/default/empty:80", "refused", Some("no-endpoints")),
    ("pod/default/asker", "10.96.0.11:81", "refused", Some("unknown-service-port")),
];

/// What becomes of connections to an address of a ServiceCIDR that no Service has, by proxy mode: rules drop them, a
/// process that listens does not see them.
const UNALLOCATED: &str = "unallocated-service-address";
const UNSEEN: &str = "unknown-address";

fn agrees(lab: &Lab, nobodys: &str) {
    let nobodys = ("pod/default/asker", "10.96.0.77:80", "dropped", Some(nobodys));
    for (from, to, verdict, code) in ROWS.into_iter().chain([nobodys]) {
        let done = lab.run(&format!("explain --from {from} --to {to} --verify -o json"));
        let told = format!("{from} to {to}: {done:?}");
        assert_eq!(done.code, i32::from(verdict != "delivered"), "{told}");
        let json = done.json();
        assert_eq!(json["verdict"], verdict, "{told}");
        assert_eq!(json["code"].as_str(), code, "{told}");
    }
}

fn services(mode: &str) -> Lab {
    let proxy = format!("--agent-arg=--proxy-mode={mode}");
    let lab = Lab::up(&[&example("services")], &[&proxy]);
    wait_until("the virtual IP is held", || !lab.owner("shop").is_empty());
    lab
}

#[test]
fn every_kind_of_service_is_explained_as_it_is() {
    let lab = services("nft");
    agrees(&lab, UNALLOCATED);
    shown(&lab);
    health_checked(&lab);
}

#[test]
fn iptables_does_what_is_explained() {
    agrees(&services("iptables"), UNALLOCATED);
}

/// Two connections in the place of one, and everything else as in the kernel's own rules.
#[test]
fn userspace_does_what_is_explained() {
    let lab = services("userspace");
    agrees(&lab, UNSEEN);
    shown(&lab);
    health_checked(&lab);
    relayed(&lab);
}

/// The pod sees the node; what went through the relay is counted.
fn relayed(lab: &Lab) {
    let question = "explain --from pod/default/asker --to svc/default/shop:80 --verify -o json";
    let json = lab.run(question).json();
    let text = json.to_string();
    assert!(text.contains("a new one begins, from the node's own address"), "{json:#}");
    assert!(text.contains("replaced by the service proxy on node/"), "{json:#}");
    let (mut octets, mut connections) = (0, 0);
    for node in ["node-1", "node-2"] {
        let shown = |what: &str| {
            lab.run(&format!("lab exec node/{node} -- podway show {what} -o json")).json()
        };
        let rows = shown("services");
        let rows = rows.as_array().unwrap();
        let hashed = rows.iter().find(|row| row["address"] == "10.96.0.14").unwrap();
        assert_eq!(hashed["scheduler"], "mh", "{hashed}");
        let sum = |field: &str| rows.iter().filter_map(|row| row[field].as_u64()).sum::<u64>();
        octets += sum("reply_bytes");
        let endpoints = shown("endpoints");
        let each = endpoints.as_array().unwrap().iter();
        connections += each.filter_map(|row| row["connections"].as_u64()).sum::<u64>();
    }
    assert!(octets > 0 && connections > 0, "{octets} octets, {connections} connections");
}

/// `podway show services` says all of it.
fn shown(lab: &Lab) {
    let done = lab.run("lab exec node/node-1 -- podway show services -o json");
    let rows = done.json();
    let row = |address: &str, port: u16| -> Value {
        let rows = rows.as_array().unwrap().iter();
        let mut rows = rows.filter(|row| row["address"] == address && row["port"] == port);
        rows.next().cloned().unwrap_or_else(|| panic!("no {address}:{port} in {done:?}"))
    };
    let shop = row("10.1.1.200", 80);
    assert_eq!(shop["affinity"], 10_800, "{shop}");
    assert_eq!(shop["sources"][0], "10.1.1.0/24", "{shop}");
    assert_eq!(shop["local"].as_array().unwrap().len(), 1, "{shop}");
    assert!(shop["endpoints"][0].as_str().unwrap().ends_with(":8080=3"), "{shop}");
    assert_eq!(row("10.96.0.12", 80)["endpoints"], "dropped");
    assert_eq!(row("10.96.0.16", 80)["endpoints"], "refused");
    assert_eq!(row("10.96.0.13", 80)["endpoints"].as_array().unwrap().len(), 1);
    let origin = row("node", 30_081)["origin"].clone();
    assert_eq!(origin, "Service default/api .spec.ports[0]");
}

/// A cloud's load balancer asks each node whether it has endpoints.
fn health_checked(lab: &Lab) {
    let done = lab.try_get("client", "http://10.1.1.110:30900/");
    let json = done.json();
    assert_eq!((json["localEndpoints"].as_u64(), done.code), (Some(1), 0), "{json}");
    assert_eq!(json["service"]["name"], "shop");
}
