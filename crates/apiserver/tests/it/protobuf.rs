//! Answers in protobuf: this server's, and the real one's, are what they say in JSON, octet for octet.

use crate::cluster::{Cluster, in_time};
use crate::corpus::real;
use apiserver::protobuf::{decode, encode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protobuf.yaml");

struct Answer {
    code: u16,
    media: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn ask(client: &Client, method: &str, path: &str, accept: &str, body: &Value) -> Answer {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("accept", accept).header("content-type", JSON);
    let body =
        if body.is_null() { Body::empty() } else { Body::from(body.to_string().into_bytes()) };
    let response = in_time(client.send(request.body(body).unwrap())).await.unwrap();
    let media = response.headers().get("content-type");
    let media = media.map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default();
    let code = response.status().as_u16();
    let body = in_time(response.into_body().collect()).await.unwrap().to_bytes().to_vec();
    Answer { code, media, body }
}

async fn get(client: &Client, path: &str, accept: &str) -> Answer {
    ask(client, "GET", path, accept, &Value::Null).await
}

/// `None`: a version or kind that has no collection of its own.
fn collection(list: &Value, resource: &Value) -> Option<String> {
    let version = list["groupVersion"].as_str()?;
    let root = if version.contains('/') { "apis" } else { "api" };
    let verbs = resource["verbs"].as_array()?;
    let name = resource["name"].as_str()?;
    verbs.contains(&json!("list")).then(|| format!("/{root}/{version}/{name}"))
}

async fn collections(client: &Client) -> Vec<String> {
    let mut lists = vec![get(client, "/api/v1", JSON).await.json()];
    let groups = get(client, "/apis", JSON).await.json();
    for group in groups["groups"].as_array().unwrap() {
        let version = group["preferredVersion"]["groupVersion"].as_str().unwrap();
        lists.push(get(client, &format!("/apis/{version}"), JSON).await.json());
    }
    let resources = |list: &Value| {
        let resources = list["resources"].as_array().unwrap().iter();
        resources.filter_map(|resource| collection(list, resource)).collect::<Vec<_>>()
    };
    lists.iter().flat_map(resources).collect()
}

async fn create_all(client: &Client) {
    let (all, text) = (collections(client).await, std::fs::read_to_string(MANIFESTS).unwrap());
    for manifest in model::manifest::parse("protobuf.yaml", &text).unwrap() {
        let kind = manifest.value["kind"].as_str().unwrap().to_ascii_lowercase();
        let api = format!("/{}/", manifest.value["apiVersion"].as_str().unwrap());
        let plural = all.iter().find(|path| {
            let name = path.rsplit('/').next().unwrap();
            path.contains(&api)
                && (name == format!("{kind}s")
                    || name == kind.replace("policy", "policies")
                    || name == format!("{kind}es"))
        });
        let plural = plural.unwrap_or_else(|| panic!("{api}{kind}"));
        let (root, name) = plural.rsplit_once('/').unwrap();
        let path = match kind.as_str() {
            // Those that are in no namespace.
            "certificatesigningrequest" => plural.clone(),
            _ => format!("{root}/namespaces/default/{name}"),
        };
        let made = ask(client, "POST", &path, JSON, &manifest.value).await;
        assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    }
}

/// Every collection in both media; how many objects were compared.
async fn compare(client: &Client, faults: &mut Vec<String>) -> usize {
    let mut count = 0;
    for path in collections(client).await {
        let (json, octets) = (get(client, &path, JSON).await, get(client, &path, PROTOBUF).await);
        let Ok(written) = encode(&json.body) else {
            // A kind of one of the servers alone.
            continue;
        };
        assert_eq!((octets.code, octets.media.as_str()), (200, PROTOBUF), "{path}");
        count += json.json()["items"].as_array().unwrap().len();
        let read = decode(&octets.body).unwrap();
        for (how, found) in
            [("JSON", written), ("itself", encode(read.to_string().as_bytes()).unwrap())]
        {
            if found != octets.body {
                let (found, wanted) = (found.escape_ascii(), octets.body.escape_ascii());
                faults.push(format!("{path}: from {how}\n{found}\n≠\n{wanted}"));
            }
        }
    }
    count
}

#[tokio::test]
async fn this_server_says_the_same_in_protobuf() {
    let cluster = Cluster::start(|_| {}).await;
    create_all(&cluster.client).await;
    let mut faults = Vec::new();
    assert!(compare(&cluster.client, &mut faults).await > 60);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn the_real_server_says_the_same_in_protobuf() {
    let Some(real) = real::Server::start("protobuf") else {
        eprintln!("left out: PODWAY_KUBE_APISERVER names no kube-apiserver");
        return;
    };
    let client = real.client().await;
    create_all(&client).await;
    let mut faults = Vec::new();
    assert!(compare(&client, &mut faults).await > 60);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn watches_discovery_and_refusals_are_written_as_asked() {
    const HTML: &str = "text/html";
    const METADATA: &str =
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    const DISCOVERY: &str =
        "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let cluster = Cluster::start(|_| {}).await;
    let client = &cluster.client;
    let answer =
        get(client, "/api/v1/namespaces/default/services?watch=1&timeoutSeconds=1", PROTOBUF).await;
    assert_eq!(answer.media, "application/vnd.kubernetes.protobuf;stream=watch");
    let (length, rest) = answer.body.split_first_chunk::<4>().unwrap();
    let event = &rest[..u32::from_be_bytes(*length) as usize];
    assert!(event.starts_with(b"\x0a\x05ADDED\x12"), "{}", event.escape_ascii());
    let object = event.windows(4).position(|it| it == b"k8s\0").unwrap();
    assert_eq!(decode(&event[object..]).unwrap()["metadata"]["name"], "kubernetes");

    for (path, accept, code, media, what) in [
        ("/api/v1/namespaces/none", PROTOBUF, 404, PROTOBUF, "namespaces \"none\" not found"),
        ("/api/v1/nodes", METADATA, 200, PROTOBUF, "PartialObjectMetadataList"),
        (
            "/api/v1/namespaces/default",
            METADATA,
            406,
            JSON,
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.Namespace)",
        ),
        (
            "/api/v1/nodes",
            &METADATA.replace("List", ""),
            406,
            JSON,
            "you requested PartialObjectMetadata, but the requested object is a list (*core.NodeList)",
        ),
        (
            "/apis/podway.io/v1alpha1/virtualips",
            METADATA,
            200,
            PROTOBUF,
            "PartialObjectMetadataList",
        ),
        (
            "/apis/podway.io/v1alpha1/virtualips",
            PROTOBUF,
            406,
            PROTOBUF,
            "only the following media types",
        ),
        ("/api/v1/nodes", HTML, 406, JSON, "406: Not Acceptable"),
        ("/api/v1/nodes", "application/yaml", 200, "application/yaml", "kind: NodeList"),
        ("/api/v1/nodes?watch=1", "application/yaml", 406, "application/yaml", "stream=watch"),
        ("/version", PROTOBUF, 406, PROTOBUF, "406: Not Acceptable"),
        ("/api/v1", PROTOBUF, 200, PROTOBUF, "APIResourceList"),
        ("/apis", DISCOVERY, 200, DISCOVERY, "APIGroupDiscoveryList"),
    ] {
        let answer = get(client, path, accept).await;
        assert_eq!((answer.code, answer.media.as_str()), (code, media), "{path} {accept}");
        let text = match decode(&answer.body) {
            Ok(object) => object.to_string().replace("\\\"", "\""),
            Err(_) => String::from_utf8(answer.body).unwrap(),
        };
        assert!(text.contains(what), "{path} {accept}: {text}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused_in_the_words_of_the_real_server() {
    const UNRECOGNIZED: &str = "the object provided is unrecognized (must be of type ConfigMap): ";
    const TYPED: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02\x0a\xff";
    const UNKNOWN: &[u8] = b"k8s\0\x0a\x0a\x0a\x02v1\x12\x04Nope\x12\x00";
    let cluster = Cluster::start(|_| {}).await;
    for (body, expected) in [
        (&b""[..], format!("{UNRECOGNIZED}empty data (<empty>)")),
        (b"hello world", format!("{UNRECOGNIZED}provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (68656c6c6f20776f726c64)")),
        (b"k8s\0", format!("{UNRECOGNIZED}empty body (6b387300)")),
        (b"k8s\0\xff\xff", format!("{UNRECOGNIZED}unexpected EOF (6b387300ffff)")),
        (TYPED, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: unexpected EOF".into()),
        (UNKNOWN, "Nope in version \"v1\" cannot be handled as a ConfigMap: no kind \"Nope\" is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:111\"".into()),
    ] {
        let request = http::Request::post("/api/v1/namespaces/default/configmaps");
        let request = request.header("content-type", PROTOBUF).body(Body::from(body.to_vec()));
        let response = in_time(cluster.client.send(request.unwrap())).await.unwrap();
        assert_eq!(response.status(), 400, "{}", body.escape_ascii());
        let body = in_time(response.into_body().collect()).await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status["message"], expected);
    }
}
