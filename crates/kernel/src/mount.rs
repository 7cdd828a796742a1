//! Mounts of the caller's mount namespace.
//!
//! Every function acts on the mount namespace of the calling thread.
//! Make a namespace of one's own first (see [`crate::spawn::Place`]) and cut its ties with [`make_private`].

use crate::{Error, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use std::path::Path;

/// A fresh, empty file system in memory at `target`; root writes, everybody reads.
pub fn tmpfs(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("mode=0755"))
}

/// The processes of the caller's own PID namespace at `target`.
///
/// In a user namespace the kernel allows this only where no part of the `/proc` already there is hidden.
pub fn proc(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), target, Some("proc"), flags, None)
}

/// The devices of the caller's own network namespace (`/sys/class/net`) at `target`.
pub fn sysfs(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), target, Some("sysfs"), flags, None)
}

/// Makes `source` visible at `target`, which must exist and be of the same sort (file or directory).
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None, MsFlags::MS_BIND, None)
}

/// Cuts `target` and everything mounted below it off from other mount namespaces, both ways.
pub fn make_private(target: &Path) -> Result<()> {
    mount(None::<&Path>, target, None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
}

/// Later mounts below `target` appear in every mount namespace copied from this one, and theirs here.
pub fn make_shared(target: &Path) -> Result<()> {
    mount(None::<&Path>, target, None, MsFlags::MS_SHARED, None)
}

/// Takes away what is mounted at `target`, at once, though it may still be in use.
/// Nothing mounted there is no error.
pub fn unmount(target: &Path) -> Result<()> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failure("unmount", target, errno)),
    }
}

fn mount<S: ?Sized + nix::NixPath>(
    source: Option<&S>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    nix::mount::mount(source, target, kind, flags, data)
        .map_err(|errno| failure("mount", target, errno))
}

fn failure(operation: &'static str, target: &Path, errno: Errno) -> Error {
    Error::System { operation, object: target.display().to_string(), errno }
}
