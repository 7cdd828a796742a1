//! nf_tables over `NETLINK_NETFILTER`: the values of [`netstate::nft`] to the kernel and back.
//!
//! Writing: a [`Transaction`], atomic as a whole. Reading: [`read_table`] or, with an idea of what is there, [`read_table_like`]; [`tables`], [`generation`].
//! Hearing: [`Monitor::rules`](crate::netlink::Monitor::rules).

mod abi;
mod commit;
mod decode;
mod element;
mod expression;
mod listing;
mod read;
mod rule;
mod set;
#[cfg(test)]
mod tests;
mod transaction;

pub use commit::Stats;
pub use listing::read_dynamic;
pub use read::{Count, Observed, generation, read_table, read_table_like, tables};
pub use transaction::{Transaction, remove_table};
