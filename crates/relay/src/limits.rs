//! How many connections there may be at once: as many as there are descriptors for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are left to the rest of the process.
const RESERVE: u64 = 128;
/// A connection is a socket to the client and one to the server.
const CONNECTION: u32 = 2;
/// How often the same complaint is made.
const COMPLAINT: Duration = Duration::from_mins(1);

/// Descriptors that are held until it is dropped.
pub type Permit = OwnedSemaphorePermit;

/// What is left of a process's descriptors.
#[derive(Debug)]
pub struct Limits {
    descriptors: u64,
    free: Arc<Semaphore>,
    since: Instant,
    /// Seconds since `since`, plus one; zero: none yet.
    complained: AtomicU64,
    waited: AtomicU64,
    lost: AtomicU64,
}

impl Limits {
    /// `descriptors`: as many as this process may have (`RLIMIT_NOFILE`).
    pub fn new(descriptors: u64) -> Self {
        let free = usize::try_from(descriptors.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
        Limits {
            descriptors,
            free: Arc::new(Semaphore::new(free.min(Semaphore::MAX_PERMITS))),
            since: Instant::now(),
            complained: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// For a client and its server. Waits until an earlier connection has ended where there are too many: whoever
    /// accepts no more meanwhile leaves new clients in the kernel's queue.
    pub async fn connection(&self) -> Option<Permit> {
        match self.take(CONNECTION) {
            Some(permit) => Some(permit),
            None => {
                self.waited.fetch_add(1, Relaxed);
                self.complain("new connections wait");
                self.free.clone().acquire_many_owned(CONNECTION).await.ok()
            }
        }
    }

    /// For a conversation in datagrams, which is lost where there is none.
    pub fn session(&self) -> Option<Permit> {
        let permit = self.take(1);
        if permit.is_none() {
            self.lost.fetch_add(1, Relaxed);
            self.complain("datagrams of new clients are lost");
        }
        permit
    }

    /// For one more attempt at a server, beside others.
    pub fn attempt(&self) -> Option<Permit> {
        self.take(1)
    }

    /// For a socket that listens.
    pub fn door(&self) -> Option<Permit> {
        self.take(1)
    }

    /// For a pipe, which is only worth it while there is plenty.
    pub fn pipe(&self) -> Option<Permit> {
        let plenty = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        if plenty > self.descriptors / 4 { self.take(2) } else { None }
    }

    /// As many as this process may have.
    pub fn descriptors(&self) -> u64 {
        self.descriptors
    }

    /// How many of them are not spoken for.
    pub fn free(&self) -> u64 {
        u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX)
    }

    /// Connections that had to wait for others to end.
    pub fn waited(&self) -> u64 {
        self.waited.load(Relaxed)
    }

    /// Conversations in datagrams that could not begin.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    fn take(&self, descriptors: u32) -> Option<Permit> {
        self.free.clone().try_acquire_many_owned(descriptors).ok()
    }

    fn complain(&self, consequence: &str) {
        let now = self.since.elapsed().as_secs() + 1;
        let last = self.complained.load(Relaxed);
        if last == 0 || now - last >= COMPLAINT.as_secs() {
            self.complained.store(now, Relaxed);
            let limit = self.descriptors;
            tracing::error!(limit, "all descriptors are in use (RLIMIT_NOFILE): {consequence}");
        }
    }
}
