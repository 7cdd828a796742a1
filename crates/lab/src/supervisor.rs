//! The first process of a lab: builds it, watches over it, and takes it away with itself.
//!
//! ```text
//!   front ──order──► build: file system, segment, machines, API, objects, nodes
//!                      │
//!                      ▼
//!   SIGCHLD ─────► ┌────────┐ ──► progress, summary ──► front (until ready)
//!   control socket │  loop  │ ──► answers
//!   SIGTERM ─────► └────────┘ ──► power switches of the nodes
//!   front gone ──►     │
//!                      ▼
//!              clear the directory, end: the kernel ends every process and namespace of the lab
//! ```

mod api;
mod attach;
mod cluster;
mod containers;
mod control;
mod events;
mod exec;
mod load;
mod log;
mod node;
mod programmed;
mod readiness;
mod underlay;
pub(crate) mod world;

use crate::message::{self, Order, Progress};
use crate::plan::Plan;
use crate::{Error, Result, record};
use apiserver::Disk;
use cluster::Cluster;
use events::Event;
use std::fs::File;
use std::io::BufReader;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hidden subcommand of `podway` that runs [`run`].
pub const SUBCOMMAND: &str = "lab-supervisor";

/// Runs a lab in the namespaces made for it, on the order that comes through standard input. Returns at its end.
pub fn run() -> Result<()> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let front = UnixStream::from(stdin.map_err(Error::file("open", "standard input"))?);
    let order = message::receive::<Order>(&mut BufReader::new(&front));
    let Some(order) = order.map_err(Error::file("read", "standard input"))? else {
        return Err(Error::Interrupted);
    };
    let traces = Traces::open(&order.directory)?;
    let outcome = supervise(&order, &front);
    traces.clear()?;
    if let Err(error) = &outcome {
        let (class, text) = (error.class(), crate::error::chain(error));
        tell(&front, &Progress::Failed { class, text });
    }
    outcome
}

fn supervise(order: &Order, front: &UnixStream) -> Result<()> {
    // Before the lab has a file system of its own, which may hide it.
    let disk = order.data.as_deref().map(Disk::open).transpose()?;
    world::make()?;
    step(front, format!("building {} nodes on {}", order.plan.nodes.len(), order.plan.underlay));
    build_segment(&order.plan)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(Error::file("start", "the runtime"))?;
    let outcome = runtime.block_on(run_cluster(order, disk, front));
    runtime.shutdown_background();
    outcome
}

/// A listener on the machine's loopback: what was made in a network namespace stays there, and the front process
/// handed it over as standard output, which a detached process keeps.
fn outside() -> Result<TcpListener> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned();
    Ok(TcpListener::from(stdout.map_err(Error::file("open", "standard output"))?))
}

/// The bridge first, then all machines at once.
fn build_segment(plan: &Plan) -> Result<()> {
    underlay::build(plan)?;
    let machines = node::all(plan);
    std::thread::scope(|scope| {
        let probe = scope.spawn(underlay::probe);
        let client = scope.spawn(|| underlay::client_machine(plan));
        let plugs = machines.iter().map(|node| scope.spawn(|| node.plug(plan)));
        let plugs: Vec<_> = plugs.collect();
        let mut works = [probe, client].into_iter().chain(plugs);
        works.try_for_each(|work| {
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

async fn run_cluster(order: &Order, disk: Option<Disk>, front: &UnixStream) -> Result<()> {
    let (events, ends, mut inbox) = events::sources(front)?;
    let mut cluster = Cluster::start(order, outside()?, disk, events.clone()).await?;
    step(front, format!("API listens on {}", cluster.server()));
    cluster.load(&order.manifests).await?;
    cluster.forget_the_past().await?;
    cluster.switch_on()?;
    step(front, "starting nodes and pods".to_owned());
    control::listen(events.clone())?;
    cluster.await_readiness(Duration::from_secs(order.patience), events);
    let mut ready = false;
    while let Some(event) = inbox.recv().await {
        match event {
            Event::Ended(pid) => cluster.child_ended(pid).await?,
            Event::Container(request) => cluster.serve_container(request, &ends),
            Event::Asked(request, reply) => {
                reply.send(control::answer(&mut cluster, request).await).ok();
            }
            Event::Step(text) => step(front, text),
            Event::Ready { pods, missing } => {
                ready = true;
                tell(front, &Progress::Ready(Box::new(cluster.summary(pods, missing))));
            }
            Event::FrontGone if ready => {}
            Event::FrontGone => return Err(Error::Interrupted),
            Event::Terminate => return Ok(()),
        }
    }
    Ok(())
}

fn step(front: &UnixStream, text: String) {
    tracing::info!("{text}");
    tell(front, &Progress::Step(text));
}

/// A front process that no longer listens is noticed elsewhere ([`Event::FrontGone`]).
fn tell(front: &UnixStream, progress: &Progress) {
    if let Err(error) = message::send(front, progress) {
        tracing::debug!(%error, "the front process does not listen");
    }
}

/// What the lab leaves outside, held open because its own `/run` may hide it.
struct Traces {
    parent: File,
    name: PathBuf,
}

impl Traces {
    fn open(directory: &Path) -> Result<Traces> {
        let parent = directory.parent().unwrap_or(Path::new("/"));
        let name = PathBuf::from(directory.file_name().unwrap_or_default());
        let parent = File::open(parent).map_err(Error::file("open", parent))?;
        Ok(Traces { parent, name })
    }

    fn clear(&self) -> Result<()> {
        let parent = PathBuf::from(format!("/proc/self/fd/{}", self.parent.as_raw_fd()));
        record::clear(&parent.join(&self.name))
    }
}

/// This very program, also where its file was replaced or is hidden.
pub(crate) fn own_program() -> PathBuf {
    const RUNNING: &str = "/proc/self/exe";
    let identity = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    match std::fs::read_link(RUNNING) {
        Ok(path) if identity(&path) == identity(Path::new(RUNNING)) => path,
        _ => PathBuf::from(RUNNING),
    }
}
