//! Objects in a file, by redb.
//!
//! ```text
//!   objects   kind . namespace . name → JSON
//!   latest    kind → number of its last write, also where that removed the object
//!   numbers   format │ first: before the first write │ revision: of the last write
//!   texts     what else has to outlive the server: its credentials
//! ```
//!
//! Kinds are named as the API's paths name them: `pods`, `deployments.apps`.

use super::{Batch, Key};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const OBJECTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("objects");
const LATEST: TableDefinition<'_, &str, u64> = TableDefinition::new("latest");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");

/// What the tables look like. A later Podway reads this one too, or says that it does not.
const FORMAT: u64 = 1;
const FILE: &str = "store.redb";
/// How redb's files begin.
const MAGIC: &[u8] = b"redb";
/// Objects are in memory already: redb needs pages only while it writes.
const CACHE: usize = 4 << 20;

/// Why a store on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{} is in use by another server: end that one, or choose another directory", path.display())]
    Busy { path: PathBuf },
    #[error("{} is not a store of Podway's: move it away, or choose another directory", path.display())]
    Foreign { path: PathBuf },
    #[error(
        "{} has format {found}, and this Podway knows no format after {FORMAT}: use the Podway that wrote it, or choose another directory",
        path.display()
    )]
    Newer { path: PathBuf, found: u64 },
    #[error("{} is damaged: bring back a copy of it, or move it away and begin anew", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DiskError {
    /// Whether there is no room, which may come back.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::File { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// A store's file, open for one server.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    database: Database,
}

/// All that a file holds.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The number before the first write.
    pub(crate) first: u64,
    /// The number of the last write.
    pub(crate) revision: u64,
    /// By kind: the number of its last write, and its objects.
    pub(crate) latest: BTreeMap<String, u64>,
    pub(crate) objects: BTreeMap<String, Vec<(Key, Bytes)>>,
}

impl Disk {
    /// Opens the store in this directory; makes the directory and an empty store where there is none.
    ///
    /// # Errors
    /// Where the file is somebody else's, of a later format, damaged, in use, or cannot be made.
    pub fn open(directory: &Path) -> Result<Self, DiskError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(file("create", directory))?;
        let path = directory.join(FILE);
        if !path.try_exists().map_err(file("open", &path))? {
            found(directory, &path)?;
        }
        check_magic(&path)?;
        let disk = Self { database: open(&path)?, path };
        disk.check_format()?;
        Ok(disk)
    }

    /// Whether the file is of a format that is known here.
    fn check_format(&self) -> Result<(), DiskError> {
        let path = || self.path.clone();
        let format = match self.number("format") {
            Err(redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => None,
            other => other.map_err(|source| self.damaged(source))?,
        };
        match format {
            Some(1..=FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(DiskError::Newer { path: path(), found }),
            _ => Err(DiskError::Foreign { path: path() }),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, redb::Error> {
        let table = self.database.begin_read()?.open_table(NUMBERS)?;
        Ok(table.get(name)?.map(|it| it.value()))
    }

    /// Everything in the file.
    pub(crate) fn load(&self) -> Result<Kept, DiskError> {
        self.read_all().map_err(|source| self.damaged(source))
    }

    fn read_all(&self) -> Result<Kept, redb::Error> {
        let mut kept = Kept {
            first: self.number("first")?.unwrap_or(0),
            revision: self.number("revision")?.unwrap_or(0),
            ..Kept::default()
        };
        let reading = self.database.begin_read()?;
        for row in reading.open_table(LATEST)?.iter()? {
            let (kind, latest) = row?;
            kept.latest.insert(kind.value().to_owned(), latest.value());
        }
        for row in reading.open_table(OBJECTS)?.iter()? {
            let (place, json) = row?;
            let (kind, namespace, name) = place.value();
            let object = (Key::new(namespace, name), Bytes::copy_from_slice(json.value()));
            match kept.objects.get_mut(kind) {
                Some(objects) => objects.push(object),
                None => drop(kept.objects.insert(kind.to_owned(), vec![object])),
            }
        }
        Ok(kept)
    }

    /// Notes where the numbers of an empty store begin.
    pub(crate) fn begin(&self, first: u64) -> Result<(), DiskError> {
        let begin = || -> Result<(), redb::Error> {
            let writing = self.database.begin_write()?;
            writing.open_table(NUMBERS)?.insert("first", first)?;
            writing.open_table(NUMBERS)?.insert("revision", first)?;
            Ok(writing.commit()?)
        };
        begin().map_err(|source| self.damaged(source))
    }

    /// Writes all batches or none; when this returns they are on the disk.
    pub(crate) fn write(&self, batches: &[Batch]) -> Result<(), DiskError> {
        self.write_all(batches).map_err(|source| self.damaged(source))
    }

    fn write_all(&self, batches: &[Batch]) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        {
            let mut objects = writing.open_table(OBJECTS)?;
            let mut latest = writing.open_table(LATEST)?;
            for row in batches.iter().flat_map(|batch| &batch.rows) {
                let kind = row.kind.resource().qualified();
                let place = (kind.as_str(), row.key.namespace.as_str(), row.key.name.as_str());
                match &row.json {
                    Some(json) => drop(objects.insert(place, json.as_ref())?),
                    None => drop(objects.remove(place)?),
                }
                latest.insert(kind.as_str(), row.revision)?;
            }
            if let Some(last) = batches.last() {
                writing.open_table(NUMBERS)?.insert("revision", last.revision)?;
            }
        }
        Ok(writing.commit()?)
    }

    /// A text that was kept under this name.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, DiskError> {
        let read = || -> Result<Option<String>, redb::Error> {
            let table = self.database.begin_read()?.open_table(TEXTS)?;
            Ok(table.get(name)?.map(|it| it.value().to_owned()))
        };
        read().map_err(|source| self.damaged(source))
    }

    pub(crate) fn keep_text(&self, name: &str, text: &str) -> Result<(), DiskError> {
        let write = || -> Result<(), redb::Error> {
            let writing = self.database.begin_write()?;
            writing.open_table(TEXTS)?.insert(name, text)?;
            Ok(writing.commit()?)
        };
        write().map_err(|source| self.damaged(source))
    }

    /// The directory that it was opened in.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Whether the file could grow now: a database that once failed to has to be opened anew.
    pub(crate) fn try_room(&self) -> Result<(), DiskError> {
        const ROOM: usize = 1 << 20;
        let path = self.path.with_extension("room");
        let tried = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; ROOM])?;
            file.sync_all()
        });
        let removed = fs::remove_file(&path);
        tried.and(removed).map_err(file("use", &path))
    }

    /// What the disk does not do is not the file's fault.
    fn damaged(&self, source: redb::Error) -> DiskError {
        fault(&self.path, source)
    }
}

/// Makes the file of an empty store: under another name first, so that a file of this name is always whole.
fn found(directory: &Path, path: &Path) -> Result<(), DiskError> {
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", &unfinished)(error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    // It holds the keys of the API's authority.
    let made = options.write(true).create_new(true).mode(0o600).open(&unfinished);
    drop(made.map_err(file("create", &unfinished))?);
    let empty = || -> Result<(), redb::Error> {
        let database = Database::builder().set_cache_size(CACHE).create(&unfinished)?;
        let writing = database.begin_write()?;
        writing.open_table(NUMBERS)?.insert("format", FORMAT)?;
        writing.open_table(OBJECTS)?;
        writing.open_table(LATEST)?;
        writing.open_table(TEXTS)?;
        Ok(writing.commit()?)
    };
    empty().map_err(|source| fault(&unfinished, source))?;
    fs::rename(&unfinished, path).map_err(file("create", path))?;
    let named = File::open(directory).and_then(|it| it.sync_all());
    named.map_err(file("save", directory))
}

fn check_magic(path: &Path) -> Result<(), DiskError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    read.map_err(file("open", path))?;
    if start == MAGIC { Ok(()) } else { Err(DiskError::Foreign { path: path.to_owned() }) }
}

/// Opens the file and checks all of it, since a damaged one could otherwise do any harm later.
fn open(path: &Path) -> Result<Database, DiskError> {
    let mut builder = Database::builder();
    let builder = builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder.open(path).map_err(|error| fault(path, error.into()))
}

fn fault(path: &Path, error: redb::Error) -> DiskError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => DiskError::Busy { path },
        redb::Error::Io(source) => DiskError::File { operation: "use", path, source },
        error => DiskError::Damaged { path, source: Box::new(error) },
    }
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::File { operation, path, source }
}
