//! The process that carries the connections: it serves what it is told to, by whichever agent there is.
//!
//! ```text
//!  agent ──┐ requests                    ┌─► doors: accept, choose, relay
//!  show  ──┼─────────► conversations ──► owner ◄── told to end
//!  a successor ──┘ ◄── state, sockets    └─► leaves: no new connections, the last one ends the process
//! ```
//!
//! It lives longer than the agents that come and go, and than its own place: a successor that asks for it gets
//! the sockets, and what waits in them.

use super::doors::Doors;
use super::message::{self, Greeting, LANGUAGE, LEAVING, NAME, Request, State};
use super::{addresses, connection};
use relay::Workers;
use serde::Serialize;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// How often the place is looked for while others are after it.
const ATTEMPTS: u32 = 10;

/// A request, and where its answer goes.
struct Asked {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

/// An answer in its frame, with the sockets that go with it.
struct Answer {
    frame: io::Result<Vec<u8>>,
    sockets: Vec<OwnedFd>,
    /// Dropped once the answer is out.
    out: Option<oneshot::Sender<()>>,
}

impl Answer {
    fn of(message: &impl Serialize) -> Self {
        Answer { frame: message::framed(message), sockets: Vec::new(), out: None }
    }
}

/// Whether new connections are still for this process.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    On,
    Over,
}

/// Carries connections in the network namespace of the calling thread until it is told to end, or another process has
/// taken its place, and then until the last connection has ended.
///
/// `supervised`: somebody else than an agent has started it.
pub async fn serve(supervised: bool, end: impl Future<Output = ()>) -> io::Result<()> {
    let descriptors = kernel::descriptors::raise_limit().map_err(io::Error::other)?;
    let mut doors = Doors::new(descriptors, Workers::start()?);
    let listener = take_place(&mut doors).await?;
    converse(listener, doors, supervised, end).await;
    Ok(())
}

/// Has the name in this network namespace, and whatever another process had that had it.
async fn take_place(doors: &mut Doors) -> io::Result<UnixListener> {
    let (listener, taken) = tokio::task::spawn_blocking(find_place).await??;
    if let Some((state, sockets)) = taken {
        let (fronts, number) = (state.fronts.len(), sockets.len());
        let done = doors.adopt(state, sockets);
        tracing::info!(fronts, sockets = number, opened = done.opened, "taken over");
    }
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// What another process had: what it served, and the sockets.
type Taken = (State, Vec<OwnedFd>);

/// The name is handed over with the rest: whoever connects to it meanwhile waits in it, and never finds nobody.
fn find_place() -> io::Result<(std::os::unix::net::UnixListener, Option<Taken>)> {
    let mut attempts = 0..ATTEMPTS;
    loop {
        match take_over() {
            Ok(Some((state, mut sockets))) => {
                let name = sockets.remove(0);
                return Ok((name.into(), Some((state, sockets))));
            }
            Ok(None) => {}
            // It has given its place to another one meanwhile.
            Err(error) if connection::is_gone(&error) && attempts.next().is_some() => continue,
            Err(error) => return Err(error),
        }
        match kernel::local::listen(NAME) {
            // Another one has come at the same time: it has nothing yet, but the name.
            Err(error) if error.kind() == ErrorKind::AddrInUse && attempts.next().is_some() => {}
            outcome => return Ok((outcome?, None)),
        }
    }
}

/// From the process that has the place; `None`: there is none. The first socket is the one that has the name.
fn take_over() -> io::Result<Option<Taken>> {
    let mut stream = match kernel::local::connect(NAME) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
        outcome => outcome?,
    };
    let greeting: Greeting = message::read(&mut stream)?;
    if greeting.language != LANGUAGE {
        // This much is the same in all languages.
        let version = greeting.version;
        tracing::warn!(version, "another process is not understood and told to leave");
        message::write(&mut stream, &Request::Finish { release: false })?;
        message::read::<()>(&mut stream)?;
        return Ok(None);
    }
    message::write(&mut stream, &Request::HandOver)?;
    let state: State = message::read(&mut stream)?;
    let sockets = kernel::local::receive(&stream, 1 + state.doors.len())?;
    Ok(Some((state, sockets)))
}

/// Answers on `listener` until its turn is over; then carries what there is to its end.
pub(super) async fn converse(
    listener: UnixListener,
    mut doors: Doors,
    supervised: bool,
    end: impl Future<Output = ()>,
) {
    let (sender, mut asked) = mpsc::channel(1);
    tokio::pin!(end);
    let mut leaving = None;
    loop {
        let due = doors.due();
        tokio::select! {
            () = until(due) => doors.cut(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(attend(stream, supervised, sender.clone()))),
                Err(error) => tracing::warn!(%error, "an agent is not heard"),
            },
            Some(Asked { request, answer }) = asked.recv() => {
                let releases = matches!(request, Request::Finish { release: true });
                let (mut reply, turn) = obey(&mut doors, &listener, request).await;
                if turn == Turn::On {
                    // Who asked may have gone.
                    answer.send(reply).ok();
                    continue;
                }
                drop(listener);
                if releases {
                    leaving = Some(Leaving::begin());
                }
                let (out, is_out) = oneshot::channel();
                reply.out = Some(out);
                answer.send(reply).ok();
                is_out.await.ok();
                break;
            }
            () = &mut end => {
                doors.close().await;
                break;
            }
        }
    }
    drop(asked);
    doors.carried_all().await;
    if let Some(leaving) = leaving {
        leaving.end();
    }
}

/// A process that leaves, by a name that others see as long as it does.
struct Leaving {
    name: String,
    listener: io::Result<std::os::unix::net::UnixListener>,
}

impl Leaving {
    fn begin() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{LEAVING}{}/{number}", std::process::id());
        Leaving { listener: kernel::local::listen(&name), name }
    }

    fn end(self) {
        drop(self.listener);
        if let Err(error) = release_unless_needed(&self.name) {
            tracing::warn!(%error, "addresses of Services stay");
        }
    }
}

/// The addresses that connections were made to are needed no more, unless somebody serves again or leaves later.
fn release_unless_needed(own_name: &str) -> Result<(), super::Error> {
    if connection::Connection::find()?.is_some() {
        return Ok(());
    }
    // The own name lives a little longer where a program is being started that has a copy of the socket.
    let leaving = kernel::local::names(LEAVING)?;
    if leaving.iter().all(|name| name == own_name) {
        addresses::release_all()?;
    }
    Ok(())
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn obey(doors: &mut Doors, name: &UnixListener, request: Request) -> (Answer, Turn) {
    match request {
        Request::Read => (Answer::of(&doors.state()), Turn::On),
        Request::Count => (Answer::of(&doors.counts()), Turn::On),
        Request::Change(change) => (Answer::of(&doors.change(change).await), Turn::On),
        Request::Probe => {
            doors.probe().await;
            (Answer::of(&()), Turn::On)
        }
        Request::Finish { .. } => {
            doors.close().await;
            (Answer::of(&()), Turn::Over)
        }
        Request::HandOver => match sockets(doors, name) {
            Ok(sockets) => {
                let answer = Answer { sockets, ..Answer::of(&doors.state()) };
                doors.leave();
                (answer, Turn::Over)
            }
            // No descriptors for copies: whoever asked hears nothing, and tries again.
            Err(error) => (Answer { frame: Err(error), ..Answer::of(&()) }, Turn::On),
        },
    }
}

/// Copies of all that a successor needs, the name first.
fn sockets(doors: &Doors, name: &UnixListener) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = vec![name.as_fd().try_clone_to_owned()?];
    sockets.extend(doors.sockets()?);
    Ok(sockets)
}

/// One who asks. Whoever listens for the end of this process hears of the end of its turn.
async fn attend(stream: UnixStream, supervised: bool, owner: mpsc::Sender<Asked>) {
    let over = owner.clone();
    tokio::select! {
        biased;
        outcome = answer(stream, supervised, owner) => match outcome {
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
                tracing::debug!(%error, "a conversation ended");
            }
            _ => {}
        },
        () = over.closed() => {}
    }
}

async fn answer(
    mut stream: UnixStream,
    supervised: bool,
    owner: mpsc::Sender<Asked>,
) -> io::Result<()> {
    if !kernel::local::is_trusted(&stream)? {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let greeting = Greeting { language: LANGUAGE, version, supervised };
    message::tell(&mut stream, &greeting).await?;
    loop {
        let request = message::hear(&mut stream).await?;
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::from(ErrorKind::BrokenPipe);
        owner.send(Asked { request, answer }).await.map_err(|_over| gone())?;
        let Answer { frame, sockets, out: _out } = answered.await.map_err(|_over| gone())?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, &frame?).await?;
        if !sockets.is_empty() {
            return give(stream, sockets).await;
        }
    }
}

async fn give(stream: UnixStream, sockets: Vec<OwnedFd>) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    tokio::task::spawn_blocking(move || kernel::local::send(&stream, &sockets)).await?
}
