//! Octets between two connections, and how many connections one process can carry.
//!
//! *Here*: what every process that carries other people's connections does alike.
//! *Not here*: who is connected with whom (`backend::userspace` for Services, crate `edge` for virtual IPs).
//! *Start at* [`relay`], [`Limits`] and [`Workers`].

mod limits;
mod octets;
mod workers;

pub use limits::{Limits, Permit};
pub use octets::{Way, relay, reset, with_scratch};
pub use workers::{Worker, Workers};
