//! The file system that a lab sees: the host's, but `/run`, `/proc` and `/sys` are its own.

use crate::{Result, layout};
use kernel::{Errno, mount};
use std::fs;
use std::path::Path;

/// Cuts the mounts off from the host's and makes the lab's own.
///
/// `/run` is shared on purpose: a pod's network namespace that is mounted there by its node is seen by all.
pub(super) fn make() -> Result<()> {
    mount::make_private(Path::new("/")).map_err(diagnosed)?;
    mount::proc(Path::new("/proc")).map_err(diagnosed)?;
    own_sysfs()?;
    let run = Path::new(layout::RUN);
    mount::tmpfs(run).map_err(diagnosed)?;
    mount::make_shared(run)?;
    for directory in [layout::NETNS, layout::LOGS, layout::NODES] {
        fs::create_dir_all(directory).map_err(crate::Error::file("create", directory))?;
    }
    Ok(())
}

/// Shows the devices of this network namespace in `/sys`.
/// Where the machine hides a part of its own `/sys` the kernel forbids it; then the host's stays, which nothing needs.
pub(crate) fn own_sysfs() -> Result<()> {
    match mount::sysfs(Path::new("/sys")) {
        Err(error) if matches!(error.errno(), Some(Errno::EPERM | Errno::EBUSY)) => Ok(()),
        other => Ok(other?),
    }
}

/// AppArmor lets a user make namespaces and then forbids to mount in them.
fn diagnosed(error: kernel::Error) -> kernel::Error {
    match error.errno() {
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => {
            kernel::Error::Prevented { obstacle: kernel::namespace::diagnose(errno), errno }
        }
        _ => error,
    }
}
