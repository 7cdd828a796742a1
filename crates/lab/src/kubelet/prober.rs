//! Making one probe.

use super::container::{Launch, ended};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use kernel::process::Signal;
use model::object::lifecycle::Hook;
use model::{Container, PortRef, ProbeAction, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

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
        ProbeAction::HttpGet { https: false, path, port, host, headers } => {
            get(target, &path, &port, host, &headers).await
        }
        // The handshake is not tried: there is no name to verify its certificate against.
        ProbeAction::HttpGet { https: true, port, host, .. }
        | ProbeAction::TcpSocket { port, host } => {
            connect(target, &port, host.as_deref()).await.map(drop)
        }
        ProbeAction::Grpc { port, .. } => {
            connect(target, &PortRef::Number(port), None).await.map(drop)
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

/// "Any code greater than or equal to 200 and less than 400 indicates success."
async fn get(
    target: &Target,
    path: &str,
    port: &PortRef,
    host: Option<String>,
    headers: &[(String, String)],
) -> Option<()> {
    let stream = connect(target, port, host.as_deref()).await?;
    let peer = stream.peer_addr().ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let named = |name: &str| headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(name));
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let defaults =
        [(HOST, peer.to_string()), (USER_AGENT, "kube-probe/1.36".into()), (ACCEPT, "*/*".into())];
    for (name, value) in defaults {
        if !named(name.as_str()) {
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
