//! A server of one's own, on loopback.

use apiserver::{ApiServer, Config, Disk, DiskError};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The longest that anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server that ends with this value.
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl Cluster {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::serve(change, |config| ApiServer::new(config).unwrap()).await
    }

    /// A server that keeps what it has in this directory.
    pub(crate) async fn start_in(directory: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let disk = in_time(released(directory)).await.unwrap();
        Self::serve(change, |config| ApiServer::on_disk(config, disk).unwrap()).await
    }

    async fn serve(
        change: impl FnOnce(&mut Config),
        make: impl FnOnce(&Config) -> Arc<ApiServer>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::new(address);
        change(&mut config);
        let server = make(&config);
        let task = tokio::spawn(server.serve(listener, std::future::pending()));
        let url = format!("http://{address}").parse().unwrap();
        let client = Client::try_from(kube::Config::new(url)).unwrap();
        Self { address, client, task }
    }

    /// Ends the server as a kill would: at once.
    pub(crate) fn end(&mut self) {
        self.task.abort();
    }

    /// Objects of a kind in the namespace `default`.
    pub(crate) fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "default", &resource(api_version, kind))
    }

    /// Objects of a kind wherever they are.
    pub(crate) fn all(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(api_version, kind))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the store as soon as the server before has let it go.
pub(crate) async fn released(directory: &Path) -> Result<Disk, DiskError> {
    loop {
        match Disk::open(directory) {
            Err(DiskError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
            other => return other,
        }
    }
}

/// A directory that goes with this value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podway-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

pub(crate) fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}
