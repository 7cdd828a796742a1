//! The agent against the embedded API, in network namespaces of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod accounting;
mod bursts;
mod care;
mod follows;
mod full;
mod health;
mod kills;
mod kube_proxy;
mod metrics;
mod node;
mod pods;
mod repairs;
