//! What a supervisor hears, from all sources, in one queue.

use crate::message::{Answer, Request};
use crate::{Error, Result};
use kernel::process;
use std::os::unix::net::UnixStream;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

#[derive(Debug)]
pub(super) enum Event {
    /// A child, or an orphan that became one, has ended.
    Ended(u32),
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

pub(super) type Events = mpsc::UnboundedSender<Event>;

/// Starts to listen to children, signals and the front process.
pub(super) fn sources(front: &UnixStream) -> Result<(Events, mpsc::UnboundedReceiver<Event>)> {
    let (events, inbox) = mpsc::unbounded_channel();
    let listen = |kind| signal(kind).map_err(Error::file("listen for", "signals"));
    let mut children = listen(SignalKind::child())?;
    let mut ends = [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];

    let to = events.clone();
    tokio::spawn(async move {
        loop {
            while let Ok(Some((pid, _))) = process::reap_any() {
                to.send(Event::Ended(pid)).ok();
            }
            if children.recv().await.is_none() {
                break;
            }
        }
    });
    let to = events.clone();
    tokio::spawn(async move {
        let [terminate, interrupt] = &mut ends;
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
    Ok((events, inbox))
}

fn watched(front: &UnixStream) -> std::io::Result<tokio::net::UnixStream> {
    let front = front.try_clone()?;
    front.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(front)
}
