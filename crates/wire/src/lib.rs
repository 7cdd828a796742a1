//! Bytes to structs and back, and the sans-I/O protocol machines

mod mac;

pub use mac::{InvalidMac, Mac};
