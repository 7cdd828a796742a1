//! What people hear of what the controllers write (`client::event`).
//!
//! ```text
//!   a write and what came of it ──told──► Event ──► client::event::Recorder
//! ```
//!
//! Reasons and messages are kube-controller-manager's, word for word.

mod told;

pub(crate) use client::event::{About, Event, Recorder};
pub(crate) use told::told;
