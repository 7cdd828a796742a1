//! What can go wrong on a node.

use std::path::{Path, PathBuf};

/// Nothing here ends the kubelet: it says so in the pod's status and tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Api(#[from] client::Error),
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: not JSON as expected", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: network configuration without {field}", path.display())]
    NetworkList { path: PathBuf, field: &'static str },
    #[error("network plug-in {plugin} is in none of the directories {path:?}")]
    NoPlugin { plugin: String, path: Vec<PathBuf> },
    /// The plug-in's own words.
    #[error("network plug-in {plugin}, {verb}: {message} (code {code})")]
    Plugin { plugin: String, verb: &'static str, code: u64, message: String },
    #[error("network plug-in {plugin} gave the pod no address")]
    NoAddress { plugin: String },
}

impl Error {
    pub(super) fn file(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { operation, path, source }
    }
}
