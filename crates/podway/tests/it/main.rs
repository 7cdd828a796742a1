//! The real binary in real labs: what a user types, and what comes of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "a test that is left out says so")]

mod accounts;
mod answers;
mod certificates;
mod clients;
mod conformance;
mod connections;
mod containers;
mod deployments;
mod documents;
mod dual_stack;
mod elections;
mod explanations;
mod faults;
mod images;
mod kept;
mod kubelets;
mod labs;
mod lifetimes;
mod proxies;
mod quotas;
#[path = "../../../controllers/tests/it/real_server.rs"]
mod real_server;
mod refusals;
mod relays;
mod rollouts;
mod services;
mod supervision;
mod switching;
mod views;
