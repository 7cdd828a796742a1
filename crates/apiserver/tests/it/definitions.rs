//! Kinds that are declared while the server runs.

use crate::ask::ask;
use crate::cluster::{Cluster, in_time, object};
use futures::StreamExt;
use kube::Api;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::DynamicObject;
use serde_json::{Value, json};

fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer", "minimum": 0, "default": 1},
                    "colour": {"type": "string", "enum": ["red", "blue"]},
                },
                "x-kubernetes-validations": [{"rule": "self.replicas < 10 || self.colour == 'red'", "message": "many are red"}],
            },
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        },
    }});
    let scale =
        json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "subresources": {"status": {}, "scale": scale},
            "additionalPrinterColumns": [{"name": "Colour", "type": "string", "jsonPath": ".spec.colour"}]})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "kites.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "kites", "kind": "Kite", "shortNames": ["kt"]},
            "versions": [version("v1", true), version("v1beta1", false)],
        },
    })
}

async fn declared(cluster: &Cluster) -> (Api<DynamicObject>, Api<DynamicObject>) {
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let made = definitions.create(&PostParams::default(), &object(definition())).await.unwrap();
    assert_eq!(made.data["status"]["conditions"][1]["type"], "Established");
    assert_eq!(made.data["spec"]["names"]["listKind"], "KiteList");
    (definitions, cluster.api("example.com/v1", "Kite"))
}

fn kite(name: &str, spec: Value) -> DynamicObject {
    object(
        json!({"apiVersion": "example.com/v1", "kind": "Kite", "metadata": {"name": name}, "spec": spec}),
    )
}

#[tokio::test]
async fn a_declared_kind_is_like_any_other() {
    let cluster = Cluster::start(|_| {}).await;
    let (_, kites) = declared(&cluster).await;
    let mut events = kites.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let given = kite("a", json!({"colour": "red", "odd": 1}));
    let made = kites.create(&PostParams::default(), &given).await.unwrap();
    assert_eq!(made.data["spec"], json!({"colour": "red", "replicas": 1}), "pruned and completed");
    let event = in_time(events.next()).await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(kite) if kite.metadata.name.as_deref() == Some("a")));

    let scale = json!({"spec": {"replicas": 4}});
    kites.patch_scale("a", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
    let status = json!({"status": {"replicas": 4}, "spec": {"colour": "blue"}});
    let patch = Patch::Merge(status);
    let patched = kites.patch_status("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data["spec"], json!({"colour": "red", "replicas": 4}));
    assert_eq!(patched.data["status"]["replicas"], 4);
    assert_eq!(patched.metadata.generation, Some(2));

    let old = cluster.api("example.com/v1beta1", "Kite").get("a").await.unwrap();
    assert_eq!(old.types.unwrap().api_version, "example.com/v1beta1");
    let groups = cluster.client.list_api_groups().await.unwrap().groups;
    let group = groups.iter().find(|group| group.name == "example.com").expect("the group");
    let versions: Vec<_> = group.versions.iter().map(|version| version.version.as_str()).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
}

#[tokio::test]
async fn the_schema_and_its_rules_are_kept() {
    let cluster = Cluster::start(|_| {}).await;
    let (_, kites) = declared(&cluster).await;
    for (spec, message) in [
        (
            json!({"colour": "green"}),
            r#"spec.colour: Unsupported value: "green": supported values: "red", "blue""#,
        ),
        (
            json!({"replicas": "x"}),
            r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#,
        ),
        (json!({"replicas": 20, "colour": "blue"}), r#"spec: Invalid value: many are red"#),
    ] {
        let refused = kites.create(&PostParams::default(), &kite("b", spec)).await.unwrap_err();
        let kube::Error::Api(status) = refused else { panic!("{refused:?}") };
        assert_eq!(status.code, 422);
        assert!(status.message.contains(message), "{}", status.message);
    }
}

#[tokio::test]
async fn a_kind_goes_with_its_definition() {
    let cluster = Cluster::start(|_| {}).await;
    let (definitions, kites) = declared(&cluster).await;
    let held =
        object(json!({"metadata": {"name": "a", "finalizers": ["example.com/hold"]}, "spec": {}}));
    kites.create(&PostParams::default(), &held).await.unwrap();
    definitions.delete("kites.example.com", &DeleteParams::default()).await.unwrap();
    let gone = kites.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 404));
    let (code, _) = ask(&cluster, "GET", "/apis/example.com/v1", "", "").await;
    assert_eq!(code, 404);
    let (_, again) = declared(&cluster).await;
    assert_eq!(again.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn definitions_are_checked() {
    let cluster = Cluster::start(|_| {}).await;
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    for (pointer, value) in [
        ("/metadata/name", json!("kite.example.com")),
        ("/spec/scope", json!("Everywhere")),
        ("/spec/versions/1/storage", json!(true)),
        ("/spec/versions/0/schema", json!({})),
    ] {
        let mut wrong = definition();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let refused = definitions.create(&PostParams::default(), &object(wrong)).await;
        let Err(kube::Error::Api(status)) = refused else { panic!("{pointer}: {refused:?}") };
        assert_eq!(status.code, 422, "{pointer}: {}", status.message);
    }
}
