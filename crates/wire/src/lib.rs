//! Bytes to structs and back, and the sans-I/O protocol machines.
//!
//! *Here*: packet formats, each as a `Repr` that cannot hold an illegal packet, with `parse` and
//! `emit`; and protocol machines that turn events and the time into actions.
//! *Not here*: sockets (crate `kernel`), clocks and tasks (crates `edge`, `agent`).
//! *Start at* [`Mac`], [`vrrp::Advertisement`], then [`machine::vrrp::Router`].

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod ipv4;
mod mac;
pub mod machine;
pub mod vrrp;

pub use mac::{InvalidMac, Mac};

/// Why bytes are not the packet they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{packet}: {have} octets, needs {need}")]
    Truncated { packet: &'static str, have: usize, need: usize },
    #[error("{packet}: wrong checksum")]
    Checksum { packet: &'static str },
    #[error("{packet}: {field} cannot be {value}")]
    Field { packet: &'static str, field: &'static str, value: u32 },
}

/// The `N` octets at `at`; every parser reads fixed fields through this.
fn octets<const N: usize>(bytes: &[u8], at: usize, packet: &'static str) -> Result<[u8; N], Error> {
    let need = at + N;
    let found = bytes.get(at..need).and_then(|slice| slice.first_chunk());
    found.copied().ok_or(Error::Truncated { packet, have: bytes.len(), need })
}
