//! Writes on their way to the disk: one thread, and one sync for all that came while the last one took its time.
//!
//! ```text
//!   registry, under its lock ──batch──► queue ──all that is there──► one transaction ──► told: saved up to N
//! ```
//!
//! Nobody is answered, and no watcher hears of a write, before it is saved.

use super::disk::{Disk, DiskError};
use super::{Key, Kind};
use bytes::Bytes;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use tokio::sync::watch;

/// What one request changed: kept as a whole or not at all.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of its last write.
    pub(crate) revision: u64,
    pub(crate) rows: Vec<Row>,
}

/// One written object.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    /// None: it was removed.
    pub(crate) json: Option<Bytes>,
    pub(crate) revision: u64,
}

/// How far the disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saved {
    /// All writes up to this number are on it.
    Until(u64),
    /// It took no more, for this reason; what the server has in memory beyond is void.
    Failed(String),
}

/// The way to a disk.
#[derive(Debug)]
pub(crate) struct Journal {
    /// None once the journal ends.
    queue: Option<Sender<Batch>>,
    saved: watch::Receiver<Saved>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread; `heed` hears of each batch that was saved, after [`Self::saved`] says so.
    pub(crate) fn start(
        disk: Disk,
        revision: u64,
        heed: impl Fn(&Batch) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, batches) = channel();
        let (tell, saved) = watch::channel(Saved::Until(revision));
        let keep = move || keep(&disk, &batches, &tell, heed);
        let thread = thread::Builder::new().name("store".into()).spawn(keep)?;
        Ok(Self { queue: Some(queue), saved, thread: Some(thread) })
    }

    /// Queues what a request changed. Batches are saved in the order in which they come.
    pub(crate) fn append(&self, batch: Batch) {
        // A thread that has ended has said why.
        self.queue.as_ref().map(|queue| queue.send(batch).ok());
    }

    pub(crate) fn saved(&self) -> watch::Receiver<Saved> {
        self.saved.clone()
    }
}

impl Drop for Journal {
    /// Saves what is queued.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

/// Everything that waits goes into one transaction, however much that is: a queue is never longer than there are
/// clients, since each waits for its answer.
fn keep(disk: &Disk, queue: &Receiver<Batch>, tell: &watch::Sender<Saved>, heed: impl Fn(&Batch)) {
    while let Ok(first) = queue.recv() {
        let mut batches = vec![first];
        batches.extend(queue.try_iter());
        if let Err(error) = disk.write(&batches) {
            let why = in_full(&error);
            tracing::error!(error = why, "the store takes no more writes; start the server again");
            tell.send_replace(Saved::Failed(why));
            return;
        }
        if let Some(last) = batches.last() {
            tell.send_replace(Saved::Until(last.revision));
        }
        batches.iter().for_each(&heed);
    }
}

fn in_full(error: &DiskError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
