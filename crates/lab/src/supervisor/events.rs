//! What a supervisor hears, from all sources, in one queue.

use crate::message::{Answer, Request};
use crate::{Error, Result};
use apiserver::containers::ContainerRequest;
use kernel::process;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot};

#[derive(Debug)]
pub(super) enum Event {
    /// A child, or an orphan that became one, has ended.
    Ended(u32),
    /// The API wants something of a container.
    Container(ContainerRequest),
    /// Somebody asks on the control socket.
    Asked(Request, oneshot::Sender<Answer>),
    /// The cluster came closer to being ready.
    Step(String),
    /// All that will become ready is; what is not is named.
    Ready { pods: usize, missing: Vec<String> },
    /// The process that ordered the lab has gone.
    FrontGone,
    /// The machine shuts down, or somebody wants the lab to end.
    Terminate,
}

/// Children that have ended, for those who wait for one: subscribe before it starts.
pub(super) type Ends = broadcast::Sender<(u32, ExitStatus)>;
pub(super) type Events = mpsc::UnboundedSender<Event>;

/// Starts to listen to children, signals and the front process.
pub(super) fn sources(
    front: &UnixStream,
) -> Result<(Events, Ends, mpsc::UnboundedReceiver<Event>)> {
    let (events, inbox) = mpsc::unbounded_channel();
    let ends = Ends::new(1024);
    let listen = |kind| signal(kind).map_err(Error::file("listen for", "signals"));
    let mut children = listen(SignalKind::child())?;
    let mut stops = [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];

    let (to, waiting) = (events.clone(), ends.clone());
    tokio::spawn(async move {
        loop {
            while let Ok(Some((pid, status))) = process::reap_any() {
                waiting.send((pid, status)).ok();
                to.send(Event::Ended(pid)).ok();
            }
            if children.recv().await.is_none() {
                break;
            }
        }
    });
    let to = events.clone();
    tokio::spawn(async move {
        let [terminate, interrupt] = &mut stops;
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        to.send(Event::Terminate).ok();
    });
    let mut front = watched(front).map_err(Error::file("watch", "the front process"))?;
    let to = events.clone();
    tokio::spawn(async move {
        // It says nothing after its order, so anything read is its end.
        front.read_u8().await.ok();
        to.send(Event::FrontGone).ok();
    });
    Ok((events, ends, inbox))
}

fn watched(front: &UnixStream) -> std::io::Result<tokio::net::UnixStream> {
    let front = front.try_clone()?;
    front.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(front)
}
