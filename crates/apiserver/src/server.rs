//! The server: one registry behind a lock, watchers that sleep until their kind changes.
//!
//! ```text
//! request ─► lock ─► registry ─► unlock ─► wake the watchers of the kinds written
//!                                             │
//!            watcher: lock ─► events after my cursor ─► unlock ─► encode ─► send ─► sleep
//! ```

use crate::access::Access;
use crate::admission::Pools;
use crate::containers::ContainerRequest;
use crate::error::Error;
use crate::http;
use crate::registry::{Registry, Write};
use crate::resources::{Kind, RESOURCES};
use crate::store::Store;
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

/// What a cluster's API has to know about the cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where cluster IPs come from: one range, or one of each family, that of the default family first.
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
    /// Where pods and nodes reach this server; the endpoint of the service `default/kubernetes`.
    pub advertise: SocketAddr,
    /// How many events of each kind are kept for watchers that come back.
    pub history: usize,
    /// Who is asked for logs and commands; none: there are no nodes.
    pub nodes: Option<mpsc::UnboundedSender<ContainerRequest>>,
}

impl Config {
    /// A server at `advertise` with Kubernetes' usual ranges.
    #[must_use]
    pub fn new(advertise: SocketAddr) -> Self {
        let service_cidrs = vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12).into()];
        Self { service_cidrs, node_ports: 30_000..=32_767, advertise, history: 8192, nodes: None }
    }
}

/// A Kubernetes API with its objects in memory.
#[derive(Debug)]
pub struct ApiServer {
    /// Written by every connection's task.
    registry: Mutex<Registry>,
    /// By kind: the number of its last write. The custom ones share the last place.
    news: Vec<watch::Sender<u64>>,
    pub(crate) advertise: SocketAddr,
    pub(crate) nodes: Option<mpsc::UnboundedSender<ContainerRequest>>,
}

impl ApiServer {
    /// A server with the first namespaces and its own service `default/kubernetes`.
    ///
    /// # Errors
    /// Where the configured ranges have no room for that service.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        let now = now();
        // Numbers of an earlier server, at up to 64 writes a millisecond, are smaller than ours: its watchers are
        // told to list again.
        let first = u64::try_from(since_1970().as_millis()).unwrap_or(0) << 6;
        let pools = Pools::new(&config.service_cidrs, &config.node_ports);
        let address = pools.first_address().map(|it| it.to_string()).unwrap_or_default();
        let seed = RandomState::new().hash_one(first);
        let mut registry = Registry::new(Store::new(first, config.history), pools, seed, now);
        let write = Write::own(now);
        let range = own_range(&config.service_cidrs);
        registry.create(Kind::ServiceCIDR, "", range, write)?;
        registry.create(
            Kind::Service,
            "default",
            own_service(&address, config.advertise),
            write,
        )?;
        registry.create(Kind::EndpointSlice, "default", own_slice(config.advertise), write)?;
        let news = RESOURCES
            .iter()
            .map(|r| watch::Sender::new(registry.store.revision_of(r.kind)))
            .chain(std::iter::once(watch::Sender::new(0)))
            .collect();
        let (advertise, nodes) = (config.advertise, config.nodes.clone());
        Ok(Arc::new(Self { registry: Mutex::new(registry), news, advertise, nodes }))
    }

    /// Serves plain HTTP until `shutdown` completes; then all connections end at once. Whoever can connect gets in,
    /// so this is for tests on loopback.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        self.accept(Door::Open(listener), shutdown).await;
    }

    /// As [`Self::serve`] on a Unix socket, whose file decides who gets in.
    pub async fn serve_unix(
        self: Arc<Self>,
        listener: UnixListener,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        self.accept(Door::Unix(listener), shutdown).await;
    }

    /// As [`Self::serve`] with TLS, for those who have a credential.
    pub async fn serve_tls(
        self: Arc<Self>,
        listener: TcpListener,
        access: Arc<Access>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        self.accept(Door::Guarded(listener, access), shutdown).await;
    }

    async fn accept(self: Arc<Self>, door: Door, shutdown: impl Future<Output = ()> + Send) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = door.accept() => match accepted {
                    Ok(stream) => drop(connections.spawn(http::serve_connection(self.clone(), stream))),
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        // Out of descriptors, most likely: let some connections end first.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// Reads under the lock: be brief.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.lock())
    }

    /// Writes under the lock, then wakes the watchers of what changed.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.lock();
        let result = change(&mut registry);
        let customs = registry.customs.kinds().iter();
        let latest = customs.map(|it| registry.store.revision_of(Kind::Custom(*it))).max();
        let built_in = RESOURCES.iter().map(|it| registry.store.revision_of(it.kind));
        for (news, latest) in self.news.iter().zip(built_in.chain(latest)) {
            news.send_if_modified(|seen| std::mem::replace(seen, latest) != latest);
        }
        result
    }

    /// Hears of each write to a kind.
    pub(crate) fn subscribe(&self, kind: Kind) -> watch::Receiver<u64> {
        self.news[self.place(kind)].subscribe()
    }

    fn place(&self, kind: Kind) -> usize {
        kind.index().unwrap_or(self.news.len() - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A request that panicked was one request; the others go on.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where connections come in.
#[derive(Debug)]
enum Door {
    Open(TcpListener),
    Unix(UnixListener),
    Guarded(TcpListener, Arc<Access>),
}

/// A connection before anything was said on it.
#[derive(Debug)]
pub(crate) enum Stream {
    Open(TcpStream),
    Unix(UnixStream),
    Guarded(TcpStream, Arc<Access>),
}

impl Door {
    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Open(listener) => Stream::Open(listener.accept().await?.0),
            Self::Unix(listener) => Stream::Unix(listener.accept().await?.0),
            Self::Guarded(listener, access) => {
                Stream::Guarded(listener.accept().await?.0, access.clone())
            }
        })
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The ranges that cluster IPs come from.
fn own_range(cidrs: &[IpNet]) -> Value {
    let cidrs: Vec<_> = cidrs.iter().map(IpNet::to_string).collect();
    json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}})
}

fn own_service(address: &str, advertise: SocketAddr) -> Value {
    json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertise.port()}],
        },
    })
}

fn own_slice(advertise: SocketAddr) -> Value {
    json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
    })
}
