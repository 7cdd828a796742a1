//! Manifests become a cluster in which everything runs; what runs already stays as it is.

use crate::cluster::Cluster;
use explain::{Environment, Question, Settings, Verdict, explain, imagine};
use model::{Object, Protocol, World};
use serde_json::{Value, json};

fn imagined(objects: Vec<Value>) -> Vec<Value> {
    imagine(objects, "10.96.0.0/12".parse().unwrap())
}

fn manifests() -> Vec<Value> {
    let node = |index: u8| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{index}")},
               "spec": {"podCIDR": format!("10.244.{index}.0/24")},
               "status": {"addresses": [{"type": "InternalIP", "address": format!("10.1.1.11{index}")}]}})
    };
    let container = |name: &str, port: u16| json!({"name": "c", "ports": [{"name": name, "containerPort": port}]});
    vec![
        node(1),
        node(2),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
               "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                   "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container("http", 8080)]}}}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "odd", "labels": {"app": "web"}},
               "spec": {"nodeName": "node-2", "containers": [container("http", 9090)]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"type": "NodePort", "selector": {"app": "web"},
                        "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}),
    ]
}

#[test]
fn what_is_imagined_answers_questions() {
    let objects = imagined(manifests());
    let world = World::from_objects(objects.iter().map(|object| Object::parse(object).unwrap()));
    let settings = Settings::of(&world, Environment::Lab);
    let on = |node: &str| world.pods_on(node).count();
    assert_eq!((on("node-1"), on("node-2")), (2, 2), "spread over the nodes");
    for to in ["svc/web:80", "10.1.1.111:30000"] {
        let question =
            Question { from: "pod/web-1".into(), to: to.into(), protocol: Protocol::Tcp };
        let explanation = explain(&world, &settings, &question).unwrap();
        assert_eq!(explanation.verdict(), Verdict::Delivered, "{}", explanation.summary());
        assert_eq!(explanation.paths.len(), 4, "three of the template and the odd one");
        assert!(explanation.delivered.is_certain(), "{}", explanation.summary());
    }
}

#[test]
fn nothing_is_imagined_twice_or_instead_of_what_is_there() {
    let once = imagined(manifests());
    assert_eq!(imagined(once.clone()), once);
    let dump = Cluster::healthy().objects;
    assert_eq!(imagined(dump.clone()), dump);
}
