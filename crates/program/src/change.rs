//! What differs between two programs of the same node, piece by piece.

use crate::{
    Binding, Frontend, HealthCheckPort, LocalPod, Peer, PodNetwork, PodSources, VirtualIp,
};
use ipnet::IpNet;
use model::{Family, Origin};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One piece of a program before and after; `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Addresses { before: Vec<IpAddr>, after: Vec<IpAddr> },
    Leaving { after: bool },
    PodSources { before: PodSources, after: PodSources },
    ServiceCidrs { before: BTreeMap<IpNet, Origin>, after: BTreeMap<IpNet, Origin> },
    Network { family: Family, before: Option<PodNetwork>, after: Option<PodNetwork> },
    Frontend { frontend: Frontend, before: Option<Binding>, after: Option<Binding> },
    HealthCheck { port: u16, before: Option<HealthCheckPort>, after: Option<HealthCheckPort> },
    Peer { family: Family, node: Arc<str>, before: Option<Peer>, after: Option<Peer> },
    Pod { address: IpAddr, before: Option<LocalPod>, after: Option<LocalPod> },
    VirtualIp { name: Arc<str>, before: Option<VirtualIp>, after: Option<VirtualIp> },
}
