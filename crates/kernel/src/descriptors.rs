//! How many files a process may have open.

use crate::{Error, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises this process's limit to the highest that it may have, and returns it.
pub fn raise_limit() -> Result<u64> {
    let failure = |errno| Error::System {
        operation: "raise the limit of open files",
        object: "RLIMIT_NOFILE".into(),
        errno,
    };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failure)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failure)?;
    }
    Ok(hard)
}
