//! Requests with the answers that Kubernetes' documentation and API reference give for version 1.36.
//!
//! With `PODWAY_REAL_KUBECONFIG` the same rows are asked of the server that this kubeconfig names, so that the rows
//! themselves are checked. It needs a namespace `corpus` of its own, which is made and removed.

use crate::cluster::Cluster;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A request and what its answer must hold, by JSON pointer.
struct Row {
    method: &'static str,
    path: &'static str,
    media: &'static str,
    body: Value,
    code: u16,
    holds: Vec<(&'static str, Value)>,
}

fn row(
    (method, path): (&'static str, &'static str),
    media: &'static str,
    body: Value,
    code: u16,
    holds: &[(&'static str, Value)],
) -> Row {
    Row { method, path, media, body, code, holds: holds.to_vec() }
}

fn get(path: &'static str, code: u16, holds: &[(&'static str, Value)]) -> Row {
    row(("GET", path), JSON, Value::Null, code, holds)
}

fn post(path: &'static str, body: Value, code: u16, holds: &[(&'static str, Value)]) -> Row {
    row(("POST", path), JSON, body, code, holds)
}

fn patch(
    path: &'static str,
    media: &'static str,
    body: Value,
    code: u16,
    holds: &[(&'static str, Value)],
) -> Row {
    row(("PATCH", path), media, body, code, holds)
}

const MAPS: &str = "/api/v1/namespaces/corpus/configmaps";
const MAP: &str = "/api/v1/namespaces/corpus/configmaps/a";
const SERVICES: &str = "/api/v1/namespaces/corpus/services";
const SERVICE: &str = "/api/v1/namespaces/corpus/services/web";
const SETS: &str = "/apis/apps/v1/namespaces/corpus/deployments";
const SET: &str = "/apis/apps/v1/namespaces/corpus/deployments/web";

fn basics() -> Vec<Row> {
    let map = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}});
    vec![
        get(
            "/api/v1/namespaces/corpus",
            200,
            &[
                ("/status/phase", json!("Active")),
                ("/metadata/labels/kubernetes.io~1metadata.name", json!("corpus")),
            ],
        ),
        post(
            MAPS,
            map.clone(),
            201,
            &[
                ("/kind", json!("ConfigMap")),
                ("/apiVersion", json!("v1")),
                ("/metadata/namespace", json!("corpus")),
            ],
        ),
        post(
            MAPS,
            map,
            409,
            &[
                ("/reason", json!("AlreadyExists")),
                ("/message", json!("configmaps \"a\" already exists")),
                ("/details/kind", json!("configmaps")),
            ],
        ),
        get(
            "/api/v1/namespaces/corpus/configmaps/none",
            404,
            &[
                ("/reason", json!("NotFound")),
                ("/message", json!("configmaps \"none\" not found")),
                ("/details/name", json!("none")),
            ],
        ),
        get(
            "/api/v1/namespaces/corpus/nosuch",
            404,
            &[
                ("/reason", json!("NotFound")),
                ("/message", json!("the server could not find the requested resource")),
            ],
        ),
        get(
            "/api/v1/namespaces/corpus/configmaps?labelSelector=x%3Dy",
            200,
            &[("/kind", json!("ConfigMapList")), ("/items/0/metadata/name", json!("a"))],
        ),
        get(
            "/api/v1/namespaces/corpus/configmaps?labelSelector=x%3Dz",
            200,
            &[("/items", json!([]))],
        ),
        get(
            "/api/v1/namespaces/corpus/configmaps?labelSelector=%3D%3D",
            400,
            &[("/reason", json!("BadRequest"))],
        ),
        get(
            "/api/v1/namespaces/corpus/configmaps?fieldSelector=metadata.name%3Da",
            200,
            &[("/items/0/metadata/name", json!("a"))],
        ),
        post(
            "/api/v1/namespaces/none/configmaps",
            json!({"metadata": {"name": "a"}}),
            404,
            &[("/message", json!("namespaces \"none\" not found"))],
        ),
        post(
            MAPS,
            json!({"metadata": {"name": "a b"}}),
            422,
            &[
                ("/reason", json!("Invalid")),
                ("/details/causes/0/field", json!("metadata.name")),
                ("/details/causes/0/reason", json!("FieldValueInvalid")),
            ],
        ),
        post(
            MAPS,
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}),
            400,
            &[("/reason", json!("BadRequest"))],
        ),
        post(
            MAPS,
            json!({"metadata": {"name": "a", "namespace": "default"}}),
            400,
            &[("/reason", json!("BadRequest"))],
        ),
        post(
            "/api/v1/namespaces/corpus/configmaps?dryRun=All",
            json!({"metadata": {"name": "dry"}}),
            201,
            &[("/metadata/name", json!("dry"))],
        ),
        get("/api/v1/namespaces/corpus/configmaps/dry", 404, &[]),
        patch(
            MAP,
            MERGE,
            json!({"data": {"k": null, "l": "1"}}),
            200,
            &[("/data", json!({"l": "1"}))],
        ),
        patch(
            MAP,
            JSON_PATCH,
            json!([{"op": "replace", "path": "/data/l", "value": "2"}]),
            200,
            &[("/data/l", json!("2"))],
        ),
        patch(
            MAP,
            JSON_PATCH,
            json!([{"op": "test", "path": "/data/l", "value": "3"}]),
            422,
            &[("/reason", json!("Invalid"))],
        ),
        patch(
            MAP,
            MERGE,
            json!({"metadata": {"resourceVersion": "1"}}),
            409,
            &[("/reason", json!("Conflict"))],
        ),
        row(
            ("PUT", MAP),
            JSON,
            json!({"metadata": {"name": "b"}}),
            400,
            &[("/reason", json!("BadRequest"))],
        ),
        row(
            ("DELETE", MAP),
            JSON,
            json!({"preconditions": {"uid": "no"}}),
            409,
            &[("/reason", json!("Conflict"))],
        ),
        row(
            ("DELETE", MAP),
            JSON,
            Value::Null,
            200,
            &[("/kind", json!("Status")), ("/status", json!("Success"))],
        ),
        row(("DELETE", MAP), JSON, Value::Null, 404, &[]),
        row(("PUT", MAPS), JSON, json!({}), 405, &[("/reason", json!("MethodNotAllowed"))]),
        row(
            ("PATCH", MAP),
            "text/plain",
            json!({}),
            415,
            &[("/reason", json!("UnsupportedMediaType"))],
        ),
    ]
}

fn services() -> Vec<Row> {
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    vec![
        post(
            SERVICES,
            service,
            201,
            &[
                ("/spec/type", json!("ClusterIP")),
                ("/spec/sessionAffinity", json!("None")),
                ("/spec/internalTrafficPolicy", json!("Cluster")),
                ("/spec/ports/0", json!({"port": 80, "protocol": "TCP", "targetPort": 80})),
                ("/spec/ipFamilyPolicy", json!("SingleStack")),
            ],
        ),
        patch(
            SERVICE,
            STRATEGIC,
            json!({"spec": {"ports": [{"port": 443, "name": "tls"}]}}),
            422,
            &[
                ("/details/causes/0/reason", json!("FieldValueRequired")),
                ("/details/causes/0/field", json!("spec.ports[1].name")),
            ],
        ),
        patch(
            SERVICE,
            STRATEGIC,
            json!({"spec": {"ports": [{"port": 80, "name": "web"}]}}),
            200,
            &[("/spec/ports/0/name", json!("web"))],
        ),
        patch(
            SERVICE,
            MERGE,
            json!({"spec": {"type": "Odd"}}),
            422,
            &[
                ("/details/causes/0/reason", json!("FieldValueNotSupported")),
                ("/details/causes/0/field", json!("spec.type")),
            ],
        ),
        patch(
            SERVICE,
            MERGE,
            json!({"spec": {"clusterIP": "10.0.0.300"}}),
            422,
            &[("/reason", json!("Invalid"))],
        ),
        post(
            "/api/v1/namespaces/corpus/services?fieldValidation=Strict",
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "odd": 1}}),
            400,
            &[(
                "/message",
                json!(
                    "Service in version \"v1\" cannot be handled as a Service: strict decoding error: unknown field \"spec.odd\""
                ),
            )],
        ),
        post(
            SERVICES,
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": "x"}]}}),
            400,
            &[("/reason", json!("BadRequest"))],
        ),
        post(
            SERVICES,
            json!({"metadata": {"name": "s"}, "spec": {"ports": []}}),
            422,
            &[
                ("/details/causes/0/field", json!("spec.ports")),
                ("/details/causes/0/reason", json!("FieldValueRequired")),
            ],
        ),
        row(("DELETE", SERVICE), JSON, Value::Null, 200, &[]),
    ]
}

fn workloads() -> Vec<Row> {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "replicas": 2, "template": template}});
    let mut other = set.clone();
    other["spec"]["replicas"] = 3.into();
    let mut odd = set.clone();
    odd["spec"]["odd"] = 1.into();
    let (mine, theirs) = (
        "/apis/apps/v1/namespaces/corpus/deployments/web?fieldManager=mine",
        "/apis/apps/v1/namespaces/corpus/deployments/web?fieldManager=theirs",
    );
    let forced = "/apis/apps/v1/namespaces/corpus/deployments/web?fieldManager=theirs&force=true";
    let scale = "/apis/apps/v1/namespaces/corpus/deployments/web/scale";
    vec![
        patch(SET, APPLY, set.clone(), 422, &[("/details/causes/0/field", json!("fieldManager"))]),
        patch(
            mine,
            APPLY,
            set.clone(),
            201,
            &[
                ("/metadata/managedFields/0/manager", json!("mine")),
                ("/metadata/managedFields/0/operation", json!("Apply")),
                ("/spec/strategy/rollingUpdate/maxSurge", json!("25%")),
                ("/spec/template/spec/containers/0/imagePullPolicy", json!("Always")),
            ],
        ),
        patch(mine, APPLY, set, 200, &[("/metadata/generation", json!(1))]),
        patch(
            theirs,
            APPLY,
            other.clone(),
            409,
            &[
                ("/reason", json!("Conflict")),
                (
                    "/message",
                    json!("Apply failed with 1 conflict: conflict with \"mine\": .spec.replicas"),
                ),
                ("/details/causes/0/reason", json!("FieldManagerConflict")),
                ("/details/causes/0/field", json!(".spec.replicas")),
            ],
        ),
        patch(
            forced,
            APPLY,
            other,
            200,
            &[("/spec/replicas", json!(3)), ("/metadata/generation", json!(2))],
        ),
        patch(
            mine,
            APPLY,
            odd,
            500,
            &[(
                "/message",
                json!(
                    "failed to create typed patch object (corpus/web; apps/v1, Kind=Deployment): .spec.odd: field not declared in schema"
                ),
            )],
        ),
        get(
            scale,
            200,
            &[
                ("/kind", json!("Scale")),
                ("/apiVersion", json!("autoscaling/v1")),
                ("/spec/replicas", json!(3)),
                ("/status/selector", json!("a=b")),
            ],
        ),
        patch(scale, MERGE, json!({"spec": {"replicas": 1}}), 200, &[("/spec/replicas", json!(1))]),
        patch(
            SET,
            MERGE,
            json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}),
            422,
            &[("/reason", json!("Invalid"))],
        ),
        post(
            SETS,
            json!({"metadata": {"name": "x"}, "spec": {}}),
            422,
            &[
                ("/reason", json!("Invalid")),
                ("/details/group", json!("apps")),
                ("/details/kind", json!("Deployment")),
            ],
        ),
        row(
            ("DELETE", SET),
            JSON,
            json!({"propagationPolicy": "Background"}),
            200,
            &[("/status", json!("Success"))],
        ),
    ]
}

async fn ask(client: &Client, row: &Row) -> (u16, Value) {
    let body = if row.body.is_null() { Vec::new() } else { row.body.to_string().into_bytes() };
    let request = http::Request::builder().method(row.method).uri(row.path);
    let request = request.header("content-type", row.media).body(Body::from(body)).unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&text).unwrap_or_default())
}

async fn check(client: &Client) {
    let namespaces = "/api/v1/namespaces";
    ask(client, &post(namespaces, json!({"metadata": {"name": "corpus"}}), 201, &[])).await;
    let mut faults = Vec::new();
    for row in basics().into_iter().chain(services()).chain(workloads()) {
        let (code, answer) = ask(client, &row).await;
        let subject = format!("{} {} {}", row.method, row.path, row.body);
        if code != row.code {
            faults
                .push(format!("{subject}: {code} instead of {}: {}", row.code, answer["message"]));
        }
        for (pointer, wanted) in &row.holds {
            let found = answer.pointer(pointer).cloned().unwrap_or_default();
            if found != *wanted {
                faults.push(format!("{subject}: {pointer} is {found} instead of {wanted}"));
            }
        }
    }
    ask(client, &row(("DELETE", "/api/v1/namespaces/corpus"), JSON, Value::Null, 200, &[])).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn this_server_answers_as_the_real_one() {
    let cluster = Cluster::start(|_| {}).await;
    check(&cluster.client).await;
    if std::env::var_os("PODWAY_REAL_KUBECONFIG").is_some() {
        check(&real().await).await;
    }
}

async fn real() -> Client {
    let path = std::env::var_os("PODWAY_REAL_KUBECONFIG").unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}
