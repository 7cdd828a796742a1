//! Questions to webhooks, over TLS. What they are about and what answers mean, `policy` knows.

use super::containers::{ask as ask_node, place_of};
use super::trust;
use crate::containers::ContainerRequest;
use crate::error::Error;
use crate::policy::webhook::{Call, Outcome, Target};
use crate::registry::Registry;
use crate::resources::Kind;
use crate::server::ApiServer;
use crate::store::{Key, Object};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::rustls::pki_types::ServerName;

/// As the real server: 3 MiB.
const ANSWER_LIMIT: usize = 3 << 20;

/// Asks, and waits no longer than the webhook's configuration says.
pub(crate) async fn ask(server: &ApiServer, call: &Call) -> Outcome {
    let (host, port, path) = address(&call.target)?;
    let shown = match &call.target {
        Target::Url(url) => format!("{url}?timeout={}s", call.timeout_seconds),
        Target::Service { .. } => {
            format!("https://{host}:{port}{path}?timeout={}s", call.timeout_seconds)
        }
    };
    let asked = post(server, call, (&host, port, &path));
    let outcome = tokio::time::timeout(Duration::from_secs(call.timeout_seconds), asked).await;
    let outcome = outcome.unwrap_or_else(|_elapsed| Err("context deadline exceeded".to_owned()));
    outcome.map_err(|why| match why.strip_prefix("webhook: ") {
        Some(why) => why.to_owned(),
        None => format!("Post {shown:?}: {why}"),
    })
}

/// Host, port and path.
fn address(target: &Target) -> Result<(String, u16, String), String> {
    match target {
        Target::Service { namespace, name, port, path } => {
            let slash = if path.starts_with('/') { "" } else { "/" };
            Ok((format!("{name}.{namespace}.svc"), *port, format!("{slash}{path}")))
        }
        Target::Url(url) => {
            let uri: Uri = url.parse().map_err(|error| format!("parse {url:?}: {error}"))?;
            let host = uri.host().ok_or_else(|| format!("{url:?} has no host"))?;
            Ok((host.to_owned(), uri.port_u16().unwrap_or(443), uri.path().to_owned()))
        }
    }
}

async fn post(
    server: &ApiServer,
    call: &Call,
    (host, port, path): (&str, u16, &str),
) -> Result<Value, String> {
    let stream = connect(server, &call.target, (host, port)).await?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let stream = trust::connector(&call.authority)?
        .connect(name, stream)
        .await
        .map_err(|error| tls_fault(&error))?;
    let uid = uid(call);
    let mut review = call.review.clone();
    review["request"]["uid"] = uid.clone().into();
    let request = Request::post(format!("{path}?timeout={}s", call.timeout_seconds))
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(review.to_string())))
        .map_err(|error| error.to_string())?;
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the answer, which says what goes wrong.
    tokio::spawn(async move { connection.await.ok() });
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
    let text = body.map_err(|error| error.to_string())?.to_bytes();
    if !status.is_success() {
        let shown = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(match shown.is_empty() {
            true => "webhook: the server rejected our request for an unknown reason".to_owned(),
            false => format!(
                "webhook: an error on the server ({shown:?}) has prevented the request from succeeding"
            ),
        });
    }
    let mut answer: Value = serde_json::from_slice(&text).map_err(|error| {
        format!("webhook: couldn't get version/kind; json parse error: {error}")
    })?;
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("request".into(), json!({"uid": uid}));
        return Ok(answer);
    }
    Err("webhook: couldn't get version/kind; json parse error: no object".to_owned())
}

/// Of this question alone; nothing depends on what it is (RFC 9562, version 4).
fn uid(call: &Call) -> String {
    let draw = || RandomState::new().hash_one(call.timeout_seconds);
    let (a, b) = (draw(), draw());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

/// In the words of Go, for what people meet.
fn tls_fault(error: &io::Error) -> String {
    let text = error.to_string();
    let known = [
        ("UnknownIssuer", "certificate signed by unknown authority"),
        ("Expired", "certificate has expired or is not yet valid"),
    ];
    match known.iter().find(|(name, _)| text.contains(name)) {
        Some((_, words)) => format!("tls: failed to verify certificate: x509: {words}"),
        None => format!("tls: {text}"),
    }
}

async fn connect(
    server: &ApiServer,
    target: &Target,
    (host, port): (&str, u16),
) -> Result<TcpStream, String> {
    let Target::Service { namespace, name, port: number, .. } = target else {
        return dial(host, port).await;
    };
    let key = Key::new(namespace, name);
    let endpoint = server.read(|registry| endpoint(registry, &key, *number))?;
    let (Some(pod), true) = (&endpoint.pod, server.nodes.is_some()) else {
        return dial(&endpoint.address, endpoint.port).await;
    };
    let container = place_of(&pod.value).map_err(|error| error.to_string())?;
    let (reply, answer) = oneshot::channel();
    let request = ContainerRequest::Connect { container, port: endpoint.port, reply };
    ask_node(server, request, answer).await.map_err(|error| match error {
        Error::Internal { message } => {
            let refused = message.contains("refused");
            let why = if refused { "connect: connection refused" } else { &message };
            format!("dial tcp {}:{}: {why}", endpoint.address, endpoint.port)
        }
        error => error.to_string(),
    })
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((bare, port)).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {host}:{port}: {why}")
    })
}

/// One of those that serve a Service.
struct Endpoint {
    pod: Option<Arc<Object>>,
    address: String,
    port: u16,
}

fn endpoint(registry: &Registry, key: &Key, number: u16) -> Result<Endpoint, String> {
    let service = registry.store.get(Kind::Service, key);
    let service = service.ok_or_else(|| format!("service {:?} not found", key.name))?;
    let mut ports = service.value["spec"]["ports"].as_array().into_iter().flatten();
    let port = ports.find(|it| it["port"] == number);
    let port =
        port.ok_or_else(|| format!("no service port {number} found for service {:?}", key.name))?;
    let name = port["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for (_, slice) in registry.store.list(Kind::EndpointSlice, Some(&key.namespace), None) {
        if slice.value["metadata"]["labels"]["kubernetes.io/service-name"] != *key.name {
            continue;
        }
        let mut ports = slice.value["ports"].as_array().into_iter().flatten();
        let port = ports.find(|it| it["name"].as_str().unwrap_or_default() == name);
        let Some(port) = port.and_then(|it| u16::try_from(it["port"].as_u64()?).ok()) else {
            continue;
        };
        let endpoints = slice.value["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.filter(|it| it["conditions"]["ready"] != false);
        found.extend(ready.filter_map(|it| {
            let pod = it["targetRef"]["name"].as_str().filter(|_| it["targetRef"]["kind"] == "Pod");
            let pod =
                pod.and_then(|pod| registry.store.get(Kind::Pod, &Key::new(&key.namespace, pod)));
            Some(Endpoint { pod, address: it["addresses"][0].as_str()?.to_owned(), port })
        }));
    }
    let draw = RandomState::new().hash_one(&key.name) % (found.len().max(1) as u64);
    let chosen = usize::try_from(draw).ok().filter(|at| *at < found.len());
    let chosen = chosen.map(|at| found.swap_remove(at));
    chosen.ok_or_else(|| format!("no endpoints available for service {:?}", key.name))
}
