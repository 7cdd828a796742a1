//! `podway lab up`

use crate::message::{self, Order, Progress, Summary};
use crate::plan::{Plan, Wishes, plan};
use crate::record::{self, Shelf, Slot};
use crate::supervisor::{self, own_program};
use crate::verb::kubeconfig::kubeconfig;
use crate::{Error, Manifest, Result};
use kernel::namespace::Kind;
use kernel::process::{self, Process, Signal};
use kernel::spawn::{Place, spawn};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

/// What lab to make.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    pub manifests: Vec<Manifest>,
    pub wishes: Wishes,
    /// How long to wait for nodes and pods to become ready.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "default".to_owned(),
            manifests: Vec::new(),
            wishes: Wishes::default(),
            patience: Duration::from_secs(60),
        }
    }
}

/// Makes a lab and returns when it is ready, or when patience ends ([`Summary::missing`] says what is not ready).
///
/// The lab stays when this process ends. On an error, on Ctrl-C, or when this process is killed meanwhile,
/// nothing stays. `progress` is told each step in a few words. Do not call it on a tokio runtime.
pub fn up(options: Options, progress: impl FnMut(&str)) -> Result<Summary> {
    let plan = plan(&options.manifests, &options.wishes)?;
    let shelf = Shelf::open()?;
    let slot = shelf.slot(&options.name)?;
    let (supervisor, front) = start(&shelf, &slot)?;
    let outcome = order(&slot, &front, options, plan).and_then(|()| follow(front, progress));
    let outcome = outcome.and_then(|summary| {
        let (text, path) = kubeconfig(&slot.name)?;
        record::keep(&path, &text)?;
        Ok(summary)
    });
    outcome.map_err(|error| give_up(&shelf, &slot, &supervisor, error))
}

fn start(shelf: &Shelf, slot: &Slot) -> Result<(Process, UnixStream)> {
    let turn = shelf.turn()?;
    if slot.supervisor()?.is_some() {
        return Err(Error::Running { name: slot.name.clone() });
    }
    let log = slot.claim(&turn)?;
    let started = spawn_supervisor(&slot.name, &log).and_then(|(supervisor, front)| {
        slot.note(&supervisor)?;
        Ok((supervisor, front))
    });
    if started.is_err() {
        slot.clear(&turn)?;
    }
    started
}

fn spawn_supervisor(name: &str, log: &std::fs::File) -> Result<(Process, UnixStream)> {
    let copy = || log.try_clone().map_err(Error::file("open", "the supervisor's log"));
    let (ours, theirs) = UnixStream::pair().map_err(Error::file("open", "a socket"))?;
    // Made here, the listener belongs to the machine's network, where the supervisor has no place of its own.
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let outside = outside.map_err(Error::file("listen on", "the machine's loopback"))?;
    let mut command = Command::new(own_program());
    command.arg0("podway").arg(supervisor::SUBCOMMAND).env("PODWAY_LAB", name);
    command.stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(outside)).stderr(copy()?);
    let user = if process::may_administer()? { None } else { Some(Kind::User) };
    let others = [Kind::Mount, Kind::Pid, Kind::Net, Kind::Uts, Kind::Ipc];
    let make = user.into_iter().chain(others).collect();
    let supervisor = spawn(command, Place { make, detached: true, ..Place::default() })?;
    Ok((supervisor, ours))
}

fn order(slot: &Slot, front: &UnixStream, options: Options, plan: Plan) -> Result<()> {
    let order = Order {
        name: options.name,
        plan,
        manifests: options.manifests,
        directory: slot.directory.clone(),
        patience: options.patience.as_secs(),
    };
    let talk = |source| Error::Talk { name: slot.name.clone(), source };
    message::send(front, &order).map_err(talk)
}

/// Listens to the supervisor until the lab is ready.
fn follow(front: UnixStream, mut progress: impl FnMut(&str)) -> Result<Summary> {
    let failed =
        |source| Error::File { operation: "listen to", path: "the supervisor".into(), source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        front.set_nonblocking(true).map_err(failed)?;
        let front = tokio::net::UnixStream::from_std(front).map_err(failed)?;
        let mut lines = BufReader::new(front).lines();
        loop {
            let message = tokio::select! {
                message = next(&mut lines) => message,
                _ = tokio::signal::ctrl_c() => return Err(Error::Interrupted),
            };
            match message {
                Some(Progress::Step(text)) => progress(&text),
                Some(Progress::Ready(summary)) => return Ok(*summary),
                Some(Progress::Failed { class, text }) => {
                    return Err(Error::Failed { class, text });
                }
                None => return Err(Error::Vanished { log: String::new() }),
            }
        }
    })
}

async fn next(lines: &mut Lines<BufReader<tokio::net::UnixStream>>) -> Option<Progress> {
    let line = lines.next_line().await.ok()??;
    serde_json::from_str(&line).ok()
}

/// Waits for the end of the supervisor, which has noticed that nobody listens, and clears what it left.
fn give_up(shelf: &Shelf, slot: &Slot, supervisor: &Process, error: Error) -> Error {
    const PATIENCE: Duration = Duration::from_secs(5);
    let log = std::fs::read_to_string(slot.log()).unwrap_or_default();
    let ended = supervisor.wait(Some(PATIENCE)).and_then(|ended| match ended {
        true => Ok(true),
        false => supervisor.signal(Signal::SIGKILL).and_then(|()| supervisor.wait(None)),
    });
    let cleared = ended.map_err(Error::from).and_then(|_| slot.clear(&shelf.turn()?));
    match (error, cleared) {
        (Error::Vanished { .. }, _) => Error::Vanished { log },
        (error, Ok(())) => error,
        (_, Err(error)) => error,
    }
}
