//! A program to what is listened on and where each connection may go. Pure.

use ipnet::IpNet;
use model::{Family, Protocol, Scheduler};
use program::{
    Action, Binding, Frontend, PodSources, Pool, Program, Scope, ServicePortName, Slots,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Something to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Door {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

/// What is behind a door: a snapshot, replaced as a whole when the Service changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Front {
    pub service: ServiceKey,
    pub sources: Option<Arc<[IpNet]>>,
    pub affinity: Option<Duration>,
    pub scheduler: Option<Scheduler>,
    ways: Ways,
    locality: Arc<Locality>,
}

/// Whose connections are counted together and whose clients are remembered together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    pub port: ServicePortName,
    pub protocol: Protocol,
    pub family: Family,
}

/// Endpoints to choose from.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    pub pool: Arc<Pool>,
    /// Where a hash decides; else empty.
    pub slots: Slots,
}

/// Where connections may go, by where they come from; `None`: nowhere.
#[derive(Debug, PartialEq, Eq)]
struct Ways {
    inside: Option<Arc<Target>>,
    outside: Option<Arc<Target>>,
}

/// Who counts as one of the cluster's pods or as the node itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locality {
    nets: Vec<IpNet>,
    own: BTreeSet<IpAddr>,
}

impl Locality {
    /// Where pods are known by the device that they come through, which a socket does not see, their subnet tells.
    pub fn of(program: &Program) -> Self {
        let subnets = program.networks.values().map(|network| network.subnet);
        let nets = match &program.pod_sources {
            PodSources::Cidrs(nets) => nets.clone(),
            PodSources::Interface(_) | PodSources::InterfacePrefix(_) => subnets.collect(),
        };
        Locality { nets, own: own_addresses(program).collect() }
    }

    /// `to`: the address that was connected to, which a process of the node may have as its source, too.
    fn holds(&self, source: IpAddr, to: IpAddr) -> bool {
        source == to
            || source.is_loopback()
            || self.own.contains(&source)
            || self.nets.iter().any(|net| net.contains(&source))
    }
}

impl Front {
    pub fn new(frontend: Frontend, binding: &Binding, locality: &Arc<Locality>) -> Self {
        let target = |pool: &Arc<Pool>| {
            let slots = Slots::of(pool, binding.scheduler);
            Arc::new(Target { pool: pool.clone(), slots })
        };
        let (inside, outside) = match &binding.action {
            Action::Balance { pool, .. } => {
                let target = target(pool);
                (Some(target.clone()), Some(target))
            }
            Action::BySource { inside, outside } => {
                (Some(target(inside)), outside.as_ref().map(target))
            }
            Action::Reject | Action::Drop => (None, None),
        };
        Front {
            service: ServiceKey::of(frontend, binding),
            sources: binding.sources.clone(),
            affinity: binding.affinity,
            scheduler: binding.scheduler,
            ways: Ways { inside, outside },
            locality: locality.clone(),
        }
    }

    /// Where a connection may go; `None`: nowhere, and the client is told nothing.
    pub fn target(&self, source: IpAddr, to: IpAddr) -> Option<&Arc<Target>> {
        let may = |nets: &Arc<[IpNet]>| nets.iter().any(|net| net.contains(&source));
        if !self.sources.as_ref().is_none_or(may) {
            return None;
        }
        let ways = &self.ways;
        if self.locality.holds(source, to) { ways.inside.as_ref() } else { ways.outside.as_ref() }
    }

    /// The only sources that get anywhere; `None`: all do.
    ///
    /// Other packets need not be let in at all, as far as this can tell: a process of the node may have the front
    /// end's own address, so that one is in it where it matters.
    pub fn admitted(&self, to: IpAddr) -> Option<Vec<IpNet>> {
        let inside = || {
            let own = self.locality.own.iter().copied().map(IpNet::from);
            let nets = self.locality.nets.iter().copied().chain(own).chain([IpNet::from(to)]);
            nets.chain([loopback(to)])
        };
        let nobody = self.ways.inside.is_none() && self.ways.outside.is_none();
        let mut admitted = match (&self.sources, &self.ways.outside) {
            _ if nobody => Vec::new(),
            (None, Some(_)) => return None,
            (None, None) => inside().collect(),
            (Some(sources), Some(_)) => sources.to_vec(),
            (Some(sources), None) => common(sources, inside()),
        };
        admitted.retain(|net| net.addr().is_ipv4() == to.is_ipv4());
        Some(admitted)
    }
}

impl ServiceKey {
    pub fn of(frontend: Frontend, binding: &Binding) -> Self {
        ServiceKey {
            port: binding.port.clone(),
            protocol: frontend.protocol,
            family: frontend.scope.family(),
        }
    }
}

/// Where a front end is listened for.
pub fn doors(program: &Program, frontend: Frontend) -> Vec<Door> {
    let door = |address| Door {
        protocol: frontend.protocol,
        address: SocketAddr::new(address, frontend.port),
    };
    match frontend.scope {
        Scope::Address(address) => vec![door(address)],
        Scope::NodePort(family) => {
            let own: BTreeSet<_> = own_addresses(program).chain(loopbacks()).collect();
            let answering = own.into_iter().filter(|address| Family::of(*address) == family);
            answering.filter(|address| program.is_node_port_address(*address)).map(door).collect()
        }
    }
}

/// What is to be heard at a door; `None`: nobody listens there, and clients are refused.
pub fn bound(program: &Program, door: Door) -> Option<(Frontend, &Binding)> {
    let Door { protocol, address } = door;
    let find = |scope| {
        let frontend = Frontend { scope, protocol, port: address.port() };
        program.services.get(&frontend).map(|binding| (frontend, binding))
    };
    let node_port = || {
        let answers = program.is_node_port_address(address.ip());
        answers.then(|| find(Scope::NodePort(Family::of(address.ip())))).flatten()
    };
    find(Scope::Address(address.ip()))
        .or_else(node_port)
        .filter(|(_, binding)| binding.action != Action::Reject)
}

/// What is local before anything is done about it.
fn own_addresses(program: &Program) -> impl Iterator<Item = IpAddr> {
    let networks = program.networks.values();
    let networks = networks.flat_map(|network| [network.gateway, network.tunnel_address]);
    program.addresses.iter().copied().chain(networks)
}

fn loopbacks() -> [IpAddr; 2] {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

fn loopback(like: IpAddr) -> IpNet {
    let v4 = || IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8);
    if like.is_ipv4() { v4() } else { IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)) }
}

/// What prefixes have in common: of two that overlap, one holds the other.
fn common(some: &[IpNet], others: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let both = |other: IpNet| {
        some.iter().filter_map(move |one| match (one.contains(&other), other.contains(one)) {
            (true, _) => Some(other),
            (false, true) => Some(*one),
            (false, false) => None,
        })
    };
    others.flat_map(both).collect()
}
