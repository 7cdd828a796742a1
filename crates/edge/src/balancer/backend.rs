//! One back end of a listener: is it up, and what did it do.

use crate::{config, status};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::sync::mpsc;
use wire::machine::health::Event;

/// News for the health check that may wait; traffic never waits for it.
const NEWS: usize = 16;

#[derive(Debug)]
pub(super) struct Backend {
    pub(super) config: config::Backend,
    up: AtomicBool,
    active: AtomicU64,
    connections: AtomicU64,
    failures: AtomicU64,
    /// Octets from clients.
    pub(super) received: AtomicU64,
    /// Octets to clients.
    pub(super) sent: AtomicU64,
    news: mpsc::Sender<Event>,
}

impl Backend {
    /// The receiver is for the health check; without one, what traffic tells is dropped.
    pub(super) fn new(config: config::Backend) -> (Self, mpsc::Receiver<Event>) {
        let (news, receiver) = mpsc::channel(NEWS);
        let backend = Backend {
            config,
            up: AtomicBool::new(true),
            active: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            news,
        };
        (backend, receiver)
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Relaxed);
    }

    pub(super) fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    pub(super) fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.tell(Event::TrafficFailed);
    }

    pub(super) fn is_slow(&self) {
        self.tell(Event::TrafficSlow);
    }

    fn tell(&self, event: Event) {
        // A full queue already holds more bad news than the check needs.
        self.news.try_send(event).ok();
    }

    pub(super) fn status(&self) -> status::Backend {
        status::Backend {
            name: self.config.name.clone(),
            address: self.config.address,
            up: self.is_up(),
            active: self.active(),
            connections: self.connections.load(Relaxed),
            failures: self.failures.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
        }
    }
}

/// A connection to a back end, or an attempt at one; counted as active while it lives.
#[derive(Debug)]
pub(super) struct Lease(Arc<Backend>);

impl Lease {
    pub(super) fn new(backend: &Arc<Backend>) -> Self {
        backend.active.fetch_add(1, Relaxed);
        Lease(Arc::clone(backend))
    }
}

impl std::ops::Deref for Lease {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
