//! The service proxy in IPVS: virtual servers choose, the service table does the rest.
//!
//! IPVS serves what is addressed to the node, so the device `kube-ipvs0` has the addresses of Services, as
//! kube-proxy has it. What IPVS cannot say stays in the service table of back end `nft`, whose slots lead to
//! virtual servers instead of endpoints: who may connect, whose source is replaced, what is refused or dropped.
//! Where one front end has two pools (`externalTrafficPolicy: Local`), IPVS serves those from outside; a virtual
//! server cannot tell sources apart, so pods and the node itself go by the table's own slots.

mod apply;
pub mod change;
mod leftover;
pub mod lower;
pub mod read;
mod settle;

pub use apply::{Applied, Backend, Error};
pub use leftover::{Leftover, has_virtual_servers};
pub use lower::{SCHEDULERS, Settings};
