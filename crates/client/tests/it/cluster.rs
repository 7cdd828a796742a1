//! A server that can go away and come back, on loopback.

use apiserver::{ApiServer, Config};
use client::{Client, Event, Watcher, connect};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct Server {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// A new and empty server where another one was.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = listen(address);
        let address = listener.local_addr().unwrap();
        let server = ApiServer::new(&Config::new(address)).unwrap();
        let (end, ended) = oneshot::channel();
        let shutdown = async { drop(ended.await) };
        let task = tokio::spawn(server.serve(listener, shutdown));
        Self { address, end, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn client(&self) -> Client {
        connect(None, Some(&format!("http://{}", self.address))).await.unwrap()
    }

    /// Ends the server and all its connections.
    pub(crate) async fn stop(self) -> SocketAddr {
        drop(self.end);
        self.task.await.unwrap();
        self.address
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

pub(crate) async fn next(watcher: &mut Watcher) -> Event {
    tokio::time::timeout(DEADLINE, watcher.next()).await.expect("in time")
}

pub(crate) fn config_map(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}})
}
