//! What clients rely on without asking: each was found by Kubernetes' own conformance tests.

use crate::ask::ask;
use crate::cluster::{Cluster, in_time, object};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

const JSON: &str = "application/json";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn flags_and_numbers_that_objects_are_silent_about_can_be_selected() {
    let cluster = Cluster::start(|_| {}).await;
    let all = json!([
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "open"}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "closed"}, "spec": {"unschedulable": true}},
        {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "new", "namespace": "default"},
         "reportingComponent": "example.com/c", "involvedObject": {"namespace": "default"}},
        {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "old", "namespace": "default"},
         "source": {"component": "kubelet"}, "involvedObject": {"namespace": "default"}},
    ]);
    for object in all.as_array().unwrap() {
        let place = match object["kind"] == "Node" {
            true => "/api/v1/nodes",
            false => "/api/v1/namespaces/default/events",
        };
        let (code, answer) = ask(&cluster, "POST", place, JSON, &object.to_string()).await;
        assert_eq!(code, 201, "{answer}");
    }
    for (question, expected) in [
        ("nodes?fieldSelector=spec.unschedulable%3Dfalse", "open"),
        ("nodes?fieldSelector=spec.unschedulable%3Dtrue", "closed"),
        ("events?fieldSelector=source%3Dkubelet", "old"),
        ("events?fieldSelector=source%3Dexample.com/c", "new"),
    ] {
        let (_, list) = ask(&cluster, "GET", &format!("/api/v1/{question}"), JSON, "").await;
        assert_eq!(names(&list), [expected], "{question}");
    }
}

#[tokio::test]
async fn a_piece_of_a_list_says_how_much_follows() {
    let cluster = Cluster::start(|_| {}).await;
    let maps = cluster.api("v1", "ConfigMap");
    for name in ["a", "b", "c"] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"of": "test"}}});
        maps.create(&PostParams::default(), &object(map)).await.unwrap();
    }
    for (labels, remaining) in [(None, Some(1)), (Some("of=test"), None)] {
        let params = ListParams { label_selector: labels.map(str::to_owned), ..Default::default() };
        let first = maps.list(&params.limit(2)).await.unwrap();
        assert_eq!(first.metadata.remaining_item_count, remaining, "{labels:?}");
        assert!(first.metadata.continue_.is_some());
    }
    let whole = maps.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!(whole.metadata.remaining_item_count, None);
}

#[tokio::test]
async fn custom_objects_are_read_with_the_defaults_of_today() {
    let cluster = Cluster::start(|_| {}).await;
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let definition = |properties: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "foos.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}]}})
    };
    let plain = object(definition(json!({"a": {"type": "string"}})));
    definitions.create(&PostParams::default(), &plain).await.unwrap();
    let typed: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    in_time(await_condition(typed, "foos.example.com", is_crd_established())).await.unwrap();
    let foos = cluster.api("example.com/v1", "Foo");
    let foo = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "one"}});
    let made = foos.create(&PostParams::default(), &object(foo)).await.unwrap();
    let better = Patch::Merge(definition(json!({"a": {"type": "string", "default": "A"}})));
    definitions.patch("foos.example.com", &PatchParams::default(), &better).await.unwrap();
    let read = foos.get("one").await.unwrap();
    assert_eq!(read.data["a"], "A");
    assert_eq!(read.resource_version(), made.resource_version(), "nobody wrote it");
    let listed = foos.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items[0].data["a"], "A");
}

#[tokio::test]
async fn faults_have_the_words_that_clients_look_for() {
    let cluster = Cluster::start(|_| {}).await;
    let twice =
        "\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  foo: a\n  foo: b\n";
    let place = "/api/v1/namespaces/default/configmaps/a?fieldManager=m&fieldValidation=Strict";
    let (code, answer) = ask(&cluster, "PATCH", place, "application/apply-patch+yaml", twice).await;
    let message = answer["message"].as_str().unwrap();
    assert_eq!(code, 400);
    assert!(message.ends_with("line 8: key \"foo\" already set in map"), "{message}");
}

#[tokio::test]
async fn fields_that_are_there_twice_are_named() {
    let cluster = Cluster::start(|_| {}).await;
    let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "more": 1, "data": {"b": "c", "b": "d"}}"#;
    let place = "/api/v1/namespaces/default/configmaps";
    let strict = format!("{place}?fieldValidation=Strict");
    let (code, answer) = ask(&cluster, "POST", &strict, JSON, map).await;
    let expected = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"more\", duplicate field \"data.b\"";
    assert_eq!((code, answer["message"].as_str()), (400, Some(expected)));
    let (code, answer) = ask(&cluster, "POST", place, JSON, map).await;
    assert_eq!((code, &answer["data"]["b"]), (201, &json!("d")));
}

#[tokio::test]
async fn an_open_kind_takes_whatever_is_applied() {
    let cluster = Cluster::start(|_| {}).await;
    let open = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
        "subresources": {"status": {}}, "schema": open})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.mygroup.example.com"},
        "spec": {"group": "mygroup.example.com", "scope": "Cluster",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": [version("v1beta1", false), version("v1beta2", true), version("v0", false)]}});
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &object(definition)).await.unwrap();
    let body = "\napiVersion: mygroup.example.com/v1beta1\nkind: Foo\nmetadata:\n  name: mytest\nspec:\n  unknown: uk1\n  cronSpec: \"* * * * */5\"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP";
    let place = "/apis/mygroup.example.com/v1beta1/foos/mytest?fieldManager=field_validation_mgr&fieldValidation=Strict";
    let (code, answer) = ask(&cluster, "PATCH", place, "application/apply-patch+yaml", body).await;
    assert_eq!(code, 201, "{answer}");
    let more = body.replace("uk1", "uk2").replace("  unknown", "  extra: [{a: {b: 1}}]\n  unknown");
    let (code, answer) = ask(&cluster, "PATCH", place, "application/apply-patch+yaml", &more).await;
    assert_eq!((code, &answer["spec"]["extra"]), (200, &json!([{"a": {"b": 1}}])), "{answer}");
    let less = body.replace("  unknown: uk1\n", "");
    let (_, answer) = ask(&cluster, "PATCH", place, "application/apply-patch+yaml", &less).await;
    assert_eq!((answer["spec"].get("unknown"), answer["spec"].get("extra")), (None, None));
}

#[tokio::test]
async fn a_pods_first_address_stands_in_two_places() {
    let cluster = Cluster::start(|_| {}).await;
    let pods = cluster.api("v1", "Pod");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    for (status, first) in [
        (json!({"podIP": "10.244.0.5"}), "10.244.0.5"),
        (json!({"podIP": "10.244.0.6"}), "10.244.0.6"),
        (json!({"podIP": null, "podIPs": [{"ip": "10.244.0.7"}, {"ip": "fd00::7"}]}), "10.244.0.7"),
    ] {
        let patch = Patch::Merge(json!({"status": status}));
        let written = pods.patch_status("a", &PatchParams::default(), &patch).await.unwrap();
        let found = &written.data["status"];
        assert_eq!((&found["podIP"], &found["podIPs"][0]["ip"]), (&json!(first), &json!(first)));
    }
}

#[tokio::test]
async fn custom_kinds_describe_what_every_object_has() {
    let cluster = Cluster::start(|_| {}).await;
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
        {"type": "object", "description": "Foo", "properties": {"spec": {"type": "object"}}}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "versions": [version],
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"}}});
    let definitions = cluster.all("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &object(definition)).await.unwrap();
    let (_, document) = ask(&cluster, "GET", "/openapi/v3/apis/example.com/v1", JSON, "").await;
    let properties = &document["components"]["schemas"]["com.example.v1.Foo"]["properties"];
    for (field, beginning) in [
        ("apiVersion", "APIVersion defines"),
        ("kind", "Kind is a string"),
        ("metadata", "Standard object's metadata"),
    ] {
        let description = properties[field]["description"].as_str().unwrap_or_default();
        assert!(description.starts_with(beginning), "{field}: {description:?}");
    }
}
