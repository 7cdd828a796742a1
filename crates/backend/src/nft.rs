//! The service table in nf_tables: flat, shared maps.
//!
//! The number of sets and base chains is constant; Services and endpoints are elements. A front end
//! is an element that leads to the chain of its class, and the class (how the key is made, when the
//! source is replaced, how many endpoints) has one chain that looks a random slot up in the shared
//! map `slots`. So a change of one Service is a handful of elements in one transaction, whatever the
//! size of the cluster.

mod apply;
pub mod layout;
pub mod lower;
mod memory;
pub mod read;
pub mod rules;
mod vital;

pub use apply::{Applied, Backend, Error, clean};
