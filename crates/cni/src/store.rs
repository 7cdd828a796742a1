//! Reservations on disk: one file for each address, named by it, as host-local keeps them.

use crate::Error;
use crate::ipam::Pool;
use crate::request::Attachment;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) container: String,
    pub(crate) interface: String,
    /// Tells later whether the container still lives.
    pub(crate) netns: Option<PathBuf>,
}

impl Owner {
    pub(crate) fn is(&self, attachment: &Attachment) -> bool {
        self.container == attachment.container && self.interface == attachment.interface
    }

    /// `None` for what a call left that died in the middle of writing.
    fn parse(text: &str) -> Option<Owner> {
        let mut lines = text.lines();
        let container = lines.next().filter(|id| !id.is_empty())?.to_owned();
        let interface = lines.next()?.to_owned();
        Some(Owner { container, interface, netns: lines.next().map(PathBuf::from) })
    }

    fn write(&self) -> String {
        let netns = self.netns.as_deref().unwrap_or(Path::new(""));
        format!("{}\r\n{}\r\n{}", self.container, self.interface, netns.display())
    }
}

/// The reservations of one network on one node. While this value lives no other call changes them.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    _lock: File,
}

impl Store {
    /// Waits for calls that are at it; makes the directory where it is missing.
    pub(crate) fn open(directory: &Path) -> Result<Store, Error> {
        let path = directory.join("lock");
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let lock = open().or_else(|error| match error.kind() {
            ErrorKind::NotFound => std::fs::create_dir_all(directory).and_then(|()| open()),
            _ => Err(error),
        });
        let lock = lock.map_err(|source| failure("open", &path, source))?;
        lock.lock().map_err(|source| failure("lock", &path, source))?;
        Ok(Store { directory: directory.to_owned(), _lock: lock })
    }

    /// Every address that is reserved.
    pub(crate) fn taken(&self) -> Result<BTreeSet<IpAddr>, Error> {
        let failed = |source| failure("list", &self.directory, source);
        let mut taken = BTreeSet::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            taken.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
        }
        Ok(taken)
    }

    /// Every reservation; without an owner where nobody can have it.
    pub(crate) fn reservations(&self) -> Result<BTreeMap<IpAddr, Option<Owner>>, Error> {
        let taken = self.taken()?.into_iter();
        taken.map(|address| Ok((address, self.owner(address)?))).collect()
    }

    /// The addresses of one attachment.
    pub(crate) fn of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let mine = |(address, owner): (IpAddr, Option<Owner>)| {
            owner.is_some_and(|owner| owner.is(attachment)).then_some(address)
        };
        Ok(self.reservations()?.into_iter().filter_map(mine).collect())
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Result<Option<Owner>, Error> {
        let path = self.file(address);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Owner::parse(&text)),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failure("read", &path, source)),
        }
    }

    /// Reserves one address of each pool, or none at all.
    ///
    /// Where a pool is exhausted, reservations for which `is_gone` holds are given up.
    pub(crate) fn reserve(
        &self,
        pools: &[Pool],
        owner: &Owner,
        is_gone: impl Fn(&Owner) -> bool,
    ) -> Result<Vec<IpAddr>, Error> {
        let mut addresses = Vec::new();
        for pool in pools {
            let address = self.reserve_one(pool, owner, &is_gone).inspect_err(|_| {
                // The error that matters is the one at hand.
                self.release(&addresses).ok();
            })?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn reserve_one(
        &self,
        pool: &Pool,
        owner: &Owner,
        is_gone: impl Fn(&Owner) -> bool,
    ) -> Result<IpAddr, Error> {
        let last = self.last(pool);
        let mut taken = self.taken()?;
        let mut chosen = pool.choose(last, &taken);
        if chosen.is_none() {
            taken = self.collect(is_gone)?;
            chosen = pool.choose(last, &taken);
        }
        let address = chosen.ok_or_else(|| exhausted(pool, &taken))?;
        let path = self.file(address);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| failure("create", &path, source))?;
        file.write_all(owner.write().as_bytes())
            .map_err(|source| failure("write", &path, source))?;
        let path = self.last_file(pool);
        std::fs::write(&path, address.to_string())
            .map_err(|source| failure("write", &path, source))?;
        Ok(address)
    }

    /// Gives up every reservation whose owner is gone; returns what stays taken.
    pub(crate) fn collect(
        &self,
        is_gone: impl Fn(&Owner) -> bool,
    ) -> Result<BTreeSet<IpAddr>, Error> {
        let (gone, alive): (Vec<_>, Vec<_>) = self
            .reservations()?
            .into_iter()
            .partition(|(_, owner)| owner.as_ref().is_none_or(&is_gone));
        self.release(&gone.into_iter().map(|(address, _)| address).collect::<Vec<_>>())?;
        Ok(alive.into_iter().map(|(address, _)| address).collect())
    }

    pub(crate) fn release(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        for address in addresses {
            let path = self.file(*address);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(failure("remove", &path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The address that was reserved last; unreadable counts as none.
    pub(crate) fn last(&self, pool: &Pool) -> Option<IpAddr> {
        std::fs::read_to_string(self.last_file(pool)).ok()?.trim().parse().ok()
    }

    fn last_file(&self, pool: &Pool) -> PathBuf {
        let subnet = pool.subnet();
        self.directory.join(format!("last-{}-{}", subnet.addr(), subnet.prefix_len()))
    }

    fn file(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }
}

pub(crate) fn exhausted(pool: &Pool, taken: &BTreeSet<IpAddr>) -> Error {
    let taken = taken.iter().filter(|address| pool.subnet().contains(*address)).count();
    Error::Exhausted { pool: pool.subnet(), taken }
}

fn failure(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { operation, path: path.to_owned(), source }
}
