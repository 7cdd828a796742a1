//! A cluster network on one machine: nodes, pods and a client as namespaces.
//!
//! *Here*: the lab's plan, its supervisor, its nodes' first processes, and the verbs of `podway lab`.
//! *Not here*: what a node does with the network (crates `agent`, `edge`, `cni`), printing (crate `podway`).
//! *Start at* [`plan::plan`] for the pure part, [`up`] for the rest.

pub mod manifest;
pub mod plan;

pub use manifest::Manifest;
