//! Explanations of a small cluster, as people would read them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests read and write their golden files"
)]
mod cluster;
mod golden;
mod imagine;
mod proxies;
mod verify;
