//! What can go wrong, with the numbers that runtimes know.

use crate::request::Verb;
use crate::result::Version;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;

/// Codes below 100 are those of the CNI specification, section "Error".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cniVersion {asked:?} is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")]
    Version { asked: String },
    #[error("{verb:?} does not exist in CNI {version}")]
    VerbTooNew { verb: Verb, version: Version },
    /// A field of the configuration whose value this plug-in cannot serve.
    #[error("{field} {value}: {problem}")]
    Unsupported { field: &'static str, value: String, problem: &'static str },
    #[error("environment variable {name} {problem}")]
    Environment { name: &'static str, problem: &'static str },
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the network configuration cannot be read")]
    Decode(#[source] serde_json::Error),
    #[error("network configuration: {field} {problem}")]
    Config { field: &'static str, problem: &'static str },
    /// Every address of a pod network of this node belongs to a container that still lives.
    #[error("no address is free in {pool}: {taken} are taken by running containers")]
    Exhausted { pool: IpNet, taken: usize },
    #[error("the container has an interface {name} already")]
    InterfaceExists { name: String },
    #[error("cannot wire the container")]
    Kernel(#[from] kernel::Error),
    #[error("{what} is missing or not as it was made")]
    Differs { what: String },
    #[error("address {address} is not reserved for this container")]
    NotReserved { address: IpAddr },
    /// Status only: no container could be added now, those that run are not affected.
    #[error("no container can be added")]
    Unavailable(#[source] Box<Error>),
}

impl Error {
    /// The `code` of the CNI error object.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Error::Version { .. } | Error::VerbTooNew { .. } => 1,
            Error::Unsupported { .. } => 2,
            Error::Environment { .. } => 4,
            Error::Io { .. } => 5,
            Error::Decode(_) => 6,
            Error::Config { .. } => 7,
            Error::Unavailable(_) => 50,
            Error::Exhausted { .. } => 100,
            Error::InterfaceExists { .. } => 101,
            Error::Kernel(_) => 102,
            Error::Differs { .. } | Error::NotReserved { .. } => 103,
        }
    }

    /// The error object that goes to standard output.
    #[must_use]
    pub fn report(&self, version: Option<Version>) -> Value {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        let details: Vec<_> = causes.map(ToString::to_string).collect();
        json!({
            "cniVersion": version.unwrap_or(Version::NEWEST),
            "code": self.code(),
            "msg": self.to_string(),
            "details": details.join(": "),
        })
    }
}
