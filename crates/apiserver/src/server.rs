//! The server: one registry behind a lock, watchers that sleep until their kind changes.
//!
//! ```text
//! request ─► lock ─► registry ─► unlock ─► saved, where there is a disk ─► answer
//!                                             │
//!                                             └─► wake the watchers of the kinds written
//!                                                    │
//!            watcher: events of the kind's log after my cursor ─► encode ─► send ─► sleep
//! ```

use crate::access::tokens::{ISSUER, Tokens};
use crate::access::{Access, User};
use crate::admission::Pools;
use crate::containers::ContainerRequest;
use crate::error::Error;
use crate::http::{self, metrics::Metrics};
use crate::policy::webhook::Outside;
use crate::registry::Registry;
use crate::resources::{Kind, RESOURCES};
use crate::store::{Batch, Disk, History, Journal, Kept, Log, Mark, Saved, Store};
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

/// How often a write is tried that webhooks have a say in: each of them asks some more.
const ROUNDS: usize = 100;

/// What a cluster's API has to know about the cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where cluster IPs come from: one range, or one of each family, that of the default family first.
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
    /// Where pods and nodes reach this server; the endpoint of the service `default/kubernetes`.
    pub advertise: SocketAddr,
    /// What is kept for watchers that come back.
    pub history: History,
    /// Who is asked for logs and commands; none: there are no nodes.
    pub nodes: Option<mpsc::UnboundedSender<ContainerRequest>>,
    /// Whose authority the cluster's clients trust; none: they speak plain HTTP, and pods get no tokens.
    pub access: Option<Arc<Access>>,
}

impl Config {
    /// A server at `advertise` with Kubernetes' usual ranges.
    #[must_use]
    pub fn new(advertise: SocketAddr) -> Self {
        let service_cidrs = vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12).into()];
        let history = History::default();
        let node_ports = 30_000..=32_767;
        Self { service_cidrs, node_ports, advertise, history, nodes: None, access: None }
    }

    fn pools(&self) -> Pools {
        Pools::new(&self.service_cidrs, &self.node_ports)
    }
}

/// A Kubernetes API with its objects in memory, and on a disk if there is one.
#[derive(Debug)]
pub struct ApiServer {
    /// Written by every connection's task, and by the journal when memory has to be what is on the disk.
    registry: Arc<Mutex<Registry>>,
    news: Arc<News>,
    /// None: what is in memory is all there is.
    journal: Option<Journal>,
    pub(crate) advertise: SocketAddr,
    pub(crate) nodes: Option<mpsc::UnboundedSender<ContainerRequest>>,
    pub(crate) tokens: Tokens,
    pub(crate) metrics: Arc<Metrics>,
    access: Option<Arc<Access>>,
}

impl ApiServer {
    /// A server with the first namespaces and its own service `default/kubernetes`, all in memory.
    ///
    /// # Errors
    /// Where the configured ranges have no room for that service.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        let (pools, seed) = (config.pools(), RandomState::new().hash_one(first_revision()));
        let store = Store::new(first_revision(), config.history);
        let registry = Registry::new(store, pools, seed, config.access.clone(), now());
        Self::begin(config, registry, Tokens::new().map_err(unusable)?, None)
    }

    /// A server that goes on with what is on the disk, and acknowledges nothing that is not.
    ///
    /// # Errors
    /// Where the disk cannot be read, or as for [`Self::new`].
    pub fn on_disk(config: &Config, disk: Disk) -> Result<Arc<Self>, Error> {
        let tokens = Tokens::kept(&disk).map_err(unusable)?;
        let mut kept = disk.load().map_err(unusable)?;
        if kept.revision == 0 {
            kept.first = first_revision();
            kept.revision = kept.first;
            disk.begin(kept.first).map_err(unusable)?;
        }
        let (pools, seed) = (config.pools(), RandomState::new().hash_one(kept.revision));
        let is_new = kept.objects.is_empty();
        let saved = kept.revision;
        let authority = config.access.clone();
        let registry = if is_new {
            Registry::new(Store::resumed(&kept, config.history), pools, seed, authority, now())
        } else {
            Registry::restore(kept, config.history, pools, seed, authority, now())
        };
        Self::begin(config, registry, tokens, Some((disk, saved)))
    }

    /// `disk`: where to save what is written from now on, and the number of the last write on it.
    fn begin(
        config: &Config,
        mut registry: Registry,
        tokens: Tokens,
        disk: Option<(Disk, u64)>,
    ) -> Result<Arc<Self>, Error> {
        let now = now();
        let address = config.pools().first_address().map(|it| it.to_string()).unwrap_or_default();
        registry.ensure(Kind::ServiceCIDR, "", own_range(&config.service_cidrs), now)?;
        registry.ensure(Kind::Service, "default", own_service(&address, config.advertise), now)?;
        // What only this machine reaches is no endpoint.
        if !config.advertise.ip().is_loopback() {
            registry.ensure(Kind::EndpointSlice, "default", own_slice(config.advertise), now)?;
            registry.ensure(Kind::Endpoints, "default", own_endpoints(config.advertise), now)?;
        }
        let news = Arc::new(News::new(&registry));
        let registry = Arc::new(Mutex::new(registry));
        let journal = disk.map(|(disk, saved)| {
            let (news, registry, config) = (news.clone(), registry.clone(), config.clone());
            let begin_anew = move |kept: Kept, discard: &dyn Fn()| {
                let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
                discard();
                let seed = RandomState::new().hash_one(kept.revision);
                let (pools, authority) = (config.pools(), config.access.clone());
                let history = config.history;
                *registry = Registry::restore(kept, history, pools, seed, authority, self::now());
            };
            Journal::start(disk, saved, move |batch| news.tell(batch), begin_anew)
        });
        let journal = journal.transpose().map_err(|error| Error::Internal {
            message: format!("cannot start the store's thread: {error}"),
        })?;
        let (advertise, nodes) = (config.advertise, config.nodes.clone());
        let access = config.access.clone();
        let metrics = Arc::default();
        let server = Self { registry, news, journal, advertise, nodes, tokens, metrics, access };
        server.write(|_own_objects| Ok(()))?;
        Ok(Arc::new(server))
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

    /// Writes under the lock, then wakes the watchers of what changed, once it is saved. While the disk has no room
    /// nothing is written.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&mut Registry) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut registry = self.lock();
        self.check_room()?;
        let result = change(&mut registry);
        match (registry.store.take_batch(), &self.journal) {
            (Some(batch), Some(journal)) => journal.append(batch),
            (Some(batch), None) => self.news.tell(&batch),
            (None, _) => {}
        }
        result
    }

    /// As [`Self::write`], of what may have to ask webhooks: then it is tried again, with their answers.
    pub(crate) async fn write_asking<T>(
        &self,
        mut change: impl FnMut(&mut Registry) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut outside = Outside::default();
        for _ in 0..ROUNDS {
            let result = self.write(|registry| registry.asking(&mut outside, &mut change));
            let calls = outside.take_open();
            if calls.is_empty() || !matches!(result, Err(Error::Unanswered)) {
                return result;
            }
            let asked = calls.iter().map(|call| http::webhooks::ask(self, call));
            let outcomes = futures::future::join_all(asked).await;
            for (call, outcome) in calls.iter().zip(outcomes) {
                outside.answer(call, outcome);
            }
        }
        Err(Error::Internal {
            message: "what webhooks are asked about changes all the time".into(),
        })
    }

    /// Up to which number writes may be shown to watchers.
    pub(crate) fn visible(&self) -> u64 {
        match &self.journal {
            None => u64::MAX,
            Some(journal) => match *journal.saved().borrow() {
                Saved::Until(mark) | Saved::Full(mark, _) => mark.revision,
                Saved::Failed(_) => 0,
            },
        }
    }

    /// Whose token that is, and for which of these audiences it is good.
    pub(crate) fn user_of_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Option<(User, Vec<String>)> {
        let own = || audiences.iter().any(|it| it == ISSUER).then(|| vec![ISSUER.to_owned()]);
        if let Some(user) = self.access.as_ref().and_then(|it| it.user_of_token(token)) {
            return Some((user, own()?));
        }
        let mut claims = self.tokens.verify(token, now())?;
        claims.audiences.retain(|it| audiences.contains(it));
        let user = self.read(|registry| registry.account_of(&claims))?;
        (!claims.audiences.is_empty()).then_some((user, claims.audiences))
    }

    /// Where a request begins: [`Self::saved`] says whether what it did from here on is kept.
    pub(crate) fn run(&self) -> u64 {
        let run = self.journal.as_ref().and_then(|journal| journal.saved().borrow().run());
        run.unwrap_or(0)
    }

    fn check_room(&self) -> Result<(), Error> {
        match self.journal.as_ref().map(|journal| journal.saved().borrow().clone()) {
            Some(Saved::Full(_, why)) => Err(Error::Full { why }),
            _ => Ok(()),
        }
    }

    /// Waits until all that is in memory now is on the disk, if there is one: then what was read since the beginning of
    /// this run may be told.
    pub(crate) async fn saved(&self, run: u64) -> Result<(), Error> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let revision = self.read(|registry| registry.store.revision());
        let mut saved = journal.saved();
        let has = |mark: &Mark| mark.run == run && mark.revision >= revision;
        let decided = |saved: &Saved| match saved {
            Saved::Until(mark) => has(mark) || mark.run != run,
            Saved::Full(..) | Saved::Failed(_) => true,
        };
        let failed = |why: &str| Error::Internal { message: format!("the store failed: {why}") };
        match saved.wait_for(decided).await.as_deref() {
            Ok(Saved::Until(mark) | Saved::Full(mark, _)) if has(mark) => Ok(()),
            Ok(Saved::Until(_)) => Err(Error::Full { why: "it was full meanwhile".into() }),
            Ok(Saved::Full(_, why)) => Err(Error::Full { why: why.clone() }),
            Ok(Saved::Failed(why)) => Err(failed(why)),
            Err(_ended) => Err(failed("it has ended")),
        }
    }

    /// Completes when the disk takes no more writes, and says why; without a disk, never.
    pub async fn failure(&self) -> String {
        let Some(journal) = &self.journal else { return std::future::pending().await };
        let mut saved = journal.saved();
        match saved.wait_for(|saved| matches!(saved, Saved::Failed(_))).await.as_deref() {
            Ok(Saved::Failed(why)) => why.clone(),
            _ => "the store has ended".to_owned(),
        }
    }

    /// The history of a kind, to be read without the registry's lock.
    pub(crate) fn log(&self, kind: Kind) -> Arc<Log> {
        self.lock().store.log(kind)
    }

    /// Hears of each write to a kind.
    pub(crate) fn subscribe(&self, kind: Kind) -> watch::Receiver<u64> {
        self.news.by_kind[News::place(kind)].subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A request that panicked was one request; the others go on.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Internal { message: error.to_string() }
}

/// What wakes watchers.
#[derive(Debug)]
struct News {
    /// By kind: the number of its last write. The custom ones share the last place.
    by_kind: Vec<watch::Sender<u64>>,
}

impl News {
    fn new(registry: &Registry) -> Self {
        let latest = RESOURCES.iter().map(|it| registry.store.revision_of(it.kind));
        Self { by_kind: latest.chain([0]).map(watch::Sender::new).collect() }
    }

    fn place(kind: Kind) -> usize {
        kind.index().unwrap_or(RESOURCES.len())
    }

    fn tell(&self, batch: &Batch) {
        let mut kinds: Vec<Kind> = batch.rows.iter().map(|row| row.kind).collect();
        kinds.dedup();
        for kind in kinds {
            self.by_kind[Self::place(kind)].send_replace(batch.revision);
        }
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

/// Numbers of an earlier server, at up to 64 writes a millisecond, are smaller than ours: its watchers are told to list
/// again.
fn first_revision() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(0) << 6
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

fn own_endpoints(advertise: SocketAddr) -> Value {
    json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": advertise.ip().to_string()}],
            "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
        }],
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
