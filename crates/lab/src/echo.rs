//! The built-in server: answers every request with who answered and whom it saw.
//!
//! It stands in for images that a lab does not have, as agnhost does in real clusters.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a client may take for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nobody must have asked before it counts as sure that nobody will: others may be slow to learn who goes.
const QUIET: Duration = Duration::from_secs(3);
/// How long at least to wait for the first who asks.
const LULL: Duration = Duration::from_secs(1);
/// Longer than a handshake takes that has begun.
const KNOCK: Duration = Duration::from_millis(100);
/// How long who has come without a word yet may take for the first.
const HESITATION: Duration = Duration::from_secs(1);
/// The longest datagram over IPv4.
const DATAGRAM: usize = 65_507;

/// Which ports to answer on, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub tcp: Vec<u16>,
    pub udp: Vec<u16>,
    pub identity: Identity,
    /// How long at most to go on once told to stop, as long as anybody still asks.
    pub grace: Duration,
}

/// Who answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub pod: String,
    pub namespace: String,
    pub node: String,
    pub pod_ip: String,
}

impl Identity {
    /// The names that the kubelet gives its containers, read from an environment.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name| variable(name).unwrap_or_default();
        Identity {
            pod: text("POD_NAME"),
            namespace: text("POD_NAMESPACE"),
            node: text("NODE_NAME"),
            pod_ip: text("POD_IP"),
        }
    }
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {protocol} port {port}")]
pub struct ListenError {
    pub protocol: &'static str,
    pub port: u16,
    #[source]
    pub source: io::Error,
}

/// The server with all its ports open: connections are taken from here on, answered once it [runs](Server::run).
#[derive(Debug)]
pub struct Server {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    here: Arc<Here>,
    grace: Duration,
}

/// What all connections share.
#[derive(Debug, Default)]
struct Here {
    identity: Identity,
    /// The last request or datagram, but for probes.
    asked: watch::Sender<Option<Instant>>,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Everybody is answered still, and told to come no more on this connection.
    Draining,
    Closing,
}

impl Server {
    /// Opens every port for IPv4 and, where the kernel has it, IPv6.
    pub async fn listen(config: Config) -> Result<Self, ListenError> {
        let here = Arc::new(Here { identity: config.identity, asked: watch::Sender::default() });
        let mut server = Server { tcp: Vec::new(), udp: Vec::new(), here, grace: config.grace };
        for port in config.tcp {
            let failed = |source| ListenError { protocol: "TCP", port, source };
            let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Err(error) if lacks_ipv6(&error) => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
                }
                other => other,
            };
            server.tcp.push(listener.map_err(failed)?);
        }
        for port in config.udp {
            let failed = |source| ListenError { protocol: "UDP", port, source };
            let socket = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Err(error) if lacks_ipv6(&error) => {
                    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await
                }
                other => other,
            };
            server.udp.push(socket.map_err(failed)?);
        }
        Ok(server)
    }

    /// The TCP addresses it listens on, in the order of the configuration.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.tcp.iter().map(TcpListener::local_addr).collect()
    }

    /// Answers until `stop`; then, while its grace lasts, until nobody asks any more, as others may learn late that it
    /// goes. At last it takes no more connections and finishes the requests it has.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stage, stages) = watch::channel(Stage::Serving);
        let mut tasks = JoinSet::new();
        for listener in self.tcp {
            tasks.spawn(accept(listener, Arc::clone(&self.here), stages.clone()));
        }
        for socket in self.udp {
            tasks.spawn(reflect(socket, Arc::clone(&self.here), stages.clone()));
        }
        drop(stages);
        stop.await;
        stage.send_replace(Stage::Draining);
        // Whether it became quiet or the time is up: the end is the same.
        tokio::time::timeout(self.grace, self.here.becomes_quiet()).await.ok();
        stage.send_replace(Stage::Closing);
        while tasks.join_next().await.is_some() {}
    }
}

impl Here {
    fn is_asked(&self) {
        self.asked.send_replace(Some(Instant::now()));
    }

    /// Completes when nobody has asked for a while.
    async fn becomes_quiet(&self) {
        tokio::time::sleep(LULL).await;
        let until = || self.asked.borrow().map(|asked| asked + QUIET);
        while let Some(until) = until().filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }
}

async fn closing(stages: &mut watch::Receiver<Stage>) {
    // A server that is gone is closed.
    stages.wait_for(|stage| *stage == Stage::Closing).await.ok();
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable)
        || error.raw_os_error() == Some(kernel::Errno::EAFNOSUPPORT as i32)
}

async fn accept(listener: TcpListener, here: Arc<Here>, mut stages: watch::Receiver<Stage>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing(&mut stages) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, Arc::clone(&here), stages.clone()));
            }
            // The peer gave up already, or descriptors ran out: then wait until a few are free again.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    // Who knocks now is heard by nobody, and tries elsewhere; who was let in before is answered, not reset. Where the
    // kernel takes no filter from us they go on knocking.
    kernel::filter::admit_no_new(&listener).ok();
    let end = Instant::now() + HESITATION;
    while Instant::now() < end
        && let Ok(Ok((stream, _))) = tokio::time::timeout(KNOCK, listener.accept()).await
    {
        connections.spawn(converse(stream, Arc::clone(&here), stages.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, here: Arc<Here>, mut stages: watch::Receiver<Stage>) {
    let (Ok(client), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let stage = stages.clone();
    let heard = AtomicBool::new(false);
    let service = service_fn(|request| {
        heard.store(true, Ordering::Relaxed);
        let stays = *stage.borrow() == Stage::Serving;
        answer(request, &here, (client, local), stays)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _gone_or_done = connection.as_mut() => return,
        () = async {
            closing(&mut stages).await;
            // Who has just come has not said yet what for.
            if !heard.load(Ordering::Relaxed) {
                tokio::time::sleep(HESITATION).await;
            }
        } => connection.as_mut().graceful_shutdown(),
    }
    // A client that went away is its own affair.
    connection.await.ok();
}

async fn answer(
    mut request: Request<Incoming>,
    here: &Here,
    (client, local): (SocketAddr, SocketAddr),
    stays: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let agent = request.headers().get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
    if !agent.starts_with(b"kube-probe/") {
        here.is_asked();
    }
    // Left unread, a long body would end in a reset instead of the answer.
    while let Some(Ok(_)) = request.body_mut().frame().await {}
    let mut report = report(&here.identity, client, local);
    let headers = request.headers();
    let host = headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    report["method"] = request.method().as_str().into();
    report["path"] = request.uri().path_and_query().map_or("/", |path| path.as_str()).into();
    report["host"] = host.or_else(|| request.uri().host().map(str::to_owned)).into();
    report["headers"] = headers_of(headers);
    let mut response = Response::new(Full::from(line(&report)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !stays {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Each datagram is answered with one.
async fn reflect(socket: UdpSocket, here: Arc<Here>, mut stages: watch::Receiver<Stage>) {
    let Ok(local) = socket.local_addr() else { return };
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = closing(&mut stages) => return,
        };
        // An error here is an ICMP answer to an earlier datagram.
        let Ok((length, client)) = received else { continue };
        here.is_asked();
        let mut report = report(&here.identity, client, local);
        report["payload"] = String::from_utf8_lossy(&buffer[..length]).into();
        socket.send_to(&line(&report), client).await.ok();
    }
}

fn report(identity: &Identity, client: SocketAddr, local: SocketAddr) -> Value {
    json!({
        "pod": identity.pod,
        "namespace": identity.namespace,
        "node": identity.node,
        "podIP": identity.pod_ip,
        "clientIP": client.ip().to_canonical(),
        "clientPort": client.port(),
        "localPort": local.port(),
        "method": null,
        "path": null,
        "host": null,
        "headers": {},
    })
}

/// Names to values; a header that came several times has its values joined as RFC 9110 section 5.2 allows.
fn headers_of(headers: &HeaderMap) -> Value {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let entry = |name: &hyper::header::HeaderName| {
        let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
        (name.as_str().to_owned(), values.join(", ").into())
    };
    Value::Object(headers.keys().map(entry).collect::<Map<_, _>>())
}

fn line(report: &Value) -> Vec<u8> {
    format!("{report}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    fn on_runtime(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), test).await.expect("in time");
        });
    }

    async fn server(grace: Duration) -> (Server, SocketAddr) {
        let identity = Identity::from_variables(|name| Some(format!("the {name}")));
        let config = Config { tcp: vec![0], identity, grace, ..Config::default() };
        let server = Server::listen(config).await.unwrap();
        let port = server.addresses().unwrap()[0].port();
        (server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn any_request_is_answered_with_what_was_seen() {
        let requests = [
            ("GET / HTTP/1.1\r\nHost: a.example:80\r\n", "GET", "/", Some("a.example:80")),
            ("GET /x?y=1 HTTP/1.1\r\nHost: b\r\nX-A: 1\r\nx-a: 2\r\n", "GET", "/x?y=1", Some("b")),
            ("DELETE /deep/path HTTP/1.0\r\n", "DELETE", "/deep/path", None),
        ];
        on_runtime(async move {
            let (server, address) = server(Duration::ZERO).await;
            let (stop, stopped) = oneshot::channel::<()>();
            let running = tokio::spawn(server.run(async { drop(stopped.await) }));
            for (head, method, path, host) in requests {
                let answer = exchange(address, &format!("{head}Connection: close\r\n\r\n")).await;
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(" 200 OK") && head.contains("application/json"), "{head}");
                let body: Value = serde_json::from_str(body).unwrap();
                assert_eq!(body["method"], method);
                assert_eq!(body["path"], path);
                assert_eq!(body["host"], json!(host));
                assert_eq!(body["pod"], "the POD_NAME");
                assert_eq!(body["podIP"], "the POD_IP");
                assert_eq!(body["clientIP"], "127.0.0.1");
                assert_eq!(body["localPort"], address.port());
                assert_eq!(
                    body["headers"].get("x-a"),
                    path.contains('y').then(|| json!("1, 2")).as_ref()
                );
            }
            drop(stop);
            running.await.unwrap();
        });
    }

    #[test]
    fn a_stop_lets_requests_finish_and_takes_no_more() {
        on_runtime(async {
            let (server, address) = server(Duration::ZERO).await;
            let (stop, stopped) = oneshot::channel::<()>();
            let running = tokio::spawn(server.run(async { drop(stopped.await) }));
            let mut half = TcpStream::connect(address).await.unwrap();
            half.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
                .await
                .unwrap();
            // Another request on the same listener proves that the first connection was accepted.
            exchange(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            drop(stop);
            // At first nobody hears, then nobody is there.
            while let Ok(Ok(_)) = tokio::time::timeout(KNOCK, TcpStream::connect(address)).await {
                tokio::task::yield_now().await;
            }
            half.write_all(b"cd").await.unwrap();
            let mut answer = String::new();
            half.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            running.await.unwrap();
        });
    }

    #[test]
    fn who_waits_at_the_door_when_it_closes_is_answered() {
        on_runtime(async {
            let (_stage, stages) = watch::channel(Stage::Closing);
            for hesitation in [Duration::ZERO; 20].into_iter().chain([HESITATION / 2]) {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let mut waiting = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let closing = tokio::spawn(accept(listener, Arc::default(), stages.clone()));
                tokio::time::sleep(hesitation).await;
                waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                waiting.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
                closing.await.unwrap();
            }
        });
    }

    #[test]
    fn who_comes_late_is_answered_while_the_grace_lasts() {
        on_runtime(async {
            let (server, address) = server(Duration::from_secs(30)).await;
            let (stop, stopped) = oneshot::channel::<()>();
            let running = tokio::spawn(server.run(async { drop(stopped.await) }));
            let mut early = TcpStream::connect(address).await.unwrap();
            early.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut head = [0; 15];
            early.read_exact(&mut head).await.unwrap();
            drop(stop);
            for _ in 0..100 {
                let answer = exchange(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            }
            early.write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut rest = String::new();
            early.read_to_string(&mut rest).await.unwrap();
            assert!(rest.contains("\"/2\"") && rest.contains("connection: close"), "{rest}");
            // Longer than a slow network may take to send nobody any more.
            tokio::time::sleep(QUIET - LULL).await;
            exchange(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            running.await.unwrap();
            assert!(TcpStream::connect(address).await.is_err(), "at last it is closed");
        });
    }
}
