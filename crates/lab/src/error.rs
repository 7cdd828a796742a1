//! What can go wrong with a lab.

use crate::image;
use crate::plan::PlanError;
use crate::target::Target;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects or flags make no network.
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("no such image: {0}")]
    Image(#[from] image::Problem),
    #[error("{name:?} is no name for a lab: use up to 63 lower-case letters, digits and hyphens")]
    Name { name: String },
    #[error("lab {name} is running already: `podway lab down --name {name}` ends it")]
    Running { name: String },
    #[error("there is no lab {name}: `podway lab up` makes one")]
    NotRunning { name: String },
    #[error("lab {lab} has no {target}")]
    NoTarget { lab: String, target: Target },
    #[error("{target} is down: `podway lab start {target}` brings it back")]
    Down { target: Target },
    #[error("{target} is up already")]
    Up { target: Target },
    #[error("{text:?} is no place in a lab: write client, node/NAME or pod/[NAMESPACE/]NAME")]
    Target { text: String },
    /// The machine lacks something that every lab needs.
    #[error("{feature}")]
    Missing { feature: Feature },
    /// The supervisor gave up; its words.
    #[error("{text}")]
    Failed { class: Class, text: String },
    /// The supervisor ended without a word.
    #[error("the lab's supervisor ended unexpectedly{}", tail(.log))]
    Vanished { log: String },
    #[error("lab {name} is still starting")]
    Starting { name: String },
    #[error("pass on the logs")]
    Printed(#[source] io::Error),
    #[error("{target} has no logs")]
    NoLogs { target: Target },
    #[error("{target} is no node: write node/NAME")]
    NotANode { target: Target },
    #[error("no command to run")]
    NoCommand,
    /// What was to run in the lab did not start.
    #[error("start {}", program.display())]
    Program {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("interrupted")]
    Interrupted,
    /// Its text holds all of the API's answer, which is therefore no source: it would be told twice.
    #[error("{origin}: {object}: {}", reason(answer))]
    Rejected { origin: String, object: String, answer: Box<client::Error> },
    #[error("{origin}: {object}: this API serves no such kind")]
    UnknownKind { origin: String, object: String },
    #[error("start the API")]
    Server(#[source] Box<apiserver::Error>),
    #[error("make the API's credentials")]
    Access(#[from] apiserver::AccessError),
    #[error(transparent)]
    Disk(#[from] apiserver::DiskError),
    /// What is kept speaks of other addresses than the lab would have.
    #[error(
        "{} keeps a lab with another network than these manifests and flags make: leave them out to go on with it, or choose another directory",
        directory.display()
    )]
    OtherNetwork { directory: PathBuf },
    #[error("ask the API")]
    Api(#[source] Box<client::Error>),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("talk to lab {name}")]
    Talk {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// A part of the kernel that a lab cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Feature {
    #[error(
        "this kernel has no nf_tables: load it with `sudo modprobe nf_tables`, or use a kernel built with CONFIG_NF_TABLES"
    )]
    NfTables,
    #[error(
        "this kernel has no VXLAN: load it with `sudo modprobe vxlan`, or use a kernel built with CONFIG_VXLAN"
    )]
    Vxlan,
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The user's input is wrong: exit code 2.
    Usage,
    /// The machine lacks something; the text says what to do: exit code 69 (`EX_UNAVAILABLE` of sysexits.h).
    Unavailable,
    /// The user asked to stop: exit code 130.
    Interrupted,
    /// All else: exit code 1.
    Failure,
}

impl Class {
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Usage => 2,
            Class::Unavailable => 69,
            Class::Interrupted => 130,
            Class::Failure => 1,
        }
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Error {
        Error::Api(Box::new(error))
    }
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Error::Plan(_)
            | Error::Image(_)
            | Error::Name { .. }
            | Error::Target { .. }
            | Error::NotANode { .. }
            | Error::OtherNetwork { .. }
            | Error::NoCommand => Class::Usage,
            Error::Rejected { .. } | Error::UnknownKind { .. } => Class::Usage,
            Error::NoTarget { .. } | Error::NoLogs { .. } => Class::Usage,
            Error::Missing { .. } | Error::Kernel(kernel::Error::Prevented { .. }) => {
                Class::Unavailable
            }
            Error::Interrupted => Class::Interrupted,
            Error::Failed { class, .. } => *class,
            _ => Class::Failure,
        }
    }

    /// What the program's exit code should be; a command that is missing counts as with a shell.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Error::Program { .. } => 126,
            _ => self.class().exit_code(),
        }
    }

    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { operation, path, source }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// The API's own words, which name the object again only where they must.
fn reason(error: &client::Error) -> String {
    match error {
        client::Error::Rejected { status, .. } => status.message.clone(),
        error => chain(error),
    }
}

fn tail(log: &str) -> String {
    let lines = log.lines().count();
    log.lines().skip(lines.saturating_sub(5)).fold(String::new(), |text, line| text + "\n  " + line)
}
