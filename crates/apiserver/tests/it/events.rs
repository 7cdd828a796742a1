//! Events: the same objects in two groups.

use crate::ask::ask;
use crate::cluster::{Cluster, in_time, object};
use futures::StreamExt;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// As a scheduler writes it.
fn new(name: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "example.com/scheduler",
        "reportingInstance": "scheduler-1", "action": "Binding", "reason": "Scheduled", "type": "Normal",
        "note": "Assigned", "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "web"},
    })
}

#[tokio::test]
async fn two_groups_show_the_same_events() {
    let cluster = Cluster::start(|_| {}).await;
    let (core, events) = (cluster.api("v1", "Event"), cluster.api("events.k8s.io/v1", "Event"));
    let mut watched = core.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let made = events.create(&PostParams::default(), &object(new("a"))).await.unwrap();
    assert_eq!(made.data["note"], "Assigned");
    let seen = core.get("a").await.unwrap();
    assert_eq!(seen.types.as_ref().unwrap().api_version, "v1");
    assert_eq!(
        [
            &seen.data["message"],
            &seen.data["involvedObject"]["name"],
            &seen.data["reportingComponent"]
        ],
        ["Assigned", "web", "example.com/scheduler"]
    );
    assert!(seen.data.get("note").is_none());
    let event = in_time(watched.next()).await.unwrap().unwrap();
    let WatchEvent::Added(event) = event else { panic!("{event:?}") };
    assert_eq!(event.data["message"], "Assigned");

    // What the core group's clients write is seen in the other.
    let mut watched = events
        .watch(&WatchParams::default(), &made.metadata.resource_version.unwrap())
        .await
        .unwrap()
        .boxed();
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "b"}, "message": "Pulled", "count": 2,
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"}, "source": {"component": "kubelet"}});
    core.create(&PostParams::default(), &object(old)).await.unwrap();
    let event = in_time(watched.next()).await.unwrap().unwrap();
    let WatchEvent::Added(event) = event else { panic!("{event:?}") };
    assert_eq!(
        (&event.data["note"], &event.data["deprecatedCount"]),
        (&json!("Pulled"), &json!(2))
    );
    assert_eq!(event.data["deprecatedSource"]["component"], "kubelet");

    // Selected by the names that each has.
    let named = |fields: &str| ListParams::default().fields(fields);
    let names = |events: kube::core::ObjectList<DynamicObject>| -> Vec<_> {
        events.items.into_iter().filter_map(|event| event.metadata.name).collect()
    };
    let by_note = events.list(&named("reportingController=example.com/scheduler")).await.unwrap();
    assert_eq!(names(by_note), ["a"]);
    let about = events.list(&named("regarding.name=web")).await.unwrap();
    assert_eq!(names(about), ["a", "b"]);
    let about = core.list(&named("involvedObject.name=web")).await.unwrap();
    assert_eq!(names(about), ["a", "b"]);

    events.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(core.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn series_are_patched_and_nothing_else() {
    let cluster = Cluster::start(|_| {}).await;
    let (core, events) = (cluster.api("v1", "Event"), cluster.api("events.k8s.io/v1", "Event"));
    events.create(&PostParams::default(), &object(new("a"))).await.unwrap();
    let patch = |value: Value| Patch::Merge(value);
    let params = PatchParams { field_manager: Some("series".into()), ..PatchParams::default() };
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}});
    let patched = events.patch("a", &params, &patch(series)).await.unwrap();
    assert_eq!(patched.data["series"]["count"], 2);
    let other = events.patch("a", &params, &patch(json!({"note": "x"}))).await.unwrap_err();
    let kube::Error::Api(status) = other else { panic!("{other:?}") };
    assert_eq!(
        (status.code, status.message.contains("message: Invalid value: \"x\": field is immutable")),
        (422, true),
        "{status:?}"
    );

    // Strategic: the list of owners is kept, each in the words of the version he wrote in.
    let noted = Patch::Strategic(json!({"message": "y"}));
    let noted = core.patch("a", &params, &noted).await.unwrap();
    let owners = noted.metadata.managed_fields.unwrap();
    let owned = |version: &str, field: &str| {
        owners.iter().any(|it| {
            let fields = it.fields_v1.as_ref().map(|it| it.0.clone()).unwrap_or_default();
            it.api_version.as_deref() == Some(version) && fields.get(field).is_some()
        })
    };
    assert!(owned("v1", "f:message") && owned("events.k8s.io/v1", "f:regarding"), "{owners:?}");
    assert!(!owned("events.k8s.io/v1", "f:note"), "the message has a new owner: {owners:?}");
}

#[tokio::test]
async fn new_events_are_checked() {
    let cluster = Cluster::start(|_| {}).await;
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    for (field, value, fault) in [
        ("eventTime", Value::Null, "eventTime: Required value"),
        ("type", json!("Odd"), "type: Invalid value: \"\": has invalid value: Odd"),
        ("action", Value::Null, "action: Required value"),
        ("reportingController", json!("a b"), "reportingController: Invalid value: \"a b\""),
        ("deprecatedCount", json!(1), "count: Invalid value: \"\": needs to be unset"),
        (
            "note",
            json!("x".repeat(1025)),
            "message: Invalid value: \"\": can have at most 1024 characters",
        ),
    ] {
        let mut wrong = new("wrong");
        wrong[field] = value;
        let (code, answer) =
            ask(&cluster, "POST", path, "application/json", &wrong.to_string()).await;
        assert_eq!(code, 422, "{field}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(fault), "{field}: {message}");
    }
}
