//! Links, addresses, routes, neighbours and forwarding entries over `NETLINK_ROUTE`.
//!
//! Everything happens in the network namespace in which the [`Socket`](crate::netlink::Socket) was made.
//! Reading: [`read`], or one kind at a time. Changing: [`apply`], and [`add_link`] for a link whose other end
//! or whose own place is in another namespace. Hearing: [`Monitor::route`](crate::netlink::Monitor::route).

mod abi;
mod change;
mod entry;
mod link;
mod names;
mod read;
#[cfg(test)]
mod tests;

pub use change::{Change, add_link, apply, move_link};
pub(crate) use entry::ip;
pub use link::{FoundLink, NewLink, Peer};
pub use read::{
    addresses, fdb, is_local, link, link_by_index, links, locals, neighbours, read, routes, settle,
    unreachable,
};
