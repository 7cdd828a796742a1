//! Making one probe.

use super::container::{Launch, ended};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, TE, USER_AGENT};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kernel::process::Signal;
use model::object::lifecycle::Hook;
use model::{Container, PortRef, ProbeAction, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme, crypto};

/// Everything a probe needs to know.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: Option<IpAddr>,
    pub(super) container: Container,
    pub(super) launch: Launch,
}

/// Does what a container wants done at its begin or end; false where that fails or takes too long.
pub(super) async fn perform(hook: Hook, target: &Target, timeout: Duration) -> bool {
    match hook {
        Hook::Action(action) => probe(action, target, timeout).await,
        Hook::Sleep(time) => {
            tokio::time::sleep(time.min(timeout)).await;
            true
        }
    }
}

/// Whether the container passes, within `timeout`.
pub(super) async fn probe(action: ProbeAction, target: &Target, timeout: Duration) -> bool {
    let command = match action {
        ProbeAction::Exec { command } => command,
        over_network => {
            let passed = ask(over_network, target);
            return tokio::time::timeout(timeout, passed).await.is_ok_and(|it| it.is_some());
        }
    };
    run(target, command, timeout).await
}

async fn ask(action: ProbeAction, target: &Target) -> Option<()> {
    match action {
        ProbeAction::HttpGet { https, path, port, host, headers } => {
            let stream = connect(target, &port, host.as_deref()).await?;
            let peer = stream.peer_addr().ok()?;
            if https {
                let name = header(&headers, HOST.as_str()).or(host.as_deref());
                get(tls(stream, name, peer.ip()).await?, peer, &path, &headers).await
            } else {
                get(stream, peer, &path, &headers).await
            }
        }
        ProbeAction::TcpSocket { port, host } => {
            connect(target, &port, host.as_deref()).await.map(drop)
        }
        ProbeAction::Grpc { port, service } => {
            let stream = connect(target, &PortRef::Number(port), None).await?;
            check(stream, &service).await
        }
        ProbeAction::Exec { .. } => None,
    }
}

async fn connect(target: &Target, port: &PortRef, host: Option<&str>) -> Option<TcpStream> {
    let port = number(&target.container, port)?;
    match host {
        Some(host) => TcpStream::connect((host, port)).await.ok(),
        None => TcpStream::connect(SocketAddr::new(target.address?, port)).await.ok(),
    }
}

fn number(container: &Container, port: &PortRef) -> Option<u16> {
    match port {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => {
            let named = |it: &&model::object::pod::ContainerPort| {
                it.name.as_ref() == Some(name) && it.protocol == Protocol::Tcp
            };
            container.ports.iter().find(named).map(|it| it.port)
        }
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let named = headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str())
}

/// Over TLS with whoever is there: a probe asks whether somebody answers, not who it is.
async fn tls(
    stream: TcpStream,
    name: Option<&str>,
    address: IpAddr,
) -> Option<TlsStream<TcpStream>> {
    let provider = Arc::new(crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let anybody = Arc::new(Anybody(crypto::ring::default_provider()));
    let config = config.ok()?.dangerous().with_custom_certificate_verifier(anybody);
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let named = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    connector.connect(named.unwrap_or(address.into()), stream).await.ok()
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(crypto::CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Asks `grpc.health.v1.Health/Check`: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
async fn check(stream: TcpStream, service: &str) -> Option<()> {
    let peer = stream.peer_addr().ok()?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.ok()?;
    let request = Request::post(format!("http://{peer}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "kube-probe/1.36")
        .body(Full::new(message(service)))
        .ok()?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.ok()?;
        let code = body.trailers().and_then(|it| it.get("grpc-status"));
        let code = code.or(head.headers.get("grpc-status"))?.clone();
        (code == "0" && is_serving(&body.to_bytes())).then_some(())
    };
    let passed = answer.await;
    driver.abort();
    passed
}

const LARGEST_ANSWER: usize = 64 << 10;

/// `HealthCheckRequest {service = 1}` in protobuf, with gRPC's prefix: not compressed, four bytes of length.
fn message(service: &str) -> Bytes {
    let mut text = Vec::new();
    if !service.is_empty() {
        text.push(1 << 3 | 2);
        let mut length = service.len();
        while length > 0x7f {
            text.push(0x80 | u8::try_from(length & 0x7f).unwrap_or(0));
            length >>= 7;
        }
        text.push(u8::try_from(length).unwrap_or(0));
        text.extend(service.as_bytes());
    }
    let length = u32::try_from(text.len()).unwrap_or(0).to_be_bytes();
    [&[0][..], &length, &text].concat().into()
}

/// `HealthCheckResponse {status = 1}` with status `SERVING`, which is 1.
fn is_serving(answer: &[u8]) -> bool {
    answer.get(5..).is_some_and(|message| message == [1 << 3, 1])
}

/// "Any code greater than or equal to 200 and less than 400 indicates success."
async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Option<()> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let defaults =
        [(HOST, peer.to_string()), (USER_AGENT, "kube-probe/1.36".into()), (ACCEPT, "*/*".into())];
    for (name, value) in defaults {
        if header(headers, name.as_str()).is_none() {
            request = request.header(name, value);
        }
    }
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    driver.abort();
    let status = answer.ok()?.status().as_u16();
    (200..400).contains(&status).then_some(())
}

/// Runs a command where the container runs; a late one is killed.
async fn run(target: &Target, command: Vec<String>, timeout: Duration) -> bool {
    let launch = target.launch.clone();
    let started = tokio::task::spawn_blocking(move || launch.start_probe(&command)).await;
    let Ok(Ok(Some(process))) = started else { return false };
    let process = Arc::new(process);
    match tokio::time::timeout(timeout, ended(Arc::clone(&process))).await {
        Ok(code) => code == Some(0),
        Err(_late) => {
            process.signal(Signal::SIGKILL).ok();
            ended(process).await;
            false
        }
    }
}
