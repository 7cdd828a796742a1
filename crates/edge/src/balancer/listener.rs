//! One port of a virtual IP: accepts, and serves each connection in a task of its own.

use super::dial::dial;
use super::pool::Pool;
use crate::config;
use crate::status;
use crate::task::Task;
use relay::{Effort, Limits, Way, Workers};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Between attempts to open a port that is taken, or to accept when descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// A silent peer is probed after a minute and given up a minute later: a client or node that vanished
/// must not hold a connection for ever, an idle one may stay as long as it likes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 4);

/// What carries the connections of all listeners.
#[derive(Debug)]
pub(crate) struct Carrier {
    limits: Limits,
    workers: Workers,
}

impl Carrier {
    /// In the network namespace of the calling thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let descriptors = kernel::descriptors::raise_limit();
        // Every process may have at least these.
        let limits = Limits::new(descriptors.unwrap_or(1024));
        Ok(Carrier { limits, workers: Workers::start()? })
    }
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    unserved: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
}

/// A running listener. Dropping it closes the port; connections that were accepted live on.
#[derive(Debug)]
pub(crate) struct Listener {
    config: config::Listener,
    pool: watch::Sender<Arc<Pool>>,
    counters: Arc<Counters>,
    /// By address of the virtual IP.
    doors: BTreeMap<Ipv4Addr, Door>,
    changed: Arc<Notify>,
    carrier: Arc<Carrier>,
}

#[derive(Debug)]
struct Door {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    _task: Task,
}

impl Listener {
    pub(crate) fn start(
        config: config::Listener,
        addresses: &[Ipv4Addr],
        changed: &Arc<Notify>,
        carrier: &Arc<Carrier>,
    ) -> Self {
        let pool = Arc::new(Pool::new(&config, None, changed));
        let mut listener = Listener {
            config,
            pool: watch::Sender::new(pool),
            counters: Arc::default(),
            doors: BTreeMap::new(),
            changed: Arc::clone(changed),
            carrier: Arc::clone(carrier),
        };
        listener.open(addresses);
        listener
    }

    pub(crate) fn apply(&mut self, config: config::Listener, addresses: &[Ipv4Addr]) {
        if config.port != self.config.port {
            self.doors.clear();
        }
        if config != self.config {
            let pool = Pool::new(&config, Some(&self.pool.borrow()), &self.changed);
            self.pool.send_replace(Arc::new(pool));
            self.config = config;
        }
        self.open(addresses);
    }

    fn open(&mut self, addresses: &[Ipv4Addr]) {
        self.doors.retain(|address, _door| addresses.contains(address));
        for &address in addresses {
            if !self.doors.contains_key(&address) {
                let door = self.door(SocketAddr::from((address, self.config.port)));
                self.doors.insert(address, door);
            }
        }
    }

    fn door(&self, address: SocketAddr) -> Door {
        let open = Arc::new(AtomicBool::new(false));
        let (pool, counters) = (self.pool.subscribe(), Arc::clone(&self.counters));
        let (flag, changed) = (Arc::clone(&open), Arc::clone(&self.changed));
        let carrier = Arc::clone(&self.carrier);
        let task = async move {
            let listener = open_port(address).await;
            flag.store(true, Relaxed);
            changed.notify_one();
            accept(listener, pool, counters, carrier).await;
        };
        Door { address, open, _task: Task::on(self.carrier.workers.next(), task) }
    }

    pub(crate) fn status(&self) -> status::Listener {
        let open = self.doors.values().filter(|door| door.open.load(Relaxed));
        status::Listener {
            name: self.config.name.clone(),
            listening: open.map(|door| door.address).collect(),
            accepted: self.counters.accepted.load(Relaxed),
            unserved: self.counters.unserved.load(Relaxed),
            retries: self.counters.retries.load(Relaxed),
            hedges: self.counters.hedges.load(Relaxed),
            backends: self.pool.borrow().status(),
        }
    }
}

/// Tries until the port is free: an earlier edge may still be on its way out.
async fn open_port(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        let opened = kernel::stream::listen(address).and_then(|listener| {
            // Accepted connections inherit it.
            keep_alive(&listener);
            TcpListener::from_std(listener)
        });
        match opened {
            Ok(listener) => return listener,
            Err(error) if !told => {
                told = true;
                tracing::warn!(%address, %error, "cannot listen, will try again");
            }
            Err(_told) => {}
        }
        sleep(PAUSE).await;
    }
}

async fn accept(
    listener: TcpListener,
    pool: watch::Receiver<Arc<Pool>>,
    counters: Arc<Counters>,
    carrier: Arc<Carrier>,
) {
    loop {
        match listener.accept().await {
            Ok((client, _from)) => {
                counters.accepted.fetch_add(1, Relaxed);
                let pool = Arc::clone(&pool.borrow());
                let Some(permit) = carrier.limits.connection().await else { return };
                let (counters, shared) = (Arc::clone(&counters), Arc::clone(&carrier));
                // Not owned by the listener: a connection outlives it.
                carrier.workers.carry(client, async move |client| {
                    serve(client, pool, counters, &shared.limits).await;
                    drop(permit);
                });
            }
            // The client gave up first, or descriptors ran out; both pass.
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(client: TcpStream, pool: Arc<Pool>, counters: Arc<Counters>, limits: &Limits) {
    let (connection, Effort { retries, hedges }) = dial(&pool, limits).await;
    // The connection must not keep the health checks of a replaced pool alive.
    drop(pool);
    counters.retries.fetch_add(retries, Relaxed);
    counters.hedges.fetch_add(hedges, Relaxed);
    let Some((lease, backend)) = connection else {
        counters.unserved.fetch_add(1, Relaxed);
        relay::reset(&client);
        return;
    };
    lease.opened();
    // The client's side has it from its listener.
    keep_alive(&backend);
    let count = |way, octets| {
        let counter = if way == Way::There { &lease.received } else { &lease.sent };
        counter.fetch_add(octets, Relaxed);
    };
    if relay::relay(&client, &backend, limits, count).await.is_err() {
        relay::reset(&client);
        relay::reset(&backend);
    }
}

/// Fails only on a connection that is already gone, which the relay finds out.
fn keep_alive(socket: &impl AsFd) {
    let (idle, interval, count) = KEEPALIVE;
    kernel::stream::set_keepalive(socket, idle, interval, count).ok();
}
