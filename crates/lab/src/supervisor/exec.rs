//! A command in a pod, with pipes or a terminal.
//!
//! ```text
//!   session.input ──► pipe ──► command ──► pipes ──► session.output
//!                     or one terminal for both; its end comes after all of its output
//! ```

use super::events::Ends;
use crate::image::of_image;
use crate::kubelet::volumes::Surface;
use crate::layout;
use apiserver::containers::{Container, Output, Refusal, Session};
use bytes::Bytes;
use kernel::namespace::{Kind, Namespace};
use kernel::process::{Process, Signal};
use kernel::spawn::{self, spawn};
use kernel::terminal::{self, Terminal};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of output read at once.
const PIECE: usize = 32 << 10;

type Outputs = mpsc::Sender<(Output, Bytes)>;

/// Starts a command in a container's pod; `init` is the first process of its node.
pub(super) fn start(
    container: &Container,
    init: u32,
    command: &[String],
    wants_terminal: bool,
    ends: &Ends,
) -> Result<Session, Refusal> {
    let place = place(container, init).map_err(|error| refusal(&error))?;
    let command = &*of_image(command.to_vec(), surface(container).program.as_deref());
    let ended = ends.subscribe();
    let (input, inputs) = mpsc::channel(8);
    let (outputs, output) = mpsc::channel(8);
    let (size, sizes) = mpsc::channel(8);
    let (told, end) = oneshot::channel();
    let mut carriers = JoinSet::new();
    let process = if wants_terminal {
        with_terminal(container, command, place, Ways { inputs, outputs, sizes }, &mut carriers)
    } else {
        with_pipes(container, command, place, inputs, outputs, &mut carriers)
    };
    let process = process.map_err(|error| refusal(&error))?;
    tokio::spawn(finish(process, carriers, ended, told));
    Ok(Session { input, output, size, end })
}

struct Ways {
    inputs: mpsc::Receiver<Bytes>,
    outputs: Outputs,
    sizes: mpsc::Receiver<(u16, u16)>,
}

fn refusal(error: &dyn std::error::Error) -> Refusal {
    Refusal(format!("cannot exec in the container: {}", crate::error::chain(error)))
}

/// The pod's network, and everything else of its node.
fn place(container: &Container, init: u32) -> kernel::Result<spawn::Place> {
    let proc = Path::new("/proc");
    let kinds = [Kind::Mount, Kind::Pid, Kind::Uts, Kind::Ipc];
    let of = kinds.into_iter().map(|kind| Namespace::of(kind, proc, init));
    let mut enter = of.collect::<kernel::Result<Vec<_>>>()?;
    let netns = layout::netns_of(&container.uid, &container.node);
    enter.push(Namespace::open(Kind::Net, &netns)?);
    let (make, sole_user) = (vec![Kind::Mount, Kind::Uts], is_sole_user());
    let surface = surface(container);
    let (directory, binds) = (Some(surface.directory), surface.mounts.binds()?);
    let hostname = surface.environment.into_iter().find(|(name, _)| name == "HOSTNAME");
    let hostname = hostname.map(|(_, name)| name);
    let place = spawn::Place { enter, make, binds, sole_user, directory, ..Default::default() };
    Ok(spawn::Place { sysfs: true, hostname, ..place })
}

fn surface(container: &Container) -> Surface {
    let root = layout::node_root(&container.node);
    Surface::read(&root, &container.uid, &container.name).unwrap_or_default()
}

/// As in the user namespace that `lab up` makes for an ordinary user.
fn is_sole_user() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny")
}

fn program(container: &Container, words: &[&str]) -> Command {
    let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.env("PATH", PATH).env("HOME", "/").env("HOSTNAME", &container.pod);
    command.envs(surface(container).environment);
    command
}

fn with_pipes(
    container: &Container,
    words: &[String],
    place: spawn::Place,
    inputs: mpsc::Receiver<Bytes>,
    outputs: Outputs,
    carriers: &mut JoinSet<()>,
) -> crate::Result<Process> {
    let failed = |source| crate::Error::File { operation: "open", path: "pipe".into(), source };
    let open = || -> io::Result<_> { Ok((io::pipe()?, io::pipe()?, io::pipe()?)) };
    let ((stdin, input), (output, stdout), (errors, stderr)) = open().map_err(failed)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = program(container, &words);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let process = spawn(command, place)?;
    let input = pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(failed)?;
    tokio::spawn(carry_in(inputs, input));
    for (kind, end) in [(Output::Standard, output), (Output::Error, errors)] {
        let end = pipe::Receiver::from_owned_fd(OwnedFd::from(end)).map_err(failed)?;
        carriers.spawn(carry_out(kind, end, outputs.clone()));
    }
    Ok(process)
}

/// setsid(1) makes the terminal the command's own, so that its keys reach it as signals.
fn with_terminal(
    container: &Container,
    words: &[String],
    place: spawn::Place,
    ways: Ways,
    carriers: &mut JoinSet<()>,
) -> crate::Result<Process> {
    let failed = |source| crate::Error::File { operation: "open", path: "terminal".into(), source };
    let Terminal { front, back } = Terminal::open()?;
    let copy = |end: &OwnedFd| end.try_clone().map_err(failed);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let setsid = [&["setsid", "--ctty", "--wait"], words.as_slice()].concat();
    let mut command = program(container, &setsid);
    command.env("TERM", "xterm");
    command.stdin(Stdio::from(copy(&back)?)).stdout(Stdio::from(copy(&back)?)).stderr(back);
    let process = spawn(command, place)?;
    let own = |end: OwnedFd| tokio::fs::File::from_std(File::from(end));
    let (reader, writer) = (own(copy(&front)?), own(copy(&front)?));
    carriers.spawn(carry_out(Output::Standard, reader, ways.outputs));
    tokio::spawn(carry_in(ways.inputs, writer));
    let mut sizes = ways.sizes;
    tokio::spawn(async move {
        while let Some((columns, rows)) = sizes.recv().await {
            if let Err(error) = terminal::resize(&front, columns, rows) {
                tracing::debug!(%error, "a terminal keeps its size");
            }
        }
    });
    Ok(process)
}

async fn carry_in(mut inputs: mpsc::Receiver<Bytes>, mut to: impl AsyncWrite + Unpin) {
    while let Some(piece) = inputs.recv().await {
        let written = to.write_all(&piece).await;
        if written.is_err() || to.flush().await.is_err() {
            // The command reads no more.
            return;
        }
    }
}

/// Until the end of the output, which is an error where it is a terminal's, or until nobody listens.
async fn carry_out(kind: Output, mut from: impl AsyncRead + Unpin, to: Outputs) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if to.send((kind, Bytes::copy_from_slice(&piece[..length]))).await.is_err() {
            return;
        }
    }
}

/// Tells the exit code after the last output; a command that nobody listens to any more is ended.
async fn finish(
    process: Process,
    mut carriers: JoinSet<()>,
    mut ended: tokio::sync::broadcast::Receiver<(u32, ExitStatus)>,
    mut told: oneshot::Sender<i32>,
) {
    let code = loop {
        tokio::select! {
            () = told.closed() => {
                if let Err(error) = process.signal(Signal::SIGKILL) {
                    tracing::warn!(%error, "a command cannot be ended");
                }
                return;
            }
            child = ended.recv() => match child {
                Ok((pid, status)) if pid == process.pid() => break code(status),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the end of a command was missed");
                    return;
                }
            }
        }
    };
    while carriers.join_next().await.is_some() {}
    // The client may have left at the same moment.
    told.send(code).ok();
}

/// As a shell tells it.
fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1)
}
