//! What differs between two programs of the same node, piece by piece.

use crate::{Binding, Frontend, LocalPod, Peer, PodNetwork, VirtualIp};
use std::net::IpAddr;
use std::sync::Arc;

/// One piece of a program before and after; `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Addresses { before: Vec<IpAddr>, after: Vec<IpAddr> },
    Network { before: Option<PodNetwork>, after: Option<PodNetwork> },
    Frontend { frontend: Frontend, before: Option<Binding>, after: Option<Binding> },
    Peer { node: Arc<str>, before: Option<Peer>, after: Option<Peer> },
    Pod { address: IpAddr, before: Option<LocalPod>, after: Option<LocalPod> },
    VirtualIp { name: Arc<str>, before: Option<VirtualIp>, after: Option<VirtualIp> },
}
