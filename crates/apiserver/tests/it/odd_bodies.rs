//! Bodies of every form that the server reads, well formed and torn, to objects that are there.

use crate::ask::{ask, ask_bytes};
use crate::cluster::Cluster;
use crate::hostile::{cases, check, json};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What the requests are about: path of the kind, group and version, kind, and a valid object's specification.
fn targets() -> [(&'static str, &'static str, &'static str, Value); 9] {
    let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": 80}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    [
        ("/api/v1/namespaces/default/services", "v1", "Service", json!({"ports": [{"port": 80}]})),
        ("/api/v1/namespaces/default/pods", "v1", "Pod", template["spec"].clone()),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            "apps/v1",
            "Deployment",
            json!({"selector": selector, "template": template}),
        ),
        ("/api/v1/nodes", "v1", "Node", json!({"podCIDR": "10.0.0.0/24"})),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            "policy/v1",
            "PodDisruptionBudget",
            json!({"minAvailable": 1}),
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"maxReplicas": 1, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}),
        ),
        ("/api/v1/namespaces/default/events", "v1", "Event", json!({})),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({}),
        ),
        (
            "/apis/example.com/v1/namespaces/default/kites",
            "example.com/v1",
            "Kite",
            json!({"ports": [{"name": "x"}]}),
        ),
    ]
}

async fn populated() -> Cluster {
    let cluster = Cluster::start(|_| {}).await;
    let port = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"]},
        "port": {"type": "integer"}, "selector": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    let definition = json!({"metadata": {"name": "kites.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Kite", "plural": "kites", "singular": "kite"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, answer) =
        ask(&cluster, "POST", crds, "application/json", &definition.to_string()).await;
    assert_eq!(code, 201, "{answer}");
    for (path, version, kind, spec) in targets() {
        let body =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
        let (code, answer) =
            ask(&cluster, "POST", path, "application/json", &body.to_string()).await;
        assert_eq!(code, 201, "{answer}");
    }
    cluster
}

/// JSON pointers, most of which lead somewhere.
fn pointer() -> impl Strategy<Value = String> {
    "(/(metadata|spec|status|labels|annotations|finalizers|ports|containers|template|selector|0|1|-|name|~0|~1|[a-z]{1,3})){0,5}"
}

fn json_patch() -> impl Strategy<Value = Vec<u8>> {
    let verb = prop_oneof!["add", "remove", "replace", "move", "copy", "test", "[a-z]{1,4}"];
    let operation = (verb, pointer(), pointer(), json()).prop_map(
        |(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}),
    );
    prop::collection::vec(operation, 0..6).prop_map(|list| Value::from(list).to_string().into())
}

/// A patch of the kind's own fields, with directives among them.
fn merge_patch() -> impl Strategy<Value = Vec<u8>> {
    (json(), json(), json()).prop_map(|(metadata, spec, status)| {
        json!({"metadata": metadata, "spec": spec, "status": status}).to_string().into()
    })
}

/// Text that is YAML more often than not.
fn yaml() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "( {0,6})(- )?[a-z]{1,8}: ?([&*!|>]?[a-z0-9{}\\[\\],\"'#%]{0,10})",
        "( {0,4})(apiVersion: v1|kind: Service|metadata:|name: a|spec:|ports:|- port: 80|<<: \\*a|---|\\.\\.\\.)",
        "\\PC{0,20}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n").into())
}

/// Messages of arbitrary fields, in each other.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::collection::vec(any::<u8>(), 0..12);
    leaf.prop_recursive(4, 40, 5, |inner| {
        let field = prop_oneof![
            (1_u8..16, any::<u64>()).prop_map(|(number, value)| number_field(number, value)),
            (1_u8..16, inner).prop_map(|(number, value)| bytes_field(number, &value)),
            (1_u8..16, "[a-z./0-9]{0,12}")
                .prop_map(|(number, text)| bytes_field(number, text.as_bytes())),
        ];
        prop::collection::vec(field, 0..6).prop_map(|fields| fields.concat())
    })
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn number_field(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

fn bytes_field(number: u8, value: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(value.len() as u64), value.to_vec()].concat()
}

/// `runtime.Unknown` as the API's clients wrap their messages.
fn wrapped(version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let kinds = [bytes_field(1, version.as_bytes()), bytes_field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), bytes_field(1, &kinds), bytes_field(2, message)].concat()
}

#[derive(Debug, Clone)]
enum Body {
    Patch(&'static str, Vec<u8>),
    Write(&'static str, Vec<u8>),
    Message(Vec<u8>),
}

fn body() -> impl Strategy<Value = Body> {
    let torn = |bytes: Vec<u8>, cut: usize| {
        let keep = if cut < 8 { bytes.len() * cut / 8 } else { bytes.len() };
        bytes[..keep].to_vec()
    };
    let json_body = json().prop_map(|value| value.to_string().into_bytes());
    let torn_json = (json_body, 4_usize..12).prop_map(move |(bytes, cut)| torn(bytes, cut));
    let torn_message =
        move || (message(), 4_usize..12).prop_map(move |(bytes, cut)| torn(bytes, cut));
    prop_oneof![
        json_patch().prop_map(|it| Body::Patch("application/json-patch+json", it)),
        merge_patch().prop_map(|it| Body::Patch("application/merge-patch+json", it)),
        merge_patch().prop_map(|it| Body::Patch("application/strategic-merge-patch+json", it)),
        yaml().prop_map(|it| Body::Patch("application/apply-patch+yaml", it)),
        merge_patch().prop_map(|it| Body::Patch("application/apply-patch+yaml", it)),
        yaml().prop_map(|it| Body::Write("application/yaml", it)),
        torn_json.prop_map(|it| Body::Write("application/json", it)),
        torn_message().prop_map(|it| Body::Write("application/vnd.kubernetes.protobuf", it)),
        torn_message().prop_map(Body::Message),
    ]
}

/// What `kubectl apply` would send: the patch with type and name.
fn completed(version: &str, kind: &str, patch: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(patch) {
        Ok(Value::Object(mut fields)) => {
            fields.insert("apiVersion".into(), version.into());
            fields.insert("kind".into(), kind.into());
            Value::Object(fields).to_string().into()
        }
        _ => patch.to_vec(),
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn odd_bodies_are_refused_or_understood(
        requests in prop::collection::vec((0_usize..9, any::<bool>(), any::<bool>(), body()), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (cluster, targets) = (populated().await, targets());
            for (target, status, create, body) in requests {
                let (path, version, kind, _) = &targets[target];
                let one = format!("{path}/a{}", if status { "/status" } else { "" });
                let (method, media, bytes) = match &body {
                    Body::Patch(media, bytes) if media.contains("apply") => {
                        ("PATCH", *media, completed(version, kind, bytes))
                    }
                    Body::Patch(media, bytes) => ("PATCH", *media, bytes.clone()),
                    Body::Write(media, bytes) => ("PUT", *media, bytes.clone()),
                    Body::Message(bytes) => {
                        ("PUT", "application/vnd.kubernetes.protobuf", wrapped(version, kind, bytes))
                    }
                };
                let (method, place) = match create && method == "PUT" {
                    true => ("POST", (*path).to_owned()),
                    false => (method, one),
                };
                let place = format!("{place}?fieldManager=x&force={}", media.contains("apply"));
                let place = if media.contains("apply") { place } else { place.replace("&force=false", "") };
                let (code, answer) = ask_bytes(&cluster, method, &place, media, &bytes).await;
                check(&format!("{method} {place} {body:?}"), code, &answer);
            }
            for (path, ..) in targets {
                let (code, list) = ask(&cluster, "GET", path, "", "").await;
                assert_eq!(code, 200, "{list}");
            }
        });
    }

    /// Any selector is either understood or refused, by lists and by watches alike.
    #[test]
    fn odd_selectors_are_refused_or_understood(
        selectors in prop::collection::vec(
            prop_oneof![
                "(labelSelector|fieldSelector)=[a-z!=<>(),%. 0-9\\\\]{0,24}",
                "labelSelector=(!?[a-z]{1,3}( in | notin |=|!=|>)?\\(?[a-z0-9,]{0,5}\\)?,?){0,3}",
                "fieldSelector=((metadata|spec|status)[.](name|namespace|phase|nodeName|a[.]b)(=|==|!=)[a-z]{0,3},?){0,3}",
                "(limit|continue|resourceVersion|resourceVersionMatch|timeoutSeconds)=[a-zA-Z0-9/-]{0,20}",
            ],
            20,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = populated().await;
            for selector in selectors {
                let selector = selector.replace(' ', "%20").replace('<', "%3C").replace('>', "%3E").replace('\\', "%5C");
                for watch in ["", "&watch=1&timeoutSeconds=0"] {
                    let target = format!("/api/v1/pods?{selector}{watch}");
                    let (code, answer) = ask(&cluster, "GET", &target, "", "").await;
                    check(&target, code, &answer);
                }
            }
        });
    }
}
