//! Logs of containers, commands in them, and connections to their pods, for the API.

use super::events::Ends;
use super::log::Log;
use super::{attach, exec};
use crate::layout;
use apiserver::containers::{Container, ContainerRequest, LogOptions, Refusal};
use bytes::Bytes;
use kernel::namespace::{self, Kind, Namespace};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;
use tokio::sync::mpsc;

/// A pod that answers nothing for so long is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what the API wants of a container; `init` is the first process of its node, if the power is on.
pub(super) async fn serve(request: ContainerRequest, init: Option<u32>, ends: Ends) {
    let node = request.container().node.clone();
    let init = init.ok_or_else(|| Refusal(format!("node {node} is down")));
    // Whoever asked may have gone meanwhile.
    match request {
        ContainerRequest::Logs { container, options, reply } => {
            reply.send(logs(&container, options)).ok();
        }
        ContainerRequest::Exec { container, command, terminal, reply } => {
            let session =
                init.and_then(|init| exec::start(&container, init, &command, terminal, &ends));
            reply.send(session).ok();
        }
        ContainerRequest::Attach { container, input, ended, reply } => {
            reply.send(attach::start(&container, input, ended)).ok();
        }
        ContainerRequest::Connect { container, port, reply } => {
            let connected = match init {
                Ok(_) => connect(container, port).await,
                Err(down) => Err(down),
            };
            reply.send(connected).ok();
        }
    }
}

pub(super) fn logs(
    container: &Container,
    options: LogOptions,
) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let log = Log::open(container, options).map_err(|error| {
        let Container { namespace, pod, name, .. } = container;
        Refusal(format!("the log of {namespace}/{pod}/{name}: {error}"))
    })?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = log.send(sender).await {
            tracing::warn!(%error, "a log cannot be read any more");
        }
    });
    Ok(receiver)
}

/// A connection from within the pod to itself, as programs in it make one to `localhost`.
async fn connect(container: Container, port: u16) -> Result<tokio::net::TcpStream, Refusal> {
    let refusal = |error: &dyn std::fmt::Display| {
        Refusal(format!("failed to connect to localhost:{port} inside the pod: {error}"))
    };
    let opened = tokio::task::spawn_blocking(move || {
        let netns = Namespace::open(Kind::Net, &layout::netns_of(&container.uid, &container.node))?;
        namespace::in_netns(netns, || dial(port))
    });
    let stream = match opened.await {
        Ok(Ok(Ok(stream))) => stream,
        Ok(Ok(Err(error))) => return Err(refusal(&error)),
        Ok(Err(error)) => return Err(refusal(&crate::error::chain(&error))),
        Err(error) => return Err(refusal(&error)),
    };
    let stream = stream.set_nonblocking(true).map(|()| stream);
    stream.and_then(tokio::net::TcpStream::from_std).map_err(|error| refusal(&error))
}

fn dial(port: u16) -> io::Result<TcpStream> {
    let to =
        |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE);
    // The first refusal is the one that people understand.
    to(Ipv4Addr::LOCALHOST.into())
        .or_else(|error| to(Ipv6Addr::LOCALHOST.into()).map_err(|_loopback_of_v6| error))
}
