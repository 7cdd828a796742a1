//! The embedded Kubernetes API: the server of a lab.
//!
//! *Here*: the Kubernetes wire protocol over HTTP (`http`), who gets in (`access`) and what
//! they may do there (`rights`), what a write means (`registry`),
//! types from OpenAPI schemas (`schema`), defaults and validation (`admission`), who owns which field (`managed`),
//! objects and their history in memory (`store`), the kinds ([`resources`]).
//!
//! *Not here*: controllers, scheduling, kubelets: they are clients. Production uses the cluster's own API server.
//!
//! *Start at* [`ApiServer`]; then `registry/mod.rs`, where a request becomes a write. Everything but `http` and
//! `server` is pure.

mod access;
mod admission;
mod base64;
pub mod containers;
mod error;
mod expression;
mod http;
mod managed;
mod patch;
mod policy;
pub mod protobuf;
mod quantity;
mod quota;
mod registry;
pub mod resources;
mod rights;
mod schema;
mod selector;
mod server;
mod store;
mod table;
mod time;
pub mod tls;
mod yaml;

/// The version of Kubernetes that is spoken, and whose it is.
pub const VERSION: &str = concat!("v1.36.0+podway-", env!("CARGO_PKG_VERSION"));

pub use access::{Access, AccessError};
pub use error::Error;
pub use server::{ApiServer, Config};
pub use store::{Disk, DiskError, History};
