//! The back ends that serve Services, as a closed set. A new one is a variant here, and an arm in each `match`.

use crate::iptables::{self, Variant};
use crate::{Served, ipvs, nft, userspace};
use kernel::netlink::{Changed, Socket};
use model::{Family, Scheduler};
pub use model::{ProxyMode as Mode, UnknownMode};
use program::{Change, Program};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// What back ends are told beside the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// For Services that do not say (`--ipvs-scheduler`); `None`: as the back end is used to.
    pub scheduler: Option<Scheduler>,
    pub userspace: userspace::Settings,
}

/// Why Services are not served as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this build has no proxy mode {mode}")]
    NotBuilt { mode: Mode },
    #[error(transparent)]
    Nft(#[from] nft::Error),
    #[error(transparent)]
    Iptables(#[from] iptables::Error),
    #[error(transparent)]
    Ipvs(#[from] ipvs::Error),
    #[error(transparent)]
    Userspace(#[from] userspace::Error),
}

/// What a change took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Pieces of configuration that were made, replaced or removed.
    pub pieces: usize,
    /// Atomic steps.
    pub transactions: usize,
}

impl From<nft::Applied> for Applied {
    fn from(applied: nft::Applied) -> Self {
        Applied { pieces: applied.chains + applied.elements, transactions: applied.transactions }
    }
}

impl From<iptables::Applied> for Applied {
    fn from(applied: iptables::Applied) -> Self {
        Applied { pieces: applied.chains + applied.entries, transactions: applied.tables }
    }
}

impl From<ipvs::Applied> for Applied {
    fn from(applied: ipvs::Applied) -> Self {
        let rules = Applied::from(applied.rules);
        Applied { pieces: rules.pieces + applied.servers + applied.addresses, ..rules }
    }
}

impl From<userspace::Applied> for Applied {
    fn from(applied: userspace::Applied) -> Self {
        let userspace::Applied { claimed, opened, changed, closed } = applied;
        Applied { pieces: claimed + opened + changed + closed, transactions: 0 }
    }
}

/// The door to the Services of the network namespace in which it was opened.
#[derive(Debug)]
pub enum Services {
    Nft(Box<nft::Backend>),
    Iptables(iptables::Backend),
    Ipvs(Box<ipvs::Backend>),
    Userspace(Box<userspace::Backend>),
}

impl Services {
    pub fn open(mode: Mode, settings: Settings) -> Result<Self, Error> {
        match mode {
            Mode::Nft => Ok(Services::Nft(Box::new(nft::Backend::open()?))),
            Mode::Iptables => Ok(Services::Iptables(iptables::Backend::open()?)),
            Mode::Ipvs => {
                let settings = settings.scheduler.map(ipvs::Settings::from).unwrap_or_default();
                Ok(Services::Ipvs(Box::new(ipvs::Backend::open(settings)?)))
            }
            Mode::Userspace => {
                Ok(Services::Userspace(Box::new(userspace::Backend::open(settings.userspace)?)))
            }
        }
    }

    pub fn mode(&self) -> Mode {
        match self {
            Services::Nft(_) => Mode::Nft,
            Services::Iptables(_) => Mode::Iptables,
            Services::Ipvs(_) => Mode::Ipvs,
            Services::Userspace(_) => Mode::Userspace,
        }
    }

    /// What Services may ask for.
    pub fn schedulers(&self) -> &'static [Scheduler] {
        self.mode().schedulers()
    }

    /// How many rules the last change took, in mode iptables.
    pub fn written(&self) -> Option<&iptables::Written> {
        match self {
            Services::Iptables(backend) => Some(backend.written()),
            Services::Nft(_) | Services::Ipvs(_) | Services::Userspace(_) => None,
        }
    }

    /// The sockets that changes go through, to tell them from other people's.
    pub fn sockets(&self) -> Vec<&Socket> {
        match self {
            Services::Nft(backend) => vec![backend.socket()],
            // Its changes are made by children: `take_writers`.
            Services::Iptables(_) => Vec::new(),
            Services::Ipvs(backend) => backend.sockets().into(),
            Services::Userspace(backend) => vec![backend.socket()],
        }
    }

    /// The children that have made changes since this was asked.
    pub fn take_writers(&mut self) -> Vec<u32> {
        match self {
            Services::Iptables(backend) => backend.take_writers(),
            Services::Nft(_) | Services::Ipvs(_) | Services::Userspace(_) => Vec::new(),
        }
    }

    /// Whether the kernel tells nobody when others change what this one made, so that it must be looked for.
    pub fn is_deaf(&self) -> bool {
        match self {
            Services::Iptables(backend) => backend.variant() == Variant::Legacy,
            // What is not heard of virtual servers, `finish` looks for.
            Services::Nft(_) | Services::Ipvs(_) | Services::Userspace(_) => false,
        }
    }

    /// Whether somebody may have changed devices, addresses or routes that Services are served with.
    pub fn is_concerned(&self, changed: &Changed) -> bool {
        match self {
            Services::Nft(_) | Services::Iptables(_) => false,
            Services::Ipvs(backend) => backend.is_concerned(changed),
            Services::Userspace(_) => changed.locals,
        }
    }

    /// Reads what is there, compares, and changes what differs.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        match self {
            Services::Nft(backend) => Ok(backend.reconcile(program)?.into()),
            Services::Iptables(backend) => Ok(backend.reconcile(program)?.into()),
            Services::Ipvs(backend) => Ok(backend.reconcile(program, Instant::now())?.into()),
            Services::Userspace(backend) => Ok(backend.reconcile(program)?.into()),
        }
    }

    /// Makes the changes of the program, which is as it is after them. After an error [`Services::reconcile`] puts
    /// things right.
    pub fn change(&mut self, program: &Program, changes: &[Change]) -> Result<Applied, Error> {
        match self {
            Services::Nft(backend) => Ok(backend.change(program, changes)?.into()),
            Services::Iptables(backend) => Ok(backend.change(program, changes)?.into()),
            Services::Ipvs(backend) => Ok(backend.change(program, changes, Instant::now())?.into()),
            Services::Userspace(backend) => Ok(backend.change(program, changes)?.into()),
        }
    }

    /// Something that becomes readable when nobody serves any more, which [`Services::is_lost`] must then be told; only
    /// the first caller gets it.
    pub fn lifeline(&mut self) -> Option<UnixStream> {
        match self {
            Services::Nft(_) | Services::Iptables(_) | Services::Ipvs(_) => None,
            Services::Userspace(backend) => backend.lifeline(),
        }
    }

    /// Nobody serves any more: [`Services::reconcile`] puts it right.
    pub fn is_lost(&mut self) {
        match self {
            Services::Nft(_) | Services::Iptables(_) | Services::Ipvs(_) => {}
            Services::Userspace(backend) => backend.is_lost(),
        }
    }

    /// When [`Services::finish`] has something to do; `None` while it has not.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Services::Nft(_) | Services::Iptables(_) => None,
            Services::Ipvs(backend) => backend.due(),
            Services::Userspace(backend) => backend.due(),
        }
    }

    /// Ends what was left to end by itself for a while.
    pub fn finish(&mut self, now: Instant) -> Result<(), Error> {
        match self {
            Services::Nft(_) | Services::Iptables(_) => Ok(()),
            Services::Ipvs(backend) => Ok(backend.sweep(now).map(|_number| ())?),
            Services::Userspace(backend) => Ok(backend.sweep(now)?),
        }
    }
}

/// All front ends in the network namespace of the calling thread, whichever back end made them.
///
/// Where a process of ours carries the connections, its own: it can be asked without any privilege. Where Podway has
/// no table of its own, those of its iptables chains.
pub fn served() -> Result<Vec<Served>, Error> {
    if let Some(counts) = userspace::counts().map_err(userspace::Error::from)? {
        return Ok(userspace::services(&counts));
    }
    let read = |error| Error::from(nft::Error::Read(error));
    let served = ipvs::read::complete(nft::read::all_services().map_err(read)?).map_err(read)?;
    Ok(if served.is_empty() { iptables::read::podways()?.served } else { served })
}

/// To be called before a back end's first rules: what another one carries or translates is to go on.
pub fn prepare(own: Mode) -> Result<(), Error> {
    match own {
        Mode::Nft | Mode::Iptables | Mode::Ipvs => Ok(userspace::spare()?),
        Mode::Userspace => Ok(userspace::keep()?),
    }
}

/// Removes what a back end made in the network namespace of the calling thread: `own` has its place.
///
/// Not what mode ipvs made: connections need it for a while ([`ipvs::Leftover`]).
pub fn clean(mode: Mode, own: Mode) -> Result<(), Error> {
    match mode {
        // They share the service table.
        Mode::Nft if own == Mode::Ipvs => Ok(()),
        Mode::Nft => Ok(Family::ALL.into_iter().try_for_each(nft::clean)?),
        Mode::Iptables => Ok(iptables::clean()?),
        Mode::Userspace => Ok(userspace::clean()?),
        Mode::Ipvs => Ok(()),
    }
}
