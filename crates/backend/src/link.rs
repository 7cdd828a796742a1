//! The pod network: the VXLAN device, and for each peer a neighbour, a forwarding entry and a route,
//! with flannel's names and numbers so that nodes of both kinds understand each other.

mod apply;
pub mod lower;
mod plan;

pub use apply::{Backend, Error};
pub use plan::changes;
