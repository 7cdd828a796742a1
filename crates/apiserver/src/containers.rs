//! What only the node of a pod can do: its containers' logs, and commands in them.
//!
//! The server asks by messages ([`ContainerRequest`]); whoever runs the nodes answers.

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

/// A container that runs, or ran, on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub node: String,
    pub namespace: String,
    pub pod: String,
    /// `metadata.uid` of the pod.
    pub uid: String,
    pub name: String,
}

/// A question to the node of a container.
#[derive(Debug)]
pub enum ContainerRequest {
    Logs {
        container: Container,
        options: LogOptions,
        /// The log in pieces; with `follow` it goes on until the receiver is dropped.
        reply: oneshot::Sender<Result<mpsc::Receiver<Bytes>, Refusal>>,
    },
    Exec {
        container: Container,
        command: Vec<String>,
        /// With a terminal, which the command's input and output share.
        terminal: bool,
        reply: oneshot::Sender<Result<Session, Refusal>>,
    },
    /// What the container writes from now on, and what it reads, if it was made to be talked to.
    Attach {
        container: Container,
        /// The client has something to say.
        input: bool,
        /// Says that the container runs no more.
        ended: watch::Receiver<bool>,
        reply: oneshot::Sender<Result<Session, Refusal>>,
    },
    /// A connection to a port of the pod, whatever its container.
    Connect { container: Container, port: u16, reply: oneshot::Sender<Result<TcpStream, Refusal>> },
}

impl ContainerRequest {
    /// Who is asked about.
    #[must_use]
    pub fn container(&self) -> &Container {
        let (Self::Logs { container, .. }
        | Self::Exec { container, .. }
        | Self::Attach { container, .. }
        | Self::Connect { container, .. }) = self;
        container
    }
}

/// How much of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on with what is written, until this says that nothing will be any more.
    pub follow: Option<watch::Receiver<bool>>,
    /// Only lines written since then, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// Each line begins with the time when it was written.
    pub timestamps: bool,
    /// Of the run before this one.
    pub previous: bool,
    /// Only so many lines of what is there.
    pub tail_lines: Option<usize>,
}

/// Why a node does not do it, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// A command or container that runs. Dropping it ends the command.
#[derive(Debug)]
pub struct Session {
    /// Dropping it closes the command's input.
    pub input: mpsc::Sender<Bytes>,
    pub output: mpsc::Receiver<(Output, Bytes)>,
    /// Columns and rows of the terminal.
    pub size: mpsc::Sender<(u16, u16)>,
    /// The command's exit code, after all its output.
    pub end: oneshot::Receiver<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Standard,
    Error,
}
