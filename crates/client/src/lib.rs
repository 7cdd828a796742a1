//! The door to a Kubernetes API, real or embedded.
//!
//! *Here*: finding the API ([`connect`]), watching whole kinds with recovery ([`watch_kinds`]), and reading and
//! writing single objects as [`serde_json::Value`] ([`get`], [`create`], [`patch_status`], …), and telling people what
//! happened ([`event`]).
//!
//! *Not here*: what objects mean (crate `model`), the server side (crate `apiserver`), any decision.
//!
//! *Start at* [`watch_kinds`] and [`Event`].

mod backoff;
mod connect;
mod error;
pub mod event;
mod kind;
mod object;
mod replica;
mod watch;

pub use connect::connect;
pub use error::Error;
pub use kind::Kind;
pub use kube::Client;
pub use object::{
    bind, create, create_of, delete, delete_this, get, list, merge_status, patch_merge,
    patch_status, replace, request_token,
};
pub use replica::Replica;
pub use watch::{Event, Watch, Watcher, watch_kinds, watch_kinds_in_pieces};

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
