//! Kernel parameters of the current network namespace, as files below `/proc/sys`.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The value of `path`, for example `net/ipv4/ip_forward`, without the final newline.
pub fn read(path: &str) -> Result<String> {
    let file = file(path);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(Error::File { operation: "read", path: file, source }),
    }
}

/// Sets `path`, for example `net/ipv4/ip_forward`, to `value`.
pub fn write(path: &str, value: &str) -> Result<()> {
    let file = file(path);
    std::fs::write(&file, value).map_err(|source| Error::File {
        operation: "write",
        path: file,
        source,
    })
}

fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}
