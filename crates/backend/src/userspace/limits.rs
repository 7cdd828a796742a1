//! How many connections there may be at once: as many as there are descriptors for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are left to the rest of the process.
const RESERVE: u64 = 128;
/// A connection is a socket to the client and one to the endpoint.
const CONNECTION: u32 = 2;
/// How often the same complaint is made.
const COMPLAINT: Duration = Duration::from_mins(1);

/// Descriptors that are held until it is dropped.
pub(super) type Permit = OwnedSemaphorePermit;

#[derive(Debug)]
pub(super) struct Limits {
    descriptors: u64,
    free: Arc<Semaphore>,
    since: Instant,
    /// Seconds since `since`, plus one; zero: none yet.
    complained: AtomicU64,
}

impl Limits {
    pub(super) fn new(descriptors: u64) -> Self {
        let free = usize::try_from(descriptors.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
        Limits {
            descriptors,
            free: Arc::new(Semaphore::new(free.min(Semaphore::MAX_PERMITS))),
            since: Instant::now(),
            complained: AtomicU64::new(0),
        }
    }

    /// Waits until an earlier connection has ended where there are too many; clients then queue in the kernel.
    pub(super) async fn connection(&self) -> Option<Permit> {
        match self.take(CONNECTION) {
            Some(permit) => Some(permit),
            None => {
                self.complain("new connections wait");
                self.free.clone().acquire_many_owned(CONNECTION).await.ok()
            }
        }
    }

    pub(super) fn session(&self) -> Option<Permit> {
        let permit = self.take(1);
        if permit.is_none() {
            self.complain("datagrams of new clients are lost");
        }
        permit
    }

    pub(super) fn door(&self) -> Option<Permit> {
        self.take(1)
    }

    /// A pipe, which is only worth it while there is plenty.
    pub(super) fn pipe(&self) -> Option<Permit> {
        let plenty = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        if plenty > self.descriptors / 4 { self.take(2) } else { None }
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
