//! Writes on their way to the disk: one thread, and one sync for all that came while the last one took its time.
//!
//! ```text
//!   registry, under its lock ──batch──► queue ──all that is there──► one transaction ──► told: saved up to N
//! ```
//!
//! Nobody is answered, and no watcher hears of a write, before it is saved.

use super::disk::{Disk, DiskError, Kept};
use super::{Key, Kind};
use bytes::Bytes;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks for room on a full disk.
const PAUSE: Duration = Duration::from_millis(500);

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
    Until(Mark),
    /// It has no room for more, for this reason. What the server has in memory beyond the mark is void.
    Full(Mark, String),
    /// It took no more, for this reason; what the server has in memory beyond is void.
    Failed(String),
}

/// A write, by its number and the run it was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Goes up whenever memory is thrown away and read from the disk anew: then numbers of writes come again.
    pub(crate) run: u64,
    pub(crate) revision: u64,
}

impl Saved {
    /// How often memory was read anew; none: never again.
    pub(crate) fn run(&self) -> Option<u64> {
        match self {
            Self::Until(mark) | Self::Full(mark, _) => Some(mark.run),
            Self::Failed(_) => None,
        }
    }
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
    /// Starts the thread; `heed` hears of each batch that was saved, after [`Self::saved`] says so. `begin_anew` makes
    /// memory what is on the disk, and calls what it is given, which drops all that is queued, while nobody writes.
    pub(crate) fn start(
        disk: Disk,
        revision: u64,
        heed: impl Fn(&Batch) + Send + 'static,
        begin_anew: impl Fn(Kept, &dyn Fn()) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, batches) = channel();
        let mark = Mark { run: 0, revision };
        let (tell, saved) = watch::channel(Saved::Until(mark));
        let keeper = Keeper { queue: batches, tell, mark, heed, begin_anew };
        let keep = move || keeper.keep(disk);
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

/// The thread's own.
struct Keeper<H, B> {
    queue: Receiver<Batch>,
    tell: watch::Sender<Saved>,
    mark: Mark,
    heed: H,
    begin_anew: B,
}

impl<H: Fn(&Batch), B: Fn(Kept, &dyn Fn())> Keeper<H, B> {
    /// Everything that waits goes into one transaction, however much that is: a queue is never longer than there are
    /// clients, since each waits for its answer.
    fn keep(mut self, mut disk: Disk) {
        while let Ok(first) = self.queue.recv() {
            let mut batches = vec![first];
            batches.extend(self.queue.try_iter());
            match disk.write(&batches) {
                Ok(()) => self.told(&batches),
                Err(error) if error.is_full() => match self.wait_for_room(disk, &error) {
                    Some(again) => disk = again,
                    None => return,
                },
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn told(&mut self, batches: &[Batch]) {
        if let Some(last) = batches.last() {
            self.mark.revision = last.revision;
            self.tell.send_replace(Saved::Until(self.mark));
        }
        batches.iter().for_each(&self.heed);
    }

    fn fail(&self, error: &DiskError) {
        let why = in_full(error);
        tracing::error!(error = why, "the store takes no more writes; start the server again");
        self.tell.send_replace(Saved::Failed(why));
    }

    /// Goes back to what is on the disk, and comes back when that has room; none: that cannot be, or the server ends.
    fn wait_for_room(&mut self, disk: Disk, error: &DiskError) -> Option<Disk> {
        let why = in_full(error);
        tracing::error!(error = why, "the disk is full: writes are refused until there is room");
        // Who waits for his write is told that it is not done.
        self.tell.send_replace(Saved::Full(self.mark, why.clone()));
        let directory = disk.directory().to_owned();
        drop(disk);
        let opened = self.until(|| Disk::open(&directory))?;
        let kept = match opened.load() {
            Ok(kept) => kept,
            Err(error) => {
                self.fail(&error);
                return None;
            }
        };
        self.mark = Mark { run: self.mark.run + 1, revision: kept.revision };
        (self.begin_anew)(kept, &|| self.queue.try_iter().for_each(drop));
        self.tell.send_replace(Saved::Full(self.mark, why));
        self.until(|| opened.try_room())?;
        tracing::info!("the disk has room again: writes go on");
        self.tell.send_replace(Saved::Until(self.mark));
        Some(opened)
    }

    /// Tries something as long as there is no room for it.
    fn until<T>(&self, mut attempt: impl FnMut() -> Result<T, DiskError>) -> Option<T> {
        loop {
            match attempt() {
                Ok(done) => return Some(done),
                Err(error) if error.is_full() => {}
                Err(error) => {
                    self.fail(&error);
                    return None;
                }
            }
            if self.tell.is_closed() {
                return None;
            }
            thread::sleep(PAUSE);
        }
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
