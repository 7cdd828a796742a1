//! nf_tables over `NETLINK_NETFILTER`: the values of [`netstate::nft`] to the kernel and back.
//!
//! Writing: a [`Transaction`], atomic as a whole. Reading: [`read_table`], [`tables`], [`generation`].
//! Hearing: [`Monitor::rules`](crate::netlink::Monitor::rules).

mod abi;
mod decode;
mod element;
mod expression;
mod read;
mod set;
mod transaction;

pub use read::{Count, Observed, generation, read_table, tables};
pub use transaction::{Stats, Transaction};
