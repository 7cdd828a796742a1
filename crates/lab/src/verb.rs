//! The verbs of `podway lab`, one file each. Nothing is printed here.

pub(crate) mod down;
pub(crate) mod exec;
pub(crate) mod kubeconfig;
pub(crate) mod logs;
pub(crate) mod power;
pub(crate) mod up;

use crate::message::{self, Answer, Request};
use crate::record::{Shelf, Slot};
use crate::{Error, Result, layout};
use kernel::process::Process;
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A lab that runs, seen from outside.
pub(crate) struct Running {
    pub(crate) slot: Slot,
    pub(crate) supervisor: Process,
}

impl Running {
    /// The lab with that name. What is left of one that no longer runs is cleared away.
    pub(crate) fn find(name: &str) -> Result<Running> {
        let shelf = Shelf::open()?;
        let slot = shelf.slot(name)?;
        if let Some(supervisor) = slot.supervisor()? {
            return Ok(Running { slot, supervisor });
        }
        let turn = shelf.turn()?;
        match slot.supervisor()? {
            Some(supervisor) => Ok(Running { slot, supervisor }),
            None => {
                slot.clear(&turn)?;
                Err(Error::NotRunning { name: name.to_owned() })
            }
        }
    }

    /// A path inside the lab as this process can open it.
    pub(crate) fn path(&self, inside: impl Into<PathBuf>) -> PathBuf {
        let inside = inside.into();
        let root = PathBuf::from(format!("/proc/{}/root", self.supervisor.pid()));
        root.join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// Asks the supervisor and waits for its answer.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer> {
        self.judge(exchange(&self.slot.name, &self.path(layout::CONTROL), request)?)
    }

    fn judge(&self, answer: Answer) -> Result<Answer> {
        match answer {
            Answer::NoTarget(target) => {
                Err(Error::NoTarget { lab: self.slot.name.clone(), target })
            }
            Answer::Down(target) => Err(Error::Down { target }),
            Answer::Up(target) => Err(Error::Up { target }),
            Answer::Failed(text) => Err(Error::Failed { class: crate::Class::Failure, text }),
            answer => Ok(answer),
        }
    }

    pub(crate) fn strange(&self) -> Error {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it answered another question");
        Error::Talk { name: self.slot.name.clone(), source }
    }
}

/// One question and its answer over the supervisor's control socket.
pub(crate) fn exchange(lab: &str, socket: &Path, request: &Request) -> Result<Answer> {
    let name = || lab.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::Starting { name: name() }
        }
        _ => Error::Talk { name: name(), source },
    })?;
    let exchange = message::send(&stream, request)
        .and_then(|()| message::receive(&mut BufReader::new(&stream)));
    match exchange {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Error::NotRunning { name: name() }),
        Err(source) => Err(Error::Talk { name: name(), source }),
    }
}
