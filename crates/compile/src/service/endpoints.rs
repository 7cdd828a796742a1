//! Who answers behind a port of a Service, seen from one node.

use super::PROXY_NAME;
use model::{
    EndpointSlice, Family, Hints, Kind, ObjectKey, Origin, ServicePort, World, endpoint_field,
};
use program::{Endpoint, Pool, Reach, Standing};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Slices with this label belong to headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) fn is_proxied_slice(slice: &EndpointSlice) -> bool {
    let labels = &slice.meta.labels;
    !labels.contains_key(HEADLESS) && !labels.contains_key(PROXY_NAME)
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
    slice: &'a EndpointSlice,
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
    fn add(&mut self, slice: &'a EndpointSlice, port: u16, family: Family) {
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
        let meant = |hints: &Hints| match reach {
            Reach::Node => hints.nodes.iter().any(|node| node == here.node),
            Reach::Zone => hints.zones.iter().any(|zone| Some(zone.as_str()) == here.zone),
            Reach::Cluster | Reach::Local => true,
        };
        self.pool(reach, |it| it.ready && meant(&it.hints))
            .or_else(|| self.leaving(Reach::Cluster, |_| true))
    }

    /// Those on this node.
    pub(super) fn local(&self, here: &Here<'_>) -> Option<Arc<Pool>> {
        let is_here = |it: &model::Endpoint| it.node.as_deref() == Some(here.node);
        self.pool(Reach::Local, |it| it.ready && is_here(it))
            .or_else(|| self.leaving(Reach::Local, is_here))
    }

    pub(super) fn standing(&self) -> Arc<[Standing]> {
        let standing = |(address, it): (&SocketAddr, &Candidate<'_>)| Standing {
            address: *address,
            serving: it.endpoint.serving,
        };
        self.0.iter().map(standing).collect()
    }

    fn reach(&self, here: &Here<'_>) -> Reach {
        let ready = || self.0.values().map(|it| it.endpoint).filter(|endpoint| endpoint.ready);
        let hinted = |list: fn(&Hints) -> &Vec<String>, ours: Option<&str>| {
            ready().all(|it| !list(&it.hints).is_empty())
                && ready().any(|it| list(&it.hints).iter().any(|name| Some(name.as_str()) == ours))
        };
        if hinted(|hints| &hints.nodes, Some(here.node)) {
            Reach::Node
        } else if hinted(|hints| &hints.zones, here.zone) {
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
        let endpoints: Vec<_> = wanted.map(|(address, it)| it.endpoint(*address)).collect();
        (!endpoints.is_empty()).then(|| Arc::new(Pool { endpoints, reach, terminating: false }))
    }
}

impl Candidate<'_> {
    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let key = &self.slice.meta.key;
        let field = endpoint_field(self.index);
        Endpoint {
            address,
            node: self.endpoint.node.clone(),
            pod: self.endpoint.pod.clone(),
            origin: Origin {
                kind: Kind::EndpointSlice,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                field,
            },
            weight: self.endpoint.weight,
        }
    }
}
