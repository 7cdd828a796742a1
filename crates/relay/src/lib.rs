//! A connection to whoever answers, octets between two connections, and how many connections one process can carry.
//!
//! *Here*: what every process that carries other people's connections does alike.
//! *Not here*: who is connected with whom (`backend::userspace` for Services, crate `edge` for virtual IPs).
//! *Start at* [`dial`], [`relay`], [`Limits`] and [`Workers`].

mod dial;
mod limits;
mod octets;
mod workers;

pub use dial::{Effort, Pace, Server, connect, dial, is_servers_fault};
pub use limits::{Limits, Permit};
pub use octets::{Way, relay, reset, with_scratch};
pub use workers::{Worker, Workers};
