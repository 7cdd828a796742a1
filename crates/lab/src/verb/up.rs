//! `podway lab up`

use crate::image::{Images, StandIn};
use crate::kept::{Kept, Network};
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
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

/// What lab to make.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    pub manifests: Vec<Manifest>,
    pub wishes: Wishes,
    /// What stands for which image, besides what does so in the lab that this one goes on with.
    pub images: Images,
    /// How long to wait for nodes and pods to become ready.
    pub patience: Duration,
    /// Where to keep the cluster's objects, so that a lab can go on with them; none: they go with the lab.
    pub data: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "default".to_owned(),
            manifests: Vec::new(),
            wishes: Wishes::default(),
            images: Images::default(),
            patience: Duration::from_secs(60),
            data: None,
        }
    }
}

/// Makes a lab and returns when it is ready, or when patience ends ([`Summary::missing`] says what is not ready).
///
/// The lab stays when this process ends. On an error, on Ctrl-C, or when this process is killed meanwhile,
/// nothing stays. `progress` is told each step in a few words. Do not call it on a tokio runtime.
pub fn up(options: Options, progress: impl FnMut(&str)) -> Result<Summary> {
    let kept = options.data.as_deref().map(Kept::open).transpose()?;
    let before = kept.as_ref().map(Kept::network).transpose()?.flatten();
    let plan = choose(&options, kept.as_ref(), before.as_ref())?;
    let images = checked(options.images)?
        .after(before.as_ref().map(|it| it.images.clone()).unwrap_or_default());
    let shelf = Shelf::open()?;
    let slot = shelf.slot(&options.name)?;
    let outside = listen(before.as_ref().map(|network| network.port))?;
    let port = outside.local_addr().map_err(Error::file("listen on", LOOPBACK))?.port();
    let (supervisor, front) = start(&shelf, &slot, outside)?;
    let order = Order {
        name: options.name,
        plan: plan.clone(),
        manifests: options.manifests,
        images: images.clone(),
        directory: slot.directory.clone(),
        patience: options.patience.as_secs(),
        data: kept.as_ref().map(|kept| kept.directory.clone()),
        resumes: before.is_some(),
    };
    let talk = |source| Error::Talk { name: slot.name.clone(), source };
    let outcome = message::send(&front, &order).map_err(talk);
    let outcome = outcome.and_then(|()| follow(front, progress)).and_then(|summary| {
        let (text, path) = kubeconfig(&slot.name)?;
        record::keep(&path, &text)?;
        kept.map_or(Ok(()), |kept| kept.keep(&Network { plan, port, images }))?;
        Ok(summary)
    });
    outcome.map_err(|error| give_up(&shelf, &slot, &supervisor, error))
}

fn checked(images: Images) -> Result<Images> {
    let stand_ins = images.stand_ins.into_iter().map(StandIn::check).collect::<Result<_, _>>()?;
    Ok(Images { stand_ins, ..images })
}

const LOOPBACK: &str = "the machine's loopback";

/// The network of the lab before, where there was one; manifests that come with it must want the same.
fn choose(options: &Options, kept: Option<&Kept>, before: Option<&Network>) -> Result<Plan> {
    if let Some(before) = before.filter(|_| options.manifests.is_empty()) {
        return Ok(before.plan.clone());
    }
    let plan = plan(&options.manifests, &options.wishes)?;
    match (kept, before) {
        (Some(kept), Some(before)) if before.plan != plan => {
            Err(Error::OtherNetwork { directory: kept.directory.clone() })
        }
        _ => Ok(plan),
    }
}

/// A listener on the machine's loopback, at the port of before if that is free. Made here, it belongs to the machine's
/// network, where the supervisor has no place of its own.
fn listen(before: Option<u16>) -> Result<TcpListener> {
    let at = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let again = before.and_then(|port| at(port).ok());
    again.map_or_else(|| at(0), Ok).map_err(Error::file("listen on", LOOPBACK))
}

fn start(shelf: &Shelf, slot: &Slot, outside: TcpListener) -> Result<(Process, UnixStream)> {
    let turn = shelf.turn()?;
    if slot.supervisor()?.is_some() {
        return Err(Error::Running { name: slot.name.clone() });
    }
    let log = slot.claim(&turn)?;
    let started = spawn_supervisor(&slot.name, &log, outside).and_then(|(supervisor, front)| {
        slot.note(&supervisor)?;
        Ok((supervisor, front))
    });
    if started.is_err() {
        slot.clear(&turn)?;
    }
    started
}

fn spawn_supervisor(
    name: &str,
    log: &std::fs::File,
    outside: TcpListener,
) -> Result<(Process, UnixStream)> {
    let copy = || log.try_clone().map_err(Error::file("open", "the supervisor's log"));
    let (ours, theirs) = UnixStream::pair().map_err(Error::file("open", "a socket"))?;
    let mut command = Command::new(own_program());
    command.arg0("podway").arg(supervisor::SUBCOMMAND).env("PODWAY_LAB", name);
    command.stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(outside)).stderr(copy()?);
    let user = if process::may_administer()? { None } else { Some(Kind::User) };
    let others = [Kind::Mount, Kind::Pid, Kind::Net, Kind::Uts, Kind::Ipc];
    let make = user.into_iter().chain(others).collect();
    let supervisor = spawn(command, Place { make, detached: true, ..Place::default() })?;
    Ok((supervisor, ours))
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
