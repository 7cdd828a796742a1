//! The agent against the embedded API, in network namespaces of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod follows;
mod health;
mod node;
