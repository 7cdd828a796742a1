//! `podway explain` says what the kernel does.

use crate::labs::{Lab, example, podway};
use serde_json::Value;

const QUESTION: &str = "explain --from client --to 10.1.1.200:30000";

#[test]
fn explanations_agree_with_the_kernel() {
    let lab = Lab::kubeadm_ha();
    let pod = lab.status()["pods"][0]["name"].as_str().unwrap().to_owned();
    let rows = [
        (QUESTION.to_owned(), "delivered", 0),
        ("explain --from client --to 10.1.1.112:30000".to_owned(), "delivered", 0),
        ("explain --from node/node-2 --to svc/default/web:80".to_owned(), "delivered", 0),
        (format!("explain --from pod/default/{pod} --to svc/default/web:80"), "delivered", 0),
        ("explain --from node/node-2 --to svc/web:80 --protocol udp".to_owned(), "refused", 1),
        ("explain --from client --to 10.1.1.112:30001".to_owned(), "refused", 1),
        ("explain --from client --to 10.1.1.200:30001".to_owned(), "refused", 1),
    ];
    for (question, verdict, code) in rows {
        let done = lab.run(&format!("{question} --verify -o json"));
        assert_eq!(done.code, code, "{question}: {done:?}");
        let json = done.json();
        assert_eq!(json["schema"], "podway.io/explain/v1");
        assert_eq!(json["verdict"], verdict, "{question}: {json:#}");
        assert!(!json["summary"].as_str().unwrap().is_empty());
        hops_are_complete(&json["request"]);
        hops_are_complete(&json["reply"]);
        assert!(json["verify"].is_object(), "{json:#}");
    }
    text_and_picture(&lab);
}

fn hops_are_complete(hops: &Value) {
    for hop in hops.as_array().unwrap() {
        for field in ["host", "stage", "before", "after"] {
            assert!(!hop[field].is_null(), "{field} of {hop:#}");
        }
    }
}

fn text_and_picture(lab: &Lab) {
    let tree = lab.run(&format!("{QUESTION} --verify"));
    assert_eq!(tree.code, 0, "{tree:?}");
    for word in ["agrees", "Service default/web", "VirtualIP edge", "10.1.1.200"] {
        assert!(tree.stdout.contains(word), "no {word:?} in:\n{}", tree.stdout);
    }
    assert!(!tree.stdout.contains('\u{1b}'), "no colours where there is no terminal");
    let svg = lab.run(&format!("{QUESTION} -o svg"));
    assert_eq!(svg.code, 0, "{svg:?}");
    assert!(svg.stdout.contains("<svg") && svg.stdout.trim_end().ends_with("</svg>"));
}

/// Every sender asks for everything: what is predicted is what the kernels do.
#[test]
fn predictions_are_right_from_everywhere_to_everything() {
    let cidrs = ["--pod-cidr", "10.42.0.0/16", "--service-cidr", "10.43.0.0/16"];
    let lab = Lab::up(&[&example("larger")], &cidrs);
    let senders = [
        "client",
        "node/alder",
        "node/cedar",
        "pod/ops/toolbox",
        "pod/data/store-0",
        "pod/data/store-1",
    ];
    let targets = [
        "192.168.50.100:8080",
        "svc/shop/frontend:metrics",
        "svc/shop/checkout:80",
        "svc/data/store:5432",
        "192.168.50.11:31080",
        "192.168.50.13:31090",
        "192.168.50.12:31099",
        "pod/data/store-1:5432",
        "pod/ops/toolbox:7000",
    ];
    let mut differing = Vec::new();
    for sender in senders {
        for target in targets {
            let done = lab.run(&format!("explain --from {sender} --to {target} --verify"));
            if !(0..=1).contains(&done.code) {
                differing.push(done);
            }
        }
    }
    let asked = senders.len() * targets.len();
    println!("agreement with the kernel: {} of {asked}", asked - differing.len());
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn it_says_where_a_packet_dies() {
    let cidrs = ["--pod-cidr", "10.42.0.0/16", "--service-cidr", "10.43.0.0/16"];
    let lab = Lab::up(&[&example("larger")], &cidrs);
    let rows = [
        ("pod/ops/toolbox", "svc/shop/checkout:80", "Service shop/checkout"),
        ("client", "192.168.50.11:31099", "Service shop/checkout"),
        ("pod/ops/toolbox", "svc/data/archive:http", "nobody has 192.168.50.240"),
        ("client", "10.42.1.2:7000", "10.42.1.2"),
    ];
    for (from, to, culprit) in rows {
        let done = lab.run(&format!("explain --from {from} --to {to} --verify"));
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stdout.contains(culprit), "{}", done.stdout);
        assert!(done.stdout.lines().next().unwrap().ends_with("agrees"), "{}", done.stdout);
    }
    let datagram = "explain --from pod/ops/toolbox --to svc/data/resolver:dns --protocol udp";
    let done = lab.run(&format!("{datagram} --verify"));
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn questions_that_make_no_sense_are_a_matter_of_usage() {
    let lab = Lab::kubeadm_ha();
    let rows = [
        "explain --from nowhere --to 10.1.1.200:30000",
        "explain --from client --to 10.1.1.200",
        "explain --from client --to svc/default/none:80",
        "explain --from client --to svc/default/web:nope",
        "explain --from pod/default/none --to 10.1.1.200:30000",
        "explain --from client",
    ];
    for question in rows {
        let done = lab.run(question);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{question}: {done:?}");
        assert!(!done.stderr.is_empty(), "{question}");
    }
}

#[test]
fn manifests_alone_can_be_explained() {
    let folder = example("kubeadm-ha");
    let folder = folder.to_str().unwrap();
    let arguments = ["explain", "-f", folder, "--from", "client", "--to", "10.1.1.200:30000"];
    let done = podway(&crate::labs::new_name(), &arguments);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("Service default/web"), "{}", done.stdout);
}
