//! Threads that carry connections, each with an event loop of its own: what a connection needs is done where its news
//! comes in, and no thread is woken to do it for another.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

thread_local! {
    /// The number of this thread among the workers, if it is one.
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// They end with the process.
#[derive(Debug, Clone)]
pub struct Workers {
    all: Arc<[Worker]>,
    turn: Arc<AtomicUsize>,
}

/// One event loop.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    /// How many connections it carries.
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// One for each processor, in the network namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let number = std::thread::available_parallelism().map_or(1, NonZero::get);
        let all = (0..number).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Workers { all, turn: Arc::default() })
    }

    /// The event loop of the calling task, and no thread.
    pub fn here() -> Self {
        let worker = Worker { handle: Handle::current(), connections: Arc::default() };
        Workers { all: [worker].into(), turn: Arc::default() }
    }

    /// For what lasts, as a socket that listens: one after the other.
    pub fn next(&self) -> &Worker {
        &self.all[self.turn.fetch_add(1, Relaxed) % self.all.len()]
    }

    /// Carries a connection where there are fewest; here, where that makes no difference.
    pub fn carry<F>(
        &self,
        client: TcpStream,
        connection: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let (own, number) = (OWN.get(), self.all.len());
        let from_here = (0..number).map(|it| (own.unwrap_or(0) + it) % number);
        let fewest = |number: &usize| self.all[*number].connections.load(Relaxed);
        let chosen = from_here.min_by_key(fewest).unwrap_or(0);
        let carried = Carried::by(&self.all[chosen]);
        if Some(chosen) == own {
            drop(tokio::spawn(async move {
                connection(client).await;
                drop(carried);
            }));
            return;
        }
        // Its news are to come in there.
        let moved = client.into_std();
        drop(self.all[chosen].spawn(async move {
            match moved.and_then(TcpStream::from_std) {
                Ok(client) => connection(client).await,
                Err(error) => tracing::warn!(%error, "a connection is lost on its way"),
            }
            drop(carried);
        }));
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let work = move || {
            OWN.set(Some(number));
            runtime.block_on(std::future::pending::<()>());
        };
        std::thread::Builder::new().name(format!("relay-{number}")).spawn(work)?;
        Ok(Worker { handle, connections: Arc::default() })
    }

    /// Runs a task on it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(work)
    }

    /// Sockets that are made meanwhile give their news to it.
    pub fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        work()
    }
}

/// A connection that is carried.
struct Carried(Arc<AtomicUsize>);

impl Carried {
    fn by(worker: &Worker) -> Self {
        worker.connections.fetch_add(1, Relaxed);
        Carried(worker.connections.clone())
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
