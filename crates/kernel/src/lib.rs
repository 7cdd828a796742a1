//! The kernel's door: the only crate with system calls.
//!
//! *Here*: netlink (links, routes, nf_tables, conntrack, IPVS, sets), sysctls, network namespaces, processes, mounts
//! and raw sockets, each behind a safe and synchronous function.
//! *Not here*: what the configuration should be (crate `netstate` holds it as values, crate `backend` decides).
//! *Start at* [`netlink::Socket`], then [`route`] and [`nft::Transaction`].

#![allow(
    unsafe_code,
    reason = "this is the crate where system calls live; each block says why it is sound"
)]

pub mod conntrack;
pub mod descriptors;
pub mod directory;
mod error;
pub mod filter;
mod identity;
pub mod ipset;
pub mod ipvs;
pub mod local;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod packet;
pub mod process;
pub mod route;
pub mod spawn;
pub mod splice;
pub mod stream;
pub mod sysctl;
pub mod terminal;

pub use error::{Error, Result};
pub use nix::errno::Errno;
