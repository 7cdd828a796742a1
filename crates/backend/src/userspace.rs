//! The service table without the kernel's help: sockets that listen, and relays behind them.
//!
//! For hosts where no rules can be made. It needs no privilege where the addresses are the machine's own; other
//! addresses (cluster IPs) are made local by routes in table `local`, which takes CAP_NET_ADMIN.
//!
//! ```text
//!  Program ──lower──► Door (protocol, address) ─► Front (who may, which endpoints)     one socket and task each
//!                                                   │ choose: Service (turns, clients, open connections)
//!                                                   ▼
//!                     client ◄──────────────────► relay ◄──────────► endpoint
//! ```
//!
//! Endpoints see the machine's address as the source, whatever the Service demands.

mod addresses;
mod apply;
pub mod balance;
mod datagrams;
mod limits;
pub mod lower;
mod relay;
mod service;
pub mod sessions;
mod streams;

pub use apply::{Applied, Backend, Error, Obstacle, Unserved, clean};
pub use balance::SCHEDULERS;
