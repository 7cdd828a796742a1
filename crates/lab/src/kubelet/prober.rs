//! Making one probe.

mod exec;
mod grpc;
mod web;

use super::container::Launch;
use model::object::lifecycle::Hook;
use model::{Container, PortRef, ProbeAction, Protocol};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Everything a probe needs to know.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: Option<IpAddr>,
    pub(super) container: Container,
    pub(super) launch: Launch,
}

/// What came of a probe, in the words of the kubelet of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    /// It could not be made.
    Errored(String),
}

impl Outcome {
    pub(super) fn has_passed(&self) -> bool {
        *self == Outcome::Passed
    }
}

/// Does what a container wants done at its begin or end; false where that fails or takes too long.
pub(super) async fn perform(hook: Hook, target: &Target, patience: Duration) -> bool {
    match hook {
        Hook::Action(action) => probe(action, target, patience).await.has_passed(),
        Hook::Sleep(time) => {
            tokio::time::sleep(time.min(patience)).await;
            true
        }
    }
}

/// Whether the container passes, within `patience`.
pub(super) async fn probe(action: ProbeAction, target: &Target, patience: Duration) -> Outcome {
    match action {
        ProbeAction::Exec { command } => exec::run(target, command, patience).await,
        ProbeAction::HttpGet { https, path, port, host, headers } => {
            let Some((host, port)) = target.place(&port, host.as_deref()) else {
                return unknown_port(&port);
            };
            web::Request { https, host, port, path, headers }.ask(patience).await
        }
        ProbeAction::TcpSocket { port, host } => {
            let Some((host, port)) = target.place(&port, host.as_deref()) else {
                return unknown_port(&port);
            };
            match timeout(patience, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(_)) => Outcome::Passed,
                Ok(Err(error)) => Outcome::Failed(refused(&host, port, &words(&error))),
                Err(_late) => Outcome::Failed(format!("dial tcp {}: i/o timeout", at(&host, port))),
            }
        }
        ProbeAction::Grpc { port, service } => {
            let Some((host, port)) = target.place(&PortRef::Number(port), None) else {
                return Outcome::Errored("the pod has no address".to_owned());
            };
            grpc::ask(&host, port, &service, patience).await
        }
    }
}

fn unknown_port(port: &PortRef) -> Outcome {
    match port {
        PortRef::Number(_) => Outcome::Errored("the pod has no address".to_owned()),
        PortRef::Name(name) => {
            Outcome::Errored(format!("couldn't find port: {name} in the container's ports"))
        }
    }
}

impl Target {
    /// Host and port to ask: those of the pod where the probe names no other host.
    fn place(&self, port: &PortRef, host: Option<&str>) -> Option<(String, u16)> {
        let host = host.map(str::to_owned).or_else(|| Some(self.address?.to_string()))?;
        let number = match port {
            PortRef::Number(number) => *number,
            PortRef::Name(name) => {
                let named = |it: &&model::object::pod::ContainerPort| {
                    it.name.as_ref() == Some(name) && it.protocol == Protocol::Tcp
                };
                self.container.ports.iter().find(named)?.port
            }
        };
        Some((host, number))
    }
}

/// As Go writes it: an address of IPv6 in brackets.
fn at(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

fn refused(host: &str, port: u16, why: &str) -> String {
    format!("dial tcp {}: connect: {why}", at(host, port))
}

/// The kernel's words as Go has them: `connection refused`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// As Go writes it: `1m30s`. Whole seconds.
pub(super) fn spelled(time: Duration) -> String {
    let (hours, minutes, seconds) =
        (time.as_secs() / 3600, time.as_secs() / 60 % 60, time.as_secs() % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
