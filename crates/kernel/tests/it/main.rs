//! The kernel's door against the real kernel, each test in network namespaces of its own.
//!
//! Witnesses are Debian's `ip`, `nft`, `conntrack` and `ipset`. The same tests run as root and, in a user namespace, as anyone.

#![allow(unsafe_code, reason = "the process enters its user namespace before any thread exists")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod arbitrary;
mod conntrack;
mod filter;
mod ipset;
mod ipvs;
mod nft;
mod route;
mod space;
mod spawn;
