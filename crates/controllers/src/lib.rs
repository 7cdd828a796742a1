//! What stands behind the API: endpoint slices, workloads, scheduling, node life, subnets.
//!
//! *Here*: one pure function per controller (`reconcile/`: values in, writes out), the indexed view of the cluster
//! that they read (`cluster/`), the loop that feeds them ([`run`]), and what people hear of it (`event/`).
//! *Not here*: what the API server does itself (allocation of addresses, garbage collection: crate `apiserver`),
//! the kubelet (crate `lab`), anything about packets.
//! *Start at* [`run`], then `reconcile/mod.rs`.

#[cfg(test)]
mod bench;
mod bond;
mod claim;
mod cluster;
mod cron;
mod election;
mod error;
mod event;
#[cfg(test)]
mod fixture;
mod names;
mod queue;
mod reconcile;
mod record;
mod run;
mod settings;
mod taints;
mod task;
mod write;

pub use election::{Election, run_elected};
pub use error::Error;
pub use run::run;
pub use settings::{Controller, Settings, UnknownController};
