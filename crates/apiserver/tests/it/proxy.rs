//! HTTP through the server to what runs in pods.

use crate::cluster::{Cluster, in_time};
use apiserver::containers::{ContainerRequest, Refusal};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

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

/// The same behind TLS, with a certificate that nobody vouches for.
async fn echo_over_tls() -> SocketAddr {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["nobody".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(acceptor.accept(stream).await.unwrap()).await;
        }
    });
    address
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
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
    stream.shutdown().await.unwrap();
}

/// A cluster whose pods all are that server, on port 8080, and on 8443 with TLS.
async fn cluster() -> Cluster {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let (address, secured) = (echo().await, echo_over_tls().await);
    tokio::spawn(async move {
        while let Some(request) = asked.recv().await {
            let ContainerRequest::Connect { port, reply, .. } = request else { continue };
            let to = if port == 8443 { secured } else { address };
            let stream = TcpStream::connect(to).await.unwrap();
            let refused = || Refusal("connection refused".into());
            reply.send(if [8080, 8443].contains(&port) { Ok(stream) } else { Err(refused()) }).ok();
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
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "idle", "port": 81}, {"name": "https", "port": 443}]}});
    let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "https", "port": 8443, "protocol": "TCP"}],
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
        ("DELETE", "pods/a/proxy?a=b", 200, "DELETE /?a=b HTTP/1.1"),
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
        ("GET", "services/ftp:web:80/proxy/", 400, "invalid service request"),
        ("GET", "services/https:web:443/proxy/x", 200, "GET /x HTTP/1.1"),
        ("GET", "pods/https:a:8443/proxy/y", 200, "GET /y HTTP/1.1"),
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
