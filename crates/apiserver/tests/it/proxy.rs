//! HTTP through the server to what runs in pods.

use crate::cluster::{Cluster, in_time};
use apiserver::containers::{ContainerRequest, Refusal};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Answers each connection's request with what it was, as text, or with a redirect where the path is `/old`.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    let mut text = String::new();
    // Only what is posted has a body.
    let ends = |text: &str| if text.starts_with("POST") { "}" } else { "\r\n\r\n" };
    while !text.ends_with(ends(&text)) {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        if read == 0 {
            return;
        }
        text += &String::from_utf8_lossy(&piece[..read]);
    }
    let head = match text.split(' ').nth(1) {
        Some("/old") => "HTTP/1.1 302 Found\r\nlocation: /new?x=1\r\n",
        _ => "HTTP/1.1 200 OK\r\nx-own: yes\r\n",
    };
    let length = text.len();
    let answer = format!("{head}connection: close\r\ncontent-length: {length}\r\n\r\n{text}");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// A cluster whose pods all are that server, on port 8080.
async fn cluster() -> Cluster {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let address = echo().await;
    tokio::spawn(async move {
        while let Some(request) = asked.recv().await {
            let ContainerRequest::Connect { port, reply, .. } = request else { continue };
            let stream = TcpStream::connect(address).await.unwrap();
            let refused = || Refusal("connection refused".into());
            reply.send(if port == 8080 { Ok(stream) } else { Err(refused()) }).ok();
        }
    });
    Cluster::start(|config| config.nodes = Some(sender)).await
}

/// The code, the place that a redirect names, and all of the answer. kube's client would ask again after some refusals.
async fn ask(cluster: &Cluster, method: &str, path: &str, body: Value) -> (u16, String, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let head = "host: it\r\nconnection: close\r\ncontent-type: application/json\r\nx-mine: 1\r\nauthorization: Bearer secret";
    let request =
        format!("{method} {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(cluster.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    let code = text.split(' ').nth(1).unwrap().parse().unwrap();
    let place = text.lines().find_map(|line| line.strip_prefix("location: "));
    (code, place.unwrap_or_default().to_owned(), text.clone())
}

#[tokio::test]
async fn requests_reach_pods_and_answers_come_back() {
    const HERE: &str = "/api/v1/namespaces/default";
    let cluster = cluster().await;
    let ports = json!([{"containerPort": 8080}]);
    let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x", "ports": ports}]}});
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "idle", "port": 81}]}});
    let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    "endpoints": [
        {"addresses": ["10.244.0.2"], "targetRef": {"kind": "Pod", "name": "a"}},
        {"addresses": ["10.244.0.3"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "gone"}},
    ]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices".to_owned();
    for (path, object) in
        [(format!("{HERE}/pods"), pod), (format!("{HERE}/services"), service), (slices, slice)]
    {
        assert_eq!(ask(&cluster, "POST", &path, object).await.0, 201);
    }
    for (method, path, code, expected) in [
        ("GET", "pods/a/proxy/", 200, "GET / HTTP/1.1"),
        ("GET", "pods/a:8080/proxy/x/y%20z?q=1&q=2", 200, "GET /x/y%20z?q=1&q=2 HTTP/1.1"),
        ("POST", "services/web:80/proxy/form", 200, "{\"a\":1}"),
        ("DELETE", "services/http:web:http/proxy/thing", 200, "DELETE /thing HTTP/1.1"),
        ("GET", "services/web:http/proxy/", 200, "x-mine: 1"),
        (
            "GET",
            "services/web:80/proxy/",
            200,
            "x-forwarded-uri: /api/v1/namespaces/default/services/web:80/proxy/",
        ),
        ("GET", "services/web:82/proxy/", 503, "no service port 82 found for service \\\"web\\\""),
        ("GET", "services/web:81/proxy/", 503, "no endpoints available for service \\\"web:81\\\""),
        ("GET", "services/web/proxy/", 503, "no endpoints available for service \\\"web\\\""),
        ("GET", "services/nosuch:80/proxy/", 404, "services \\\"nosuch\\\" not found"),
        ("GET", "services/a:b:c:d/proxy/", 400, "invalid service request"),
        ("GET", "services/https:web:80/proxy/", 400, "plain HTTP"),
        ("GET", "pods/a:x/proxy/", 400, "invalid pod request"),
        ("GET", "pods/a:9/proxy/", 503, "error trying to reach service: connection refused"),
    ] {
        let body = if method == "POST" { json!({"a": 1}) } else { Value::Null };
        let (found, _, text) = ask(&cluster, method, &format!("{HERE}/{path}"), body).await;
        assert_eq!(found, code, "{path}: {text}");
        assert!(text.contains(expected), "{path}: {expected:?} is not in {text:?}");
        assert!(
            !text.contains("secret"),
            "{path}: the client's credential is nobody's affair: {text}"
        );
    }
    let own = format!("{HERE}/services/web:80/proxy");
    let (code, place, _) = ask(&cluster, "GET", &format!("{own}?a=b"), Value::Null).await;
    assert_eq!((code, place), (301, format!("{own}/?a=b")));
    let (code, place, _) = ask(&cluster, "GET", &format!("{own}/old"), Value::Null).await;
    assert_eq!((code, place), (302, format!("{own}/new?x=1")));
}
