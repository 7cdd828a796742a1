//! What of a lab outlives it, if the user wants so: a directory with the API's store and the lab's network.

use crate::image::Images;
use crate::plan::Plan;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory, which is there.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) directory: PathBuf,
}

/// What the next lab needs to be the same: its objects speak of these addresses, kubeconfigs of this port.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) plan: Plan,
    /// Of the API on the machine's loopback.
    pub(crate) port: u16,
    #[serde(default)]
    pub(crate) images: Images,
}

impl Kept {
    pub(crate) fn open(directory: &Path) -> Result<Kept> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        let whole = made.and_then(|()| fs::canonicalize(directory));
        Ok(Kept { directory: whole.map_err(Error::file("create", directory))? })
    }

    fn file(&self) -> PathBuf {
        self.directory.join("network.json")
    }

    /// The network of the lab before; none: there was none.
    pub(crate) fn network(&self) -> Result<Option<Network>> {
        match fs::read(self.file()) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| Error::file("read", self.file())(source.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", self.file())(error)),
        }
    }

    pub(crate) fn keep(&self, network: &Network) -> Result<()> {
        let text = serde_json::to_string_pretty(network).unwrap_or_default();
        crate::record::keep(&self.file(), &text)
    }
}
