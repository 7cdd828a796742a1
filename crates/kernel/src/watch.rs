//! Hear of files that change.

use crate::process::Process;
use crate::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Files of one directory that are made or written.
#[derive(Debug)]
pub struct Changes {
    directory: PathBuf,
    events: Inotify,
}

impl Changes {
    pub fn of(directory: &Path) -> Result<Changes> {
        let failure = |errno| failure(directory, errno);
        let events =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failure)?;
        let wanted = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY;
        events.add_watch(directory, wanted).map_err(failure)?;
        Ok(Changes { directory: directory.to_owned(), events })
    }

    /// Waits for changes since the last call, whatever their number; false: `owner` has ended.
    pub fn wait(&self, owner: &Process) -> Result<bool> {
        let failure = |errno| failure(&self.directory, errno);
        let mut files =
            [self.events.as_fd(), owner.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
        while let Err(errno) = poll(&mut files, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                return Err(failure(errno));
            }
        }
        match self.events.read_events() {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(failure(errno)),
        }
    }
}

fn failure(directory: &Path, errno: Errno) -> Error {
    Error::System { operation: "watch", object: directory.display().to_string(), errno }
}
