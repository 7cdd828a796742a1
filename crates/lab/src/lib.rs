//! A cluster network on one machine: nodes, pods and a client as namespaces.
//!
//! *Here*: the lab's plan, its supervisor, its nodes' first processes, and the verbs of `podway lab`.
//! *Not here*: what a node does with the network (crates `agent`, `edge`, `cni`), printing (crate `podway`).
//! *Start at* [`plan::plan`] for the pure part, [`up`] for the rest.
//!
//! ```text
//!   host          podway lab up | exec | kill | down ──┐ record and control socket
//!   ══════════════════════════════════════════════════ │ ═══════ user, mount, PID and network namespace
//!   lab           supervisor: API, controllers ◄───────┘
//!                 bridge `underlay` ─┬─────────┬────────── … network namespaces below /run/netns
//!                                    │ eth0    │ eth0
//!                                  client    node-1: node init ─► agent, edge, kubelet ─► pods
//! ```

pub mod console;
pub mod echo;
mod error;
pub mod image;
mod kept;
pub mod kubelet;
pub mod layout;
pub mod manifest;
mod message;
pub mod node_init;
pub mod plan;
mod record;
pub mod supervisor;
mod target;
mod verb;

pub use error::{Class, Error, Feature, Result};
pub use manifest::Manifest;
pub use message::{NodeStatus, PodStatus, Status, Summary, VirtualIpStatus};
pub use target::Target;
pub use verb::down::{down, list};
pub use verb::exec::{exec, is_inside, reenter};
pub use verb::kubeconfig::kubeconfig;
pub use verb::logs::logs;
pub use verb::power::{agent, kill, start, status};
pub use verb::up::{Options, up};
