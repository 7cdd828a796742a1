//! Input and terminals of containers that people talk to: what [`crate::console`] holds is made here.

use super::Error;
use super::container::OWN_PROGRAM;
use crate::console::{Manner, SUBCOMMAND, reach};
use kernel::process::Process;
use kernel::spawn::{Place, spawn};
use kernel::terminal::Terminal;
use serde_json::Value;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How and where a container is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Console {
    pub(super) manner: Manner,
    pub(super) socket: PathBuf,
}

/// As the object has it; none where nobody can talk to the container.
pub(super) fn manner(container: &Value) -> Option<Manner> {
    let wants = |field: &str| container[field] == true;
    let manner = Manner { input: wants("stdin"), once: wants("stdinOnce"), terminal: wants("tty") };
    (manner.input || manner.terminal).then_some(manner)
}

impl Console {
    /// Gives the container its input, and with a terminal its output too. Returns who holds the other end.
    pub(super) fn attach(&self, container: &mut Command, log: &File) -> Result<Process, Error> {
        let listener = self.listen().map_err(Error::file("listen on", &self.socket))?;
        let failed = |what: &'static str| Error::file("open", Path::new(what));
        let copy = |end: &OwnedFd| end.try_clone().map_err(failed("terminal"));
        let log = log.try_clone().map_err(failed("log"))?;
        let end = if self.manner.terminal {
            let Terminal { front, back } = Terminal::open()?;
            container.stdin(copy(&back)?).stdout(copy(&back)?).stderr(back);
            front
        } else {
            let (input, end) = std::io::pipe().map_err(failed("pipe"))?;
            container.stdin(input);
            end.into()
        };
        let mut holder = Command::new(OWN_PROGRAM);
        holder.arg0("podway").arg(SUBCOMMAND).args(self.manner.arguments());
        holder.stdin(OwnedFd::from(listener)).stdout(end).stderr(Stdio::from(log));
        holder.process_group(0);
        Ok(spawn(holder, Place::default())?)
    }

    fn listen(&self) -> std::io::Result<UnixListener> {
        if let Some(directory) = self.socket.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // That of an earlier run of the container.
        std::fs::remove_file(&self.socket).ok();
        reach(&self.socket, |path| UnixListener::bind(path))
    }
}
