//! What is known of a lab from outside it: one directory with the supervisor's identity and its log.
//!
//! A record whose supervisor no longer lives is stale; whoever meets it clears it away.

use crate::{Error, Result};
use kernel::process::{Identity, Process};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const RECORD: &str = "record.json";
const LOG: &str = "supervisor.log";

/// All labs of one user.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    directory: PathBuf,
}

/// One lab's directory.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    pid: u32,
    started: u64,
    boot: String,
}

/// Held by whoever makes or clears a lab's directory.
pub(crate) struct Turn {
    _lock: File,
}

impl Shelf {
    /// `$XDG_RUNTIME_DIR/podway/labs`, or `/tmp/podway-UID/labs` where the user has no such directory.
    pub(crate) fn open() -> Result<Shelf> {
        let user = kernel::process::user();
        let home = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let home = match home.filter(|it| it.is_absolute() && owner(it) == Some(user)) {
            Some(runtime) => runtime.join("podway"),
            None => PathBuf::from(format!("/tmp/podway-{user}")),
        };
        let directory = home.join("labs");
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&directory);
        made.map_err(Error::file("create", &directory))?;
        match owner(&home) {
            Some(owner) if owner == user => Ok(Shelf { directory }),
            _ => {
                let source = std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "somebody else owns it",
                );
                Err(Error::File { operation: "use", path: home, source })
            }
        }
    }

    /// Waits until nobody else makes or clears a lab.
    pub(crate) fn turn(&self) -> Result<Turn> {
        let path = self.directory.join(".lock");
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(Turn { _lock: lock })
    }

    pub(crate) fn slot(&self, name: &str) -> Result<Slot> {
        let fits = !name.is_empty() && name.len() <= 63;
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !fits || !name.bytes().all(allowed) {
            return Err(Error::Name { name: name.to_owned() });
        }
        Ok(Slot { name: name.to_owned(), directory: self.directory.join(name) })
    }

    /// The names of labs that left a directory, running or not, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let entries =
            fs::read_dir(&self.directory).map_err(Error::file("read", &self.directory))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| self.slot(name).is_ok()).collect();
        names.sort();
        Ok(names)
    }
}

impl Slot {
    /// The lab's supervisor, if it lives.
    pub(crate) fn supervisor(&self) -> Result<Option<Process>> {
        let Ok(bytes) = fs::read(self.directory.join(RECORD)) else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Ok(None) };
        let Record { pid, started, boot } = record;
        Ok(Process::recall(&Identity { pid, started, boot })?)
    }

    /// An empty directory for a new lab, and the file for its supervisor's log.
    pub(crate) fn claim(&self, _turn: &Turn) -> Result<File> {
        self.clear(_turn)?;
        let made = DirBuilder::new().mode(0o700).create(&self.directory);
        made.map_err(Error::file("create", &self.directory))?;
        let log = self.directory.join(LOG);
        File::create(&log).map_err(Error::file("create", log))
    }

    pub(crate) fn note(&self, supervisor: &Process) -> Result<()> {
        let Identity { pid, started, boot } = supervisor.identity().clone();
        let bytes = serde_json::to_vec(&Record { pid, started, boot })
            .expect("numbers and text are always JSON");
        let (draft, path) = (self.directory.join("record.new"), self.directory.join(RECORD));
        fs::write(&draft, bytes).map_err(Error::file("write", &draft))?;
        fs::rename(&draft, &path).map_err(Error::file("write", path))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    pub(crate) fn clear(&self, _turn: &Turn) -> Result<()> {
        clear(&self.directory)
    }
}

/// Writes a file that nobody else may read.
pub(crate) fn keep(path: &Path, text: &str) -> Result<()> {
    let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(Error::file("write", path))
}

/// Removes a lab's directory. None there is no error.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { operation: "remove", path: directory.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn owner(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|it| it.uid())
}
