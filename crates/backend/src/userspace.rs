//! The service table without the kernel's help: sockets that listen, and relays behind them.
//!
//! For hosts where no rules can be made. It needs no privilege where the addresses are the machine's own; other
//! addresses (cluster IPs) are made local by routes in table `local`, which takes CAP_NET_ADMIN.
//!
//! ```text
//!  agent      Program ──lower──► Door (protocol, address), front end ── difference ──┐ orders
//!  ────────────────────────────────────────────────────────────────────────────────  ▼ ──────────
//!  process    Door ─► Front (who may, which endpoints)     one socket and task each  ◄── asks: show, explain, metrics
//!   of its own         │ choose: Service (turns, clients, open connections)
//!                      ▼
//!  client ◄────────► relay ◄──────────► endpoint
//! ```
//!
//! The agent may end at any moment: what listens and what is connected is the other process's, which the next agent
//! finds, reads and changes only where it differs. That one can be replaced too: its successor gets the sockets.
//!
//! Endpoints see the machine's address as the source, whatever the Service demands.

mod addresses;
mod apply;
pub mod balance;
mod connection;
mod datagrams;
mod doors;
pub mod lower;
mod message;
mod read;
mod server;
mod service;
pub mod sessions;
mod streams;
mod switch;

pub use apply::{Applied, Backend, Error, Settings, Unserved, clean};
pub use balance::SCHEDULERS;
pub use connection::{Carrier, SUBCOMMAND};
pub use message::{Counts, EndpointCount, FrontCount, Obstacle, Octets, ProcessCount};
pub use read::{counts, is_there, services};
pub use server::serve;
pub(crate) use switch::keep;
pub use switch::spare;
