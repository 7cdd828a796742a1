//! A node's program, lowered to kernel configuration and kept there.
//!
//! *Here*: one folder per back end, each with the same files: `lower.rs` (pure: program to
//! configuration), `apply.rs` (configuration to kernel), `read.rs` (kernel to configuration).
//! `nft` is the service table, `ipvs` the same with virtual servers behind it, `link` the pod network's device, routes and neighbours.
//! *Not here*: Kubernetes semantics (crate `compile`), netlink encoding (crate `kernel`).
//! *Start at* [`Services`], [`nft::Backend`] and [`link::Backend`].

pub mod iptables;
pub mod ipvs;
pub mod kube_proxy;
pub mod link;
pub mod nft;
pub mod served;
pub mod services;
mod usage;
pub mod userspace;

pub use served::{Fate, Served};
pub use services::{Mode, Services};
