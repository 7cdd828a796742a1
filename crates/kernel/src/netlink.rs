//! Netlink: messages, attributes, and one small synchronous socket.
//!
//! The kernel works on a request inside the `send` that brings it, so every answer is already queued when `send`
//! returns: nothing here ever waits, and a lost answer is an error instead of a hang.

mod attribute;
mod batch;
mod monitor;
mod socket;

pub use attribute::{Attribute, Attributes, Message, Messages};
pub(crate) use batch::flags;
pub use batch::{Batch, Body};
pub(crate) use monitor::open_monitor;
pub use monitor::{Changed, Devices, Monitor};
pub(crate) use socket::receive;
pub use socket::{Refusal, Socket};
