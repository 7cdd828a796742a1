//! Rule sets of iptables: read, printed, compared and evaluated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod arbitrary;
mod iptables;
mod kube_proxy;
