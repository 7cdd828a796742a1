//! Virtual IPs by VRRP and the L4 balancer behind them.
//!
//! *Here*: the daemon that takes part in the election of each virtual IP, holds the addresses it won,
//! and hands connections to them on to healthy back ends.
//! *Not here*: the election and health rules themselves (crate `wire`), Kubernetes objects (crate
//! `compile` turns them into [`config`] values).
//! *Start at* [`run`], then [`router`] and [`balancer`].
//!
//! ```text
//!  configuration ──► Edge::apply ──┬─► router   one task per virtual IP, on a thread of their own:
//!   (watch)                        │             advertisements and timers in, addresses and ARP out
//!                                  └─► balancer one task per listener ──► one per connection, on a thread for
//!                                               each processor (`relay::Workers`)
//!  status (watch) ◄── any change ──┴───────────► one task per checked back end
//! ```

pub mod balancer;
pub mod config;
mod daemon;
pub mod follow;
pub mod router;
pub mod status;
mod task;

pub use daemon::{Edge, run};

/// Why the edge cannot do its work at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start the threads of the virtual routers and of the balancer")]
    Thread(#[source] std::io::Error),
}
