//! The agent's end of the conversation with the process that carries the connections, which it starts where there is
//! none.

use super::doors::Doors;
use super::message::{self, Counts, Done, Greeting, LANGUAGE, NAME, Request, State};
use super::server;
use kernel::spawn::{Place, spawn};
use relay::Workers;
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The subcommand of `podway` that runs [`server::serve`].
pub const SUBCOMMAND: &str = "relay";
/// How long the process may take to start.
const BIRTH: Duration = Duration::from_secs(10);
/// Between knocks: nothing tells of a process that begins to listen.
const KNOCK: Duration = Duration::from_millis(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who carries the connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Carrier {
    /// A thread of this process: connections end with it.
    #[default]
    Thread,
    /// A process of its own, of the same program, which outlives this one.
    Process,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// Ends with the process, and has no other use.
    lifeline: Option<UnixStream>,
    carrier: Carrier,
}

impl Connection {
    /// To the process that is there, or to a new one: also where the one that is there is of another version and was
    /// started by an agent.
    pub(super) fn open(carrier: Carrier) -> io::Result<Self> {
        if carrier == Carrier::Thread {
            return Connection::to_thread();
        }
        match Connection::find()? {
            Some((connection, greeting)) if fits(&greeting) => return Ok(connection),
            Some((_, greeting)) if greeting.supervised => {
                let text = format!(
                    "the process of podway {} carries the connections and is not understood: update what starts `podway {SUBCOMMAND}`",
                    greeting.version
                );
                return Err(io::Error::other(text));
            }
            _ => start()?,
        }
        let deadline = Instant::now() + BIRTH;
        loop {
            match Connection::find() {
                Ok(Some((connection, greeting))) if fits(&greeting) => return Ok(connection),
                _ if Instant::now() < deadline => std::thread::sleep(KNOCK),
                Ok(_) => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// To the process that is there in the network namespace of the calling thread; `None`: there is none.
    pub(super) fn find() -> io::Result<Option<(Self, Greeting)>> {
        let connect = || Ok((greeted()?, greeted()?));
        match connect() {
            Ok(((stream, greeting), (lifeline, _))) => {
                let (lifeline, carrier) = (Some(lifeline), Carrier::Process);
                Ok(Some((Connection { stream, lifeline, carrier }, greeting)))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A thread that ends when the connection does.
    fn to_thread() -> io::Result<Self> {
        let descriptors = kernel::descriptors::raise_limit().map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = UnixStream::pair()?;
        ended.set_nonblocking(true)?;
        let listener = match kernel::local::listen(NAME) {
            // Who else has the name is asked by `podway show`.
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                kernel::local::listen(&format!("{NAME}/{:p}", &raw const end))?
            }
            outcome => outcome?,
        };
        listener.set_nonblocking(true)?;
        let name = listener.local_addr()?;
        std::thread::Builder::new().name(SUBCOMMAND.to_owned()).spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                let ended = tokio::net::UnixStream::from_std(ended)?;
                let end = async {
                    // It says nothing: readable is closed.
                    ended.readable().await.ok();
                };
                server::converse(listener, Doors::new(descriptors, Workers::here()), false, end)
                    .await;
                Ok::<_, io::Error>(())
            })
        })?;
        let mut stream = UnixStream::connect_addr(&name)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        message::read::<Greeting>(&mut stream)?;
        Ok(Connection { stream, lifeline: Some(end), carrier: Carrier::Thread })
    }

    /// Something that becomes readable when the process has ended; only the first caller gets it.
    pub(super) fn lifeline(&mut self) -> Option<UnixStream> {
        self.lifeline.take()
    }

    pub(super) fn state(&mut self) -> io::Result<State> {
        self.ask(&Request::Read)
    }

    pub(super) fn counts(&mut self) -> io::Result<Counts> {
        self.ask(&Request::Count)
    }

    pub(super) fn change(&mut self, change: message::Change) -> io::Result<Done> {
        self.ask(&Request::Change(change))
    }

    pub(super) fn probe(&mut self) -> io::Result<()> {
        self.ask(&Request::Probe)
    }

    pub(super) fn finish(&mut self, release: bool) -> io::Result<()> {
        self.ask(&Request::Finish { release })
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> io::Result<T> {
        message::write(&mut self.stream, request)?;
        message::read(&mut self.stream)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.carrier == Carrier::Thread {
            // It may have ended before.
            self.finish(false).ok();
        }
    }
}

/// A conversation that has begun.
fn greeted() -> io::Result<(UnixStream, Greeting)> {
    let mut stream = kernel::local::connect(NAME)?;
    if !kernel::local::is_trusted(&stream)? {
        return Err(io::Error::other("somebody else's process has taken the relay's name"));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let greeting = message::read(&mut stream)?;
    Ok((stream, greeting))
}

fn fits(greeting: &Greeting) -> bool {
    let same = greeting.version == env!("CARGO_PKG_VERSION");
    greeting.language == LANGUAGE && (same || greeting.supervised)
}

/// Nobody is there, or not any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    )
}

/// It takes the place of one that is there.
fn start() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("podway").arg(SUBCOMMAND).arg("--started-by-agent").stdin(Stdio::null());
    let place = Place { detached: true, ..Place::default() };
    spawn(command, place).map(drop).map_err(io::Error::other)
}
