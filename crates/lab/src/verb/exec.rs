//! `podway lab exec`: go to a place in a lab and run a program there.

use super::Running;
use crate::message::{Answer, Place, Request};
use crate::supervisor::own_program;
use crate::{Error, Result, Target, layout};
use kernel::namespace::{Kind, Namespace};
use kernel::process::{self, Signal};
use kernel::spawn::{self, spawn};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Set in the environment of a program that [`reenter`] started.
const INSIDE: &str = "PODWAY_INSIDE_LAB";

/// Runs `command` at `target` with the standard files and the terminal of this process, and waits for it.
///
/// It finds `PODWAY_LAB`, `KUBECONFIG` and, on a node or in a pod, `PODWAY_NODE` in its environment.
/// It ends with the lab, with its node, and with this process.
pub fn exec(name: &str, target: &Target, command: &[OsString]) -> Result<ExitStatus> {
    let (program, arguments) = command.split_first().ok_or(Error::NoCommand)?;
    let mut command = Command::new(program);
    command.args(arguments);
    visit(name, target, command)
}

/// Runs this very program again, with the same arguments, in the namespaces of the lab's supervisor, and waits for it.
///
/// There [`crate::layout`]'s paths hold, and [`kernel::namespace::in_netns`] leads from them into every node and pod.
pub fn reenter(name: &str) -> Result<ExitStatus> {
    let mut command = Command::new(own_program());
    command.args(std::env::args_os().skip(1)).env(INSIDE, name);
    visit(name, &Target::Underlay, command)
}

/// Whether this process was started by [`reenter`] for that lab.
pub fn is_inside(name: &str) -> bool {
    std::env::var_os(INSIDE).is_some_and(|inside| inside == name)
}

fn visit(name: &str, target: &Target, mut command: Command) -> Result<ExitStatus> {
    let lab = Running::find(name)?;
    let Answer::Place(place) = lab.ask(&Request::Locate(target.clone()))? else {
        return Err(lab.strange());
    };
    command
        .env("PODWAY_LAB", name)
        .env("KUBECONFIG", layout::KUBECONFIG)
        .env("PATH", search_path());
    command.env_remove("PODWAY_SERVER");
    match &place.node {
        Some(node) => command.env("PODWAY_NODE", node),
        None => command.env_remove("PODWAY_NODE"),
    };
    let program = PathBuf::from(command.get_program());
    let at = spawn::Place {
        enter: namespaces(&lab, &place)?,
        // `/sys` of the supervisor and of a node shows their own devices; the other places have none of their own.
        make: if shares_sysfs(target) { vec![] } else { vec![Kind::Mount] },
        sysfs: true,
        sole_user: has_one_user(&lab),
        death_signal: Some(Signal::SIGHUP),
        directory: std::env::current_dir().ok(),
        ..spawn::Place::default()
    };
    let visitor = spawn(command, at).map_err(|error| match error {
        kernel::Error::File { operation: "start", source, .. } => {
            Error::Program { program, source }
        }
        error => error.into(),
    })?;
    process::ignore_interrupts();
    Ok(visitor.reap()?)
}

/// As in the user namespace that `lab up` makes for an ordinary user.
fn has_one_user(lab: &Running) -> bool {
    let setgroups = format!("/proc/{}/setgroups", lab.supervisor.pid());
    std::fs::read_to_string(setgroups).is_ok_and(|word| word.trim() == "deny")
}

/// With the directory of this program at its end, so that `podway show` works in the lab.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    let program = own_program();
    if let Some(directory) = program.parent().filter(|it| !it.as_os_str().is_empty()) {
        path.push(":");
        path.push(directory);
    }
    path
}

fn shares_sysfs(target: &Target) -> bool {
    matches!(target, Target::Underlay | Target::Node(_))
}

/// The user namespace first, where it is not ours already: it gives the rights for the others.
fn namespaces(lab: &Running, place: &Place) -> Result<Vec<Namespace>> {
    let supervisor = lab.supervisor.pid();
    let host = Path::new("/proc");
    let user = Namespace::of(Kind::User, host, supervisor)?;
    let foreign = !user.is(&Namespace::current(Kind::User)?);
    let (proc, first) = match place.init {
        Some(init) => (lab.path("/proc"), init),
        None => (host.to_owned(), supervisor),
    };
    let mut enter: Vec<Namespace> = foreign.then_some(user).into_iter().collect();
    for kind in [Kind::Mount, Kind::Pid, Kind::Uts, Kind::Ipc] {
        enter.push(Namespace::of(kind, &proc, first)?);
    }
    enter.push(match &place.netns {
        Some(netns) => Namespace::open(Kind::Net, &lab.path(netns))?,
        None => Namespace::of(Kind::Net, host, supervisor)?,
    });
    Ok(enter)
}
