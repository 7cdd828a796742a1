//! Questions to webhooks, over TLS. What they are about and what answers mean, `policy` knows.

use super::backend;
use super::trust;
use crate::policy::webhook::{Call, Outcome, Target};
use crate::registry::Random;
use crate::resources::Kind;
use crate::server::ApiServer;
use crate::store::Key;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
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
    let late = || Fault::Way("context deadline exceeded".to_owned());
    let outcome = outcome.unwrap_or_else(|_elapsed| Err(late()));
    outcome.map_err(|fault| match fault {
        Fault::Answer(why) => why,
        Fault::Way(why) => format!("Post {shown:?}: {why}"),
    })
}

/// Why there is no review.
enum Fault {
    /// The question or its answer did not arrive.
    Way(String),
    /// What was answered is none.
    Answer(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Way(why)
    }
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
) -> Result<Value, Fault> {
    let stream = connect(server, &call.target, (host, port)).await?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let stream = trust::connector(&call.authority)?
        .connect(name, stream)
        .await
        .map_err(|error| tls_fault(&error))?;
    // Of this question alone; nothing depends on what it is.
    let uid = Random::new(RandomState::new().hash_one(call.timeout_seconds)).uid();
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
        return Err(Fault::Answer(match shown.is_empty() {
            true => "the server rejected our request for an unknown reason".to_owned(),
            false => format!(
                "an error on the server ({shown:?}) has prevented the request from succeeding"
            ),
        }));
    }
    let no_review =
        |why: &str| Fault::Answer(format!("couldn't get version/kind; json parse error: {why}"));
    let answer = serde_json::from_slice(&text).map_err(|error| no_review(&error.to_string()))?;
    let Value::Object(mut answer) = answer else { return Err(no_review("no object")) };
    answer.insert("request".into(), json!({"uid": uid}));
    Ok(answer.into())
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
    let endpoint = server.read(|registry| {
        let service = registry.store.get(Kind::Service, &key);
        let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
        let port = backend::port_name(&service.value, &key, (*number).into())?;
        let none = || format!("no endpoints available for service {name:?}");
        backend::endpoint(registry, &key, port, |_| true).ok_or_else(none)
    })?;
    let (Some(pod), true) = (&endpoint.pod, server.nodes.is_some()) else {
        return dial(&endpoint.address, endpoint.port).await;
    };
    backend::connect(server, &pod.value, endpoint.port).await.map_err(|error| {
        let why = error.to_string();
        let why = if why.contains("refused") { "connect: connection refused" } else { &why };
        format!("dial tcp {}:{}: {why}", endpoint.address, endpoint.port)
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
