//! Kernel network configuration as values.
//!
//! *Here*: links, addresses, routes, neighbours, forwarding entries, nf_tables and iptables rule sets and IPVS
//! tables as plain values, the difference between two of them, and the evaluation of a packet against a rule set.
//! *Not here*: netlink (crate `kernel`), anything Kubernetes (crate `program`).
//! *Start at* [`NetState`], then [`nft::Table`].

pub mod delta;
pub mod eval;
pub mod iptables;
pub mod ipvs;
pub mod link;
pub mod nft;

pub use delta::{ElementChange, TableDelta};
pub use link::{Address, FdbEntry, Link, LinkKind, Local, Neighbour, Route, Unreachable};
pub use wire::Mac;

use std::collections::{BTreeMap, BTreeSet};

/// What one network namespace is configured to do, or should be.
///
/// The same type holds what is wanted and what was read back from the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetState {
    /// By interface name.
    pub links: BTreeMap<String, Link>,
    pub addresses: BTreeSet<Address>,
    pub routes: BTreeSet<Route>,
    pub unreachable: BTreeSet<Unreachable>,
    pub neighbours: BTreeSet<Neighbour>,
    pub fdb: BTreeSet<FdbEntry>,
    /// By family and name.
    pub tables: BTreeMap<nft::TableId, nft::Table>,
    /// Path below `/proc/sys` to value, for example `net/ipv4/ip_forward` to `1`.
    pub sysctls: BTreeMap<String, String>,
}
