//! What can go wrong at the kernel's door.

use crate::namespace::Obstacle;
use nix::errno::Errno;
use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel understood a netlink request and said no.
    #[error("{operation} {object}: {errno}{}", detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was asked, for example `add route`.
        operation: &'static str,
        /// What it was asked for, for example `10.244.1.0/24 dev flannel.1`.
        object: String,
        errno: Errno,
        /// The kernel's own words (`NLMSGERR_ATTR_MSG`), where it gave some.
        detail: Option<String>,
    },
    /// A system call failed.
    #[error("{operation} {object}")]
    System {
        operation: &'static str,
        object: String,
        #[source]
        errno: Errno,
    },
    /// A file could not be read or written.
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The kernel's answer does not have the form its headers promise.
    #[error("{operation}: the kernel's answer is malformed: {problem}")]
    Malformed { operation: &'static str, problem: &'static str },
    /// This kernel was built without a feature, and the module that would bring it is not there.
    #[error("this kernel has no {feature}: module {module}")]
    Missing { feature: &'static str, module: &'static str },
    /// The machine's settings stand in the way of namespaces; the obstacle says what to do about it.
    #[error("{obstacle}")]
    Prevented { obstacle: Obstacle, errno: Errno },
    /// More than one send can carry; nothing was sent.
    #[error("{operation}: {octets} octets in one transaction, and this socket may send {room}")]
    TooLarge { operation: &'static str, octets: usize, room: usize },
    /// The kernel's tables changed under every attempt to read them.
    #[error("{operation} {object}: it changes faster than it can be read")]
    Unsettled { operation: &'static str, object: String },
    /// A name or value that the kernel has no way to hold; nothing was sent.
    #[error("{operation} {object}: {problem}")]
    Unusable { operation: &'static str, object: String, problem: &'static str },
}

impl Error {
    /// The kernel's error number, where there was one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. }
            | Error::System { errno, .. }
            | Error::Prevented { errno, .. } => Some(*errno),
            Error::File { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}
