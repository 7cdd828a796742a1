//! The edge against the real kernel, Debian's keepalived and TCP as it is, in namespaces of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a child process tells its parent what it does")]

mod balancer;
mod child;
mod configuration;
mod election;
mod keepalived;
mod peer;
mod probe;
mod segment;
