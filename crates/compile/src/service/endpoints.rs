//! Who answers behind a port of a Service, seen from one node.

use model::{EndpointSlice, Family, ObjectKey, Service, ServicePort, World};
use program::{Endpoint, Pool, Reach, Standing};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) fn is_proxied_slice(slice: &EndpointSlice) -> bool {
    let labels = &slice.meta.labels;
    !labels.contains_key(EndpointSlice::HEADLESS) && !labels.contains_key(Service::PROXY_NAME)
}

/// Where the choice is made.
pub(super) struct Here<'a> {
    pub(super) node: &'a str,
    pub(super) zone: Option<&'a str>,
}

/// All endpoints of a Service's port in one family.
pub(super) struct Candidates<'a>(BTreeMap<SocketAddr, Candidate<'a>>);

#[derive(Clone, Copy)]
struct Candidate<'a> {
    slice: &'a Arc<EndpointSlice>,
    index: usize,
    endpoint: &'a model::Endpoint,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(
        world: &'a World,
        service: &ObjectKey,
        port: &ServicePort,
        family: Family,
    ) -> Self {
        let mut candidates = Candidates(BTreeMap::new());
        for slice in world.slices_of(service).filter(|slice| is_proxied_slice(slice)) {
            let named = slice.ports.iter().filter(|have| have.name == port.name);
            for have in named.filter(|have| have.protocol == port.protocol) {
                candidates.add(slice, have.port, family);
            }
        }
        candidates
    }

    /// Slices may overlap: of two entries with one address the one that is not about to go counts.
    fn add(&mut self, slice: &'a Arc<EndpointSlice>, port: u16, family: Family) {
        let prospects =
            |endpoint: &model::Endpoint| (endpoint.terminating, !endpoint.ready, !endpoint.serving);
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            if Family::of(endpoint.address) != family {
                continue;
            }
            let address = SocketAddr::new(endpoint.address, port);
            let have = self.0.get(&address).map(|have| prospects(have.endpoint));
            if have.is_none_or(|have| prospects(endpoint) < have) {
                self.0.insert(address, Candidate { slice, index, endpoint });
            }
        }
    }

    /// Those that a connection may go to wherever it came in: as hints say, where all have some.
    pub(super) fn cluster(&self, here: &Here<'_>) -> Option<Arc<Pool>> {
        let reach = self.reach(here);
        let meant = |it: &model::Endpoint| match reach {
            Reach::Node => it.meant_nodes().iter().any(|node| **node == *here.node),
            Reach::Zone => it.meant_zones().iter().any(|zone| Some(&**zone) == here.zone),
            Reach::Cluster | Reach::Local => true,
        };
        self.pool(reach, |it| it.ready && meant(it))
            .or_else(|| self.leaving(Reach::Cluster, |_| true))
    }

    /// Those on this node.
    pub(super) fn local(&self, here: &Here<'_>) -> Option<Arc<Pool>> {
        let is_here = |it: &model::Endpoint| it.node().is_some_and(|node| **node == *here.node);
        self.pool(Reach::Local, |it| it.ready && is_here(it))
            .or_else(|| self.leaving(Reach::Local, is_here))
    }

    pub(super) fn standing(&self) -> Arc<[Standing]> {
        let standing = |(address, it): (&SocketAddr, &Candidate<'_>)| Standing {
            ip: address.ip(),
            port: address.port(),
            serving: it.endpoint.serving,
        };
        self.0.iter().map(standing).collect()
    }

    fn reach(&self, here: &Here<'_>) -> Reach {
        let ready = || self.0.values().map(|it| it.endpoint).filter(|endpoint| endpoint.ready);
        let hinted = |list: fn(&model::Endpoint) -> &[Arc<str>], ours: Option<&str>| {
            ready().all(|it| !list(it).is_empty())
                && ready().any(|it| list(it).iter().any(|name| Some(&**name) == ours))
        };
        if hinted(model::Endpoint::meant_nodes, Some(here.node)) {
            Reach::Node
        } else if hinted(model::Endpoint::meant_zones, here.zone) {
            Reach::Zone
        } else {
            Reach::Cluster
        }
    }

    /// KEP-1669: where nobody is ready, those that still serve while they terminate.
    fn leaving(
        &self,
        reach: Reach,
        is_meant: impl Fn(&model::Endpoint) -> bool,
    ) -> Option<Arc<Pool>> {
        let pool = self.pool(reach, |it| it.serving && it.terminating && is_meant(it))?;
        Some(Arc::new(Pool { terminating: true, ..Arc::unwrap_or_clone(pool) }))
    }

    fn pool(
        &self,
        reach: Reach,
        is_wanted: impl Fn(&model::Endpoint) -> bool,
    ) -> Option<Arc<Pool>> {
        let wanted = self.0.iter().filter(|(_, it)| is_wanted(it.endpoint));
        let endpoints: Box<[_]> = wanted
            .filter_map(|(address, it)| Endpoint::of(it.slice, it.index, address.port()))
            .collect();
        (!endpoints.is_empty()).then(|| Arc::new(Pool { endpoints, reach, terminating: false }))
    }
}
