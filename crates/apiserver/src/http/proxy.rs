//! `services/proxy` and `pods/proxy`: HTTP requests that the server carries to a pod.
//!
//! A place is `NAME`, `NAME:PORT`, `http:NAME:PORT` or `https:NAME:PORT`, a Service's port its number or its name; what follows `proxy` in
//! the path is the pod's affair. Headers that are about the client's credential stay here, and redirects to paths of the
//! pod come back as paths of this server.

use super::backend;
use super::reply::{Response, Stream};
use super::route::Place;
use crate::error::Error;
use crate::registry::Registry;
use crate::resources::Kind;
use crate::server::ApiServer;
use crate::store::{Key, Object};
use crate::tls;
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// What is between two neighbours only (RFC 9110 §7.6.1).
const NEIGHBOURS: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How the pod is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }
}

/// Where a request goes.
struct Target {
    pod: Arc<Object>,
    port: u16,
    scheme: Scheme,
}

pub(super) async fn answer(
    server: &ApiServer,
    place: &Place,
    request: Request<Incoming>,
) -> Result<Response, Error> {
    let (own, rest) = split(request.uri().path());
    if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(to_its_root(own, request.uri().query()));
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    let (own, path) = (own.to_owned(), with_query(rest, request.uri().query()));
    let target = server.read(|registry| target(registry, place))?;
    let host = format!("{}:{}", host(&target.pod.value), target.port);
    let stream = backend::connect(server, &target.pod.value, target.port).await;
    let stream = stream.map_err(|error| match error {
        Error::Internal { message } => unreachable(message),
        error => error,
    })?;
    let request = forwarded(request, &path, &host)?;
    let response = match target.scheme {
        Scheme::Http => carried(stream, request).await,
        Scheme::Https => {
            let address = address(&target.pod.value).unwrap_or(Ipv4Addr::LOCALHOST.into());
            let stream = tls::to_anybody(stream, &address.to_string(), address).await;
            carried(stream.map_err(unreachable)?, request).await
        }
    };
    let base = format!("{}{host}", target.scheme.prefix());
    Ok(returned(response.map_err(unreachable)?, &own, &base))
}

/// What is before the pod's own path, and that path with its first slash.
fn split(path: &str) -> (&str, &str) {
    const MARK: &str = "/proxy";
    // The name before it holds no slash, and a namespace may be called so.
    let parts = path.match_indices('/').map(|(at, _)| at);
    // api, version, namespaces, namespace, resource, name, proxy
    let start = parts.skip_while(|at| *at == 0).nth(5).unwrap_or(path.len());
    path.split_at((start + MARK.len()).min(path.len()))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// Relative links of a page are right only below a slash.
fn to_its_root(path: &str, query: Option<&str>) -> Response {
    let mut response = hyper::Response::new(Either::Left(Full::new(Bytes::new())));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(place) = HeaderValue::try_from(with_query(&format!("{path}/"), query)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

fn target(registry: &Registry, place: &Place) -> Result<Target, Error> {
    let whole = place.name.as_deref().unwrap_or_default();
    let kind = place.resource.singular;
    let bad = || Error::BadRequest { message: format!("invalid {kind} request {whole:?}") };
    let (scheme, name, port) = match whole.split(':').collect::<Vec<_>>()[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return Err(bad()),
    };
    let scheme = match scheme {
        "" | "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(bad()),
    };
    if name.is_empty() {
        return Err(bad());
    }
    let key = Key::new(place.namespace.as_deref().unwrap_or_default(), name);
    let (pod, port) = match place.resource.kind {
        Kind::Pod => of_pod(registry, &key, port)?.ok_or_else(bad)?,
        _ => of_service(registry, &key, whole, port)?,
    };
    Ok(Target { pod, port, scheme })
}

/// Without a port, the first that the pod names. None: that is no port.
fn of_pod(registry: &Registry, key: &Key, port: &str) -> Result<Option<(Arc<Object>, u16)>, Error> {
    let pod = registry.get(Kind::Pod, key)?;
    let containers = pod.value["spec"]["containers"].as_array().into_iter().flatten();
    let named = containers.filter_map(|it| it["ports"][0]["containerPort"].as_u64()).next();
    let port = match port {
        "" => named.map_or(Some(80), |port| u16::try_from(port).ok()),
        port => port.parse().ok(),
    };
    Ok(port.map(|port| (pod.clone(), port)))
}

/// Any of the pods that serve it.
fn of_service(
    registry: &Registry,
    key: &Key,
    whole: &str,
    port: &str,
) -> Result<(Arc<Object>, u16), Error> {
    let service = registry.get(Kind::Service, key)?;
    let unavailable = |message| Error::Unavailable { message };
    let name = match port.parse() {
        Err(_) => port,
        Ok(number) => backend::port_name(&service.value, key, number).map_err(unavailable)?,
    };
    let none = || unavailable(format!("no endpoints available for service {whole:?}"));
    let endpoint =
        backend::endpoint(registry, key, name, |it| it.pod.is_some()).ok_or_else(none)?;
    Ok((endpoint.pod.ok_or_else(none)?, endpoint.port))
}

fn address(pod: &Value) -> Option<IpAddr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}

fn host(pod: &Value) -> String {
    match address(pod) {
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        Some(IpAddr::V4(address)) => address.to_string(),
        None => "localhost".to_owned(),
    }
}

fn unreachable(why: impl std::fmt::Display) -> Error {
    Error::Unavailable { message: format!("error trying to reach service: {why}") }
}

/// The request as the pod sees it.
fn forwarded(
    request: Request<Incoming>,
    path: &str,
    host: &str,
) -> Result<Request<Incoming>, Error> {
    let bad = |_| Error::BadRequest { message: format!("{path:?} is no path") };
    let (mut head, body) = request.into_parts();
    let asked = head.uri.authority().map(|it| it.as_str().to_owned());
    let asked = asked.map(HeaderValue::try_from).and_then(Result::ok);
    let asked = asked.or_else(|| head.headers.get(header::HOST).cloned());
    if let (Some(asked), Ok(whole)) = (asked, HeaderValue::try_from(head.uri.path())) {
        head.headers.insert("x-forwarded-host", asked);
        head.headers.insert("x-forwarded-uri", whole);
    }
    head.uri = Uri::try_from(path).map_err(bad)?;
    head.version = hyper::Version::HTTP_11;
    strip(&mut head.headers);
    let secret = |name: &&HeaderName| name.as_str().starts_with("impersonate-");
    let secrets: Vec<_> = head.headers.keys().filter(secret).cloned().collect();
    for name in secrets.iter().chain([&header::AUTHORIZATION]) {
        head.headers.remove(name);
    }
    if let Ok(host) = HeaderValue::try_from(host) {
        head.headers.insert(header::HOST, host);
    }
    Ok(Request::from_parts(head, body))
}

/// Takes away what is between two neighbours, also what they call so themselves.
fn strip(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|it| it.to_str().ok());
    let named: Vec<String> =
        named.flat_map(|it| it.split(',')).map(|it| it.trim().to_owned()).collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    NEIGHBOURS.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove("keep-alive");
}

async fn carried(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Incoming>,
) -> Result<hyper::Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the last of the answer; what goes wrong the answer says.
    tokio::spawn(async move { connection.await.ok() });
    sender.send_request(request).await
}

/// The answer as the client sees it; links of the pod begin with `base`.
fn returned(response: hyper::Response<Incoming>, own: &str, base: &str) -> Response {
    let (mut head, mut body) = response.into_parts();
    strip(&mut head.headers);
    if let Some(place) = head.headers.get(header::LOCATION).and_then(|it| it.to_str().ok()) {
        let path = place.strip_prefix(base).unwrap_or(place);
        if path.starts_with('/')
            && !path.starts_with("//")
            && let Ok(moved) = HeaderValue::try_from(format!("{own}{path}"))
        {
            head.headers.insert(header::LOCATION, moved);
        }
    }
    let (pieces, received) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(piece) = frame.into_data() else { continue };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    head.version = hyper::Version::default();
    hyper::Response::from_parts(head, Either::Right(Stream::of(received)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_where_the_pods_own_begins() {
        for (path, own, rest) in [
            (
                "/api/v1/namespaces/a/services/web:80/proxy/x/proxy/y",
                "/api/v1/namespaces/a/services/web:80/proxy",
                "/x/proxy/y",
            ),
            (
                "/api/v1/namespaces/proxy/pods/proxy/proxy/",
                "/api/v1/namespaces/proxy/pods/proxy/proxy",
                "/",
            ),
            ("/api/v1/namespaces/a/pods/b/proxy", "/api/v1/namespaces/a/pods/b/proxy", ""),
        ] {
            assert_eq!(split(path), (own, rest));
        }
    }
}
