//! Hearing that a directory's entries changed.

use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

/// Becomes readable when a file in a directory was written to its end, moved in or out, or removed (inotify(7)).
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
        let changes =
            AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
        inotify.add_watch(directory, changes).map_err(failure)?;
        Ok(Watch(inotify))
    }

    /// Takes all notes of changes that are there.
    pub fn drain(&self) -> Result<()> {
        loop {
            match self.0.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => {
                    let object = "inotify".to_owned();
                    return Err(Error::System { operation: "read", object, errno });
                }
            }
        }
    }
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
