//! Hearing that a directory's entries changed.

use crate::process::Process;
use crate::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

/// Becomes readable when a file in a directory was made, written, moved in or out, or removed (inotify(7)).
///
/// It is non-blocking: wait for its descriptor (poll, or tokio's `AsyncFd`), then [`Watch::drain`] it.
#[derive(Debug)]
pub struct Watch(Inotify);

impl Watch {
    /// From here on no change of `directory` is missed. It must exist.
    pub fn new(directory: &Path) -> Result<Watch> {
        let failure = |errno| Error::System {
            operation: "watch directory",
            object: directory.display().to_string(),
            errno,
        };
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.map_err(failure)?;
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(directory, changes).map_err(failure)?;
        Ok(Watch(inotify))
    }

    /// Takes all notes of changes that are there; false: there was none.
    pub fn drain(&self) -> Result<bool> {
        let mut any = false;
        loop {
            match self.0.read_events() {
                Ok(_) => any = true,
                Err(Errno::EAGAIN) => return Ok(any),
                Err(errno) => return Err(failure("read", errno)),
            }
        }
    }

    /// Blocks until there are changes since the last look, whatever their number; false: `owner` has ended.
    pub fn wait(&self, owner: &Process) -> Result<bool> {
        let mut files = [self.as_fd(), owner.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
        while let Err(errno) = poll(&mut files, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                return Err(failure("wait for", errno));
            }
        }
        self.drain()
    }
}

fn failure(operation: &'static str, errno: Errno) -> Error {
    Error::System { operation, object: "inotify".to_owned(), errno }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
