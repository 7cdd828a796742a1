//! Protocol machines: events and the time in, actions out.
//!
//! `now` is the time since an origin that the caller chose once; it never runs backwards.

pub mod health;
pub mod vrrp;
