//! Who owns which field: `metadata.managedFields`, and server-side apply.
//!
//! Specification: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>. *Start at* [`apply`] and
//! [`entries::Managers`].

mod apply;
pub(crate) mod entries;
mod set;
pub(crate) mod typed;
mod walk;

pub(crate) use apply::{Collision, apply, merge};
pub(crate) use set::Set;
pub(crate) use walk::{Changes, atomics, compare};
