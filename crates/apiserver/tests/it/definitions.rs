//! Kinds that are declared while the server runs.

use crate::ask::ask;
use crate::cluster::{Cluster, in_time, object};
use futures::StreamExt;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
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
    definitions.create(&PostParams::default(), &object(definition())).await.unwrap();
    let made = definitions.get("kites.example.com").await.unwrap();
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
    let mut held = kite("a", json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    kites.create(&PostParams::default(), &held).await.unwrap();
    kites.create(&PostParams::default(), &kite("b", json!({}))).await.unwrap();
    let ending = definitions.delete("kites.example.com", &DeleteParams::default()).await.unwrap();
    let ending = ending.left().expect("a definition that waits");
    assert_eq!(ending.data["status"]["conditions"][2]["type"], "Terminating");
    let left = kites.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(left.iter().map(|kite| kite.name_any()).collect::<Vec<_>>(), ["a"]);
    let late = kites.create(&PostParams::default(), &kite("c", json!({}))).await.unwrap_err();
    assert!(matches!(late, kube::Error::Api(status) if status.code == 405));
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    kites.patch("a", &PatchParams::default(), &release).await.unwrap();
    assert!(definitions.get_opt("kites.example.com").await.unwrap().is_none());
    let gone = kites.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 404));
    let (code, _) = ask(&cluster, "GET", "/apis/example.com/v1", "", "").await;
    assert_eq!(code, 404);
    let (_, again) = declared(&cluster).await;
    assert_eq!(again.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

/// Two versions with schemas of their own; what is stored is the newer one.
fn two_versions() -> Value {
    let version = |name: &str, storage: bool, spec: Value| {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}});
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
    };
    let old = json!({
        "hostnames": {"type": "array", "items": {"type": "string"}, "maxItems": 1},
        "weight": {"type": "integer", "default": 1, "maximum": 5},
    });
    let new = json!({
        "hostnames": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "weight": {"type": "integer", "default": 10},
        "mode": {"type": "string", "default": "fast"},
    });
    let mut definition = definition();
    definition["spec"]["versions"] =
        json!([version("v1alpha2", false, old), version("v1alpha3", true, new)]);
    definition
}

#[tokio::test]
async fn each_version_has_its_own_schema() {
    let cluster = Cluster::start(|_| {}).await;
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &object(two_versions())).await.unwrap();
    let api = |version: &str| cluster.api(&format!("example.com/{version}"), "Kite");
    let (old, new) = (api("v1alpha2"), api("v1alpha3"));
    let kite = |version: &str, name: &str, spec: Value| {
        object(json!({"apiVersion": format!("example.com/{version}"), "kind": "Kite",
            "metadata": {"name": name}, "spec": spec}))
    };
    let post = PostParams { field_manager: Some("me".into()), ..PostParams::default() };
    let refused = |answer: Result<DynamicObject, kube::Error>| match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        other => panic!("{other:?}"),
    };

    // Validated by the version that was asked for.
    let both = json!({"hostnames": ["a", "b"]});
    let (code, message) = refused(old.create(&post, &kite("v1alpha2", "x", both.clone())).await);
    assert!(
        code == 422 && message.contains("spec.hostnames: Too many: 2: must have at most 1 items"),
        "{message}"
    );
    let made = new.create(&post, &kite("v1alpha3", "x", both)).await.unwrap();
    assert_eq!(made.data["spec"], json!({"hostnames": ["a", "b"], "weight": 10, "mode": "fast"}));
    let (code, _) = refused(new.create(&post, &kite("v1alpha2", "y", json!({}))).await);
    assert_eq!(code, 400, "the version in the path is another one");

    // Completed and pruned by it; what is stored is completed when it is read.
    let made = old.create(&post, &kite("v1alpha2", "z", json!({"mode": "slow"}))).await.unwrap();
    assert_eq!(made.data["spec"], json!({"weight": 1}));
    assert_eq!(
        made.metadata.managed_fields.unwrap()[0].api_version.as_deref(),
        Some("example.com/v1alpha2")
    );
    assert_eq!(new.get("z").await.unwrap().data["spec"], json!({"weight": 1, "mode": "fast"}));
    assert_eq!(
        old.get("x").await.unwrap().data["spec"],
        json!({"hostnames": ["a", "b"], "weight": 10})
    );

    // A write through one version leaves out what that one does not know.
    let patch = Patch::Merge(json!({"spec": {"hostnames": ["c"], "weight": 5}}));
    let patched = old.patch("x", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data["spec"], json!({"hostnames": ["c"], "weight": 5}));
    assert_eq!(new.get("x").await.unwrap().data["spec"]["mode"], "fast", "by default again");

    // Whoever applies in two versions is one manager.
    for (api, version) in [(&old, "v1alpha2"), (&new, "v1alpha3")] {
        let config = kite(version, "applied", json!({"weight": 2}));
        let applied =
            api.patch("applied", &PatchParams::apply("me"), &Patch::Apply(&config)).await.unwrap();
        let managers = applied.metadata.managed_fields.unwrap();
        let versions = managers.iter().map(|it| it.api_version.as_deref().unwrap_or_default());
        assert_eq!(versions.collect::<Vec<_>>(), [format!("example.com/{version}")]);
    }
    let listed = old.list(&ListParams::default()).await.unwrap();
    assert!(listed.items.iter().all(|kite| kite.data["spec"].get("mode").is_none()));
}

#[tokio::test]
async fn an_object_of_a_version_that_was_stored_before_is_one_of_that_which_is_now() {
    let cluster = Cluster::start(|_| {}).await;
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let mut definition = definition();
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        version["schema"] = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    }
    definitions.create(&PostParams::default(), &object(definition.clone())).await.unwrap();
    let kites = cluster.api("example.com/v1", "Kite");
    let made = kite("a", json!({"colour": "red"}));
    kites.create(&PostParams::default(), &made).await.unwrap();
    for (at, storage) in [(0, false), (1, true)] {
        definition["spec"]["versions"][at]["storage"] = storage.into();
    }
    let change = Patch::Merge(json!({"spec": definition["spec"]}));
    let params = PatchParams::default();
    definitions.patch("kites.example.com", &params, &change).await.unwrap();
    let other = cluster.api("example.com/v1beta1", "Kite");
    let shown = other.get("a").await.unwrap();
    assert_eq!(shown.types.unwrap().api_version, "example.com/v1beta1");
    let change = Patch::Merge(json!({"spec": {"size": 1}}));
    let changed = other.patch("a", &params, &change).await.unwrap();
    assert_eq!(changed.data["spec"], json!({"colour": "red", "size": 1}));
    let shown = kites.get("a").await.unwrap();
    assert_eq!(shown.types.unwrap().api_version, "example.com/v1");
}

#[tokio::test]
async fn a_name_belongs_to_one_definition_of_a_group() {
    let cluster = Cluster::start(|_| {}).await;
    let (definitions, _) = declared(&cluster).await;
    let mut other = definition();
    other["metadata"]["name"] = "planes.example.com".into();
    other["spec"]["names"] = json!({"plural": "planes", "kind": "Kite", "shortNames": ["pl"]});
    definitions.create(&PostParams::default(), &object(other)).await.unwrap();
    let conditions = || async {
        let found = definitions.get("planes.example.com").await.unwrap();
        let conditions = found.data["status"]["conditions"].as_array().unwrap().clone();
        let text = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
        let told = conditions
            .iter()
            .map(|it| [text(it, "type"), text(it, "status"), text(it, "reason")].join(" "));
        (told.collect::<Vec<_>>(), text(&conditions[0], "message"))
    };
    let (told, message) = conditions().await;
    assert_eq!(told, ["NamesAccepted False ListKindConflict", "Established False NotAccepted"]);
    assert_eq!(message, "\"KiteList\" is already in use");
    let path = "/apis/example.com/v1/planes";
    assert_eq!(ask(&cluster, "GET", path, "", "").await.0, 404, "nobody serves it");
    definitions.delete("kites.example.com", &DeleteParams::default()).await.unwrap();
    let (told, _) = conditions().await;
    assert_eq!(told, ["NamesAccepted True NoConflicts", "Established True InitialNamesAccepted"]);
    assert_eq!(ask(&cluster, "GET", path, "", "").await.0, 200);
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
        ("/spec/versions/1/name", json!("v1")),
        ("/spec/group", json!("example")),
        ("/spec/names", json!({"plural": "kites", "kind": "Kite", "listKind": "Kite"})),
        ("/spec/names/kind", json!("K_te")),
        ("/spec/names/shortNames", json!(["k t"])),
    ] {
        let mut wrong = definition();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let refused = definitions.create(&PostParams::default(), &object(wrong)).await;
        let Err(kube::Error::Api(status)) = refused else { panic!("{pointer}: {refused:?}") };
        assert_eq!(status.code, 422, "{pointer}: {}", status.message);
    }
}
