//! Services as a node sees them: front ends, and pools of endpoints behind them.

use ipnet::IpNet;
use model::{EndpointSlice, Family, ObjectKey, Origin, Protocol, Scheduler};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a connection must be addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frontend {
    pub scope: Scope,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// This address, wherever it is: a cluster IP, an external IP, a load balancer's.
    Address(IpAddr),
    /// Those of the node's own addresses that node ports answer on ([`crate::NodePortAddresses`]).
    NodePort(Family),
}

impl Scope {
    pub fn family(self) -> Family {
        match self {
            Scope::Address(address) => Family::of(address),
            Scope::NodePort(family) => family,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::Address(address) => write!(f, "{}", SocketAddr::new(address, self.port))?,
            Scope::NodePort(_) => write!(f, "node port {}", self.port)?,
        }
        write!(f, " {}", self.protocol)
    }
}

/// The name of a Service's port: `default/web:http`, without the colon for an unnamed port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServicePortName {
    pub service: ObjectKey,
    /// Empty for an unnamed port.
    pub port: Arc<str>,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// What a front end does, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub port: ServicePortName,
    pub kind: FrontendKind,
    pub origin: Origin,
    /// The sources that may connect, others are dropped; `None`: anybody.
    pub sources: Option<Arc<[IpNet]>>,
    pub action: Action,
    /// How long a client that connects again gets the same endpoint, where it still is in the pool. The memory is
    /// the Service port's: all its front ends of a protocol share it.
    pub affinity: Option<Duration>,
    /// `None`: as the back end is used to.
    pub scheduler: Option<Scheduler>,
    /// All endpoints of the Service port, whether new connections go to them or not: what becomes of those under
    /// way depends on it. In order of addresses.
    pub standing: Arc<[Standing]>,
}

/// How a Service came to this front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FrontendKind {
    ClusterIp,
    NodePort,
    ExternalIp,
    LoadBalancer,
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrontendKind::ClusterIp => "cluster IP",
            FrontendKind::NodePort => "node port",
            FrontendKind::ExternalIp => "external IP",
            FrontendKind::LoadBalancer => "load balancer IP",
        })
    }
}

/// What becomes of a new connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// It goes to one endpoint of the pool.
    Balance { pool: Arc<Pool>, masquerade: Masquerade },
    /// `externalTrafficPolicy: Local`. From this cluster's pods and from the node itself it goes to `inside`, with
    /// the source replaced if it is the node; from everybody else to `outside`, untouched, or it is dropped where
    /// the node has no endpoint.
    BySource { inside: Arc<Pool>, outside: Option<Arc<Pool>> },
    /// Nobody is there, and the client is told.
    Reject,
    /// There are endpoints, but none on this node, and only those count.
    Drop,
}

impl Action {
    /// The pools that connections may go to.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        let (first, second) = match self {
            Action::Balance { pool, .. } => (Some(pool), None),
            Action::BySource { inside, outside } => (Some(inside), outside.as_ref()),
            Action::Reject | Action::Drop => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// When the source of a balanced connection is replaced by the node's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Masquerade {
    Always,
    /// When it is not a pod of this cluster ([`crate::PodSources`]).
    FromOutside,
    /// When it is a process of the node: only where a pool is `inside` ([`Action::BySource`]).
    FromNode,
    Never,
}

/// Endpoints in order of address and port, without duplicates, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub endpoints: Box<[Endpoint]>,
    pub reach: Reach,
    /// Nobody is ready: those that still serve while they terminate (KEP-1669).
    pub terminating: bool,
}

/// Out of which endpoints a pool is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reach {
    Cluster,
    /// Those that are meant for this node's zone (hints).
    Zone,
    /// Those that are meant for this node (hints).
    Node,
    /// Those on this node (`internalTrafficPolicy` or `externalTrafficPolicy: Local`).
    Local,
}

/// Who answers. Small, for there may be a hundred thousand: what its slice knows is left there, and another process
/// that is told of it does not hear of that.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "(SocketAddr, u16)", into = "(SocketAddr, u16)")]
pub struct Endpoint {
    ip: IpAddr,
    port: u16,
    /// Its share of connections in proportion to the others', 1–100.
    pub weight: u16,
    /// Which one of the slice.
    index: u16,
    /// `None`: not one of the cluster's, but something that leads to those.
    slice: Option<Arc<EndpointSlice>>,
}

impl Endpoint {
    /// One that no slice knows.
    pub fn at(address: SocketAddr, weight: u16) -> Self {
        let (ip, port) = (address.ip(), address.port());
        Endpoint { ip, port, weight, index: 0, slice: None }
    }

    /// That endpoint of the slice, at one of its ports; `None` where the slice has no such endpoint.
    pub fn of(slice: &Arc<EndpointSlice>, index: usize, port: u16) -> Option<Self> {
        let model::Endpoint { address: ip, weight, .. } = *slice.endpoints.get(index)?;
        let index = u16::try_from(index).ok()?;
        Some(Endpoint { ip, port, weight, index, slice: Some(slice.clone()) })
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// The node it runs on, where known.
    pub fn node(&self) -> Option<&Arc<str>> {
        self.known()?.1.node()
    }

    pub fn pod(&self) -> Option<ObjectKey> {
        let slice = self.slice.as_deref()?;
        let namespace = slice.meta.key.namespace.clone();
        Some(ObjectKey { namespace, name: slice.pod(self.index.into())?.into() })
    }

    pub fn origin(&self) -> Option<Origin> {
        Some(self.known()?.0.origin(self.index.into()))
    }

    fn known(&self) -> Option<(&EndpointSlice, &model::Endpoint)> {
        let slice = self.slice.as_deref()?;
        Some((slice, slice.endpoints.get(usize::from(self.index))?))
    }
}

impl From<(SocketAddr, u16)> for Endpoint {
    fn from((address, weight): (SocketAddr, u16)) -> Self {
        Endpoint::at(address, weight)
    }
}

impl From<Endpoint> for (SocketAddr, u16) {
    fn from(endpoint: Endpoint) -> Self {
        (endpoint.address(), endpoint.weight)
    }
}

/// The rest of the slice does not matter.
impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        fn parts(it: &Endpoint) -> (IpAddr, u16, u16, u16, Option<Known<'_>>) {
            let known = it
                .known()
                .map(|(slice, known)| (&slice.meta.key, known.node(), slice.pod(it.index.into())));
            (it.ip, it.port, it.weight, it.index, known)
        }
        type Known<'a> = (&'a ObjectKey, Option<&'a Arc<str>>, Option<&'a str>);
        parts(self) == parts(other)
    }
}

impl Eq for Endpoint {}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Endpoint");
        shown.field("address", &self.address()).field("weight", &self.weight);
        shown.field("origin", &self.origin().map(|origin| origin.to_string()));
        shown.field("node", &self.node()).field("pod", &self.pod()).finish()
    }
}

/// An endpoint that exists; a connection to one that does not has lost its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Standing {
    pub ip: IpAddr,
    pub port: u16,
    /// It goes on answering those that it has already.
    pub serving: bool,
}

impl Standing {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// A `healthCheckNodePort`: asked by load balancers whether this node has endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheckPort {
    pub service: ObjectKey,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
    pub origin: Origin,
}
