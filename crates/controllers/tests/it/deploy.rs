//! What `deploy/` applies is what an API server takes.

use crate::cluster::Cluster;
use controllers::Controller;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base")
}

fn read(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(base().join(name)).unwrap();
    let documents = model::manifest::parse(name, &text).unwrap();
    documents.into_iter().map(|document| document.value).collect()
}

/// Texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn every_object_is_taken() {
    let cluster = Cluster::without_controllers().await;
    let kustomization = read("kustomization.yaml");
    let files = texts(&kustomization[0]["resources"]);
    assert_eq!(files, ["virtualip.yaml", "agent.yaml", "controllers.yaml", "edge.yaml"]);
    // This server has VirtualIPs without a definition.
    for file in files.into_iter().filter(|file| *file != "virtualip.yaml") {
        for object in read(file) {
            let (kind, name) = (object["kind"].clone(), object["metadata"]["name"].clone());
            let taken = client::create(&cluster.client, &object).await;
            assert!(taken.is_ok(), "{file}: {kind} {name}: {:?}", taken.err());
        }
    }
}

/// The rights of a role on a resource.
fn verbs<'a>(roles: &'a [Value], resource: &str) -> Vec<&'a str> {
    let rules = roles.iter().filter_map(|role| role["rules"].as_array()).flatten();
    let on = rules.filter(|rule| texts(&rule["resources"]).contains(&resource));
    on.flat_map(|rule| texts(&rule["verbs"])).collect()
}

#[test]
fn the_controllers_that_run_have_the_rights_that_they_need() {
    let objects = read("controllers.yaml");
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let argument = texts(&container["args"])[0].strip_prefix("--controllers=").unwrap();
    let chosen: Vec<Controller> = argument.split(',').map(|name| name.parse().unwrap()).collect();
    assert_eq!(chosen, [Controller::EndpointSlice, Controller::EndpointSliceMirroring]);
    for resource in ["services", "pods", "nodes", "endpoints", "endpointslices"] {
        let verbs = verbs(&objects, resource);
        assert!(verbs.contains(&"list") && verbs.contains(&"watch"), "{resource}: {verbs:?}");
    }
    for verb in ["get", "create", "patch"] {
        assert!(verbs(&objects, "endpointslices").contains(&verb), "{verb} endpointslices");
        assert!(verbs(&objects, "leases").contains(&verb), "{verb} leases");
    }
    assert!(!objects.iter().any(|object| texts(&object["rules"][0]["verbs"]).contains(&"*")));
}
