//! The L4 balancer: accept, choose a healthy back end, connect, carry octets both ways.

mod backend;
mod dial;
mod health;
mod listener;
mod pool;

pub(crate) use listener::{Carrier, Listener};
