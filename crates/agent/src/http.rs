//! A small HTTP server: a path with its query goes in, an answer comes out.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon an address that somebody else listens on is tried again.
const BUSY: Duration = Duration::from_secs(5);
/// How soon connections are taken again where descriptors ran out.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        let body = body.to_string();
        Answer { status, content_type: "application/json", headers: Vec::new(), body }
    }

    pub fn text(status: u16, body: String) -> Self {
        Answer { status, content_type: "text/plain; charset=utf-8", headers: Vec::new(), body }
    }

    pub fn not_found() -> Self {
        Answer::text(404, "not found\n".to_owned())
    }
}

/// Listens for ever, and again and again while somebody else has the address; `what` names it in the log.
pub async fn serve<A, F>(address: SocketAddr, what: &str, answer: A)
where
    A: Fn(String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = listen(address, what).await;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, answer.clone()))),
                Err(error) => {
                    warn!(what, %error, "cannot take a connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn listen(address: SocketAddr, what: &str) -> TcpListener {
    let mut told = false;
    loop {
        match bind(address).await {
            Ok(listener) => {
                info!(what, %address, "listening");
                return listener;
            }
            Err(error) if told => tracing::debug!(what, %address, %error, "still cannot listen"),
            Err(error) => warn!(what, %address, %error, "cannot listen, will try again"),
        }
        told = true;
        tokio::time::sleep(BUSY).await;
    }
}

/// All addresses of IPv6 include those of IPv4, where there is IPv6 at all.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await
        }
        outcome => outcome,
    }
}

async fn converse<A, F>(stream: TcpStream, answer: A)
where
    A: Fn(String) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(async |request: Request<hyper::body::Incoming>| {
        let asked = request.method() == Method::GET || request.method() == Method::HEAD;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let answer = match asked {
            true => answer(path.to_owned()).await,
            false => Answer::text(405, "only GET\n".to_owned()),
        };
        Ok::<_, Infallible>(response(answer))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // A client that went away is its own affair.
    connection.await.ok();
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
