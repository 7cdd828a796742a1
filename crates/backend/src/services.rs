//! The back ends that serve Services, as a closed set. A new one is a variant here, and an arm in each `match`.

use crate::nft;
use kernel::netlink::Socket;
use model::{Family, Scheduler};
use program::{Change, Program};
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// The ways to serve Services, by their names in `--proxy-mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    #[default]
    Nft,
    Iptables,
    Ipvs,
    Userspace,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Nft, Mode::Iptables, Mode::Ipvs, Mode::Userspace];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Nft => "nft",
            Mode::Iptables => "iptables",
            Mode::Ipvs => "ipvs",
            Mode::Userspace => "userspace",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no proxy mode {name:?}: there are nft, iptables, ipvs and userspace")]
pub struct UnknownMode {
    name: String,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    /// `nftables` is kube-proxy's name for `nft`.
    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        let name = if name == "nftables" { "nft" } else { name };
        let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        mode.ok_or_else(|| UnknownMode { name: name.to_owned() })
    }
}

/// What back ends are told beside the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// For Services that do not say (`--ipvs-scheduler`); `None`: as the back end is used to.
    pub scheduler: Option<Scheduler>,
}

/// Why Services are not served as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this build has no proxy mode {mode}")]
    NotBuilt { mode: Mode },
    #[error(transparent)]
    Nft(#[from] nft::Error),
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

/// The door to the Services of the network namespace in which it was opened.
#[derive(Debug)]
pub enum Services {
    Nft(nft::Backend),
}

impl Services {
    pub fn open(mode: Mode, _settings: Settings) -> Result<Self, Error> {
        match mode {
            Mode::Nft => Ok(Services::Nft(nft::Backend::open()?)),
            Mode::Iptables | Mode::Ipvs | Mode::Userspace => Err(Error::NotBuilt { mode }),
        }
    }

    pub fn mode(&self) -> Mode {
        match self {
            Services::Nft(_) => Mode::Nft,
        }
    }

    /// What Services may ask for.
    pub fn schedulers(&self) -> &'static [Scheduler] {
        match self {
            Services::Nft(_) => &program::slots::SCHEDULERS,
        }
    }

    /// The sockets that changes go through, to tell them from other people's.
    pub fn sockets(&self) -> Vec<&Socket> {
        match self {
            Services::Nft(backend) => vec![backend.socket()],
        }
    }

    /// Reads what is there, compares, and changes what differs.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        match self {
            Services::Nft(backend) => Ok(backend.reconcile(program)?.into()),
        }
    }

    /// Makes the changes of the program, which is as it is after them. After an error [`Services::reconcile`] puts
    /// things right.
    pub fn change(&mut self, program: &Program, changes: &[Change]) -> Result<Applied, Error> {
        match self {
            Services::Nft(backend) => Ok(backend.change(program, changes)?.into()),
        }
    }

    /// When [`Services::finish`] has something to do; `None` while it has not.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Services::Nft(_) => None,
        }
    }

    /// Ends what was left to end by itself for a while.
    pub fn finish(&mut self, _now: Instant) -> Result<(), Error> {
        match self {
            Services::Nft(_) => Ok(()),
        }
    }
}

/// Removes what a back end made in the network namespace of the calling thread: another one has its place.
pub fn clean(mode: Mode) -> Result<(), Error> {
    match mode {
        Mode::Nft => Ok(Family::ALL.into_iter().try_for_each(nft::clean)?),
        Mode::Iptables | Mode::Ipvs | Mode::Userspace => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("nftables".parse(), Ok(Mode::Nft));
        assert!("ebpf".parse::<Mode>().unwrap_err().to_string().contains("there are nft"));
    }
}
