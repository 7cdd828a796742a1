use super::{Endpoint, Family, Hints, Port, Target, items, meta, owned_text, text, version};
use model::Meta;
use serde_json::Value;

/// Endpoints: the older form of EndpointSlices, written by hand where a Service selects nothing, else by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoints {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) subsets: Vec<Subset>,
}

/// Addresses that all answer on these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subset {
    /// Sorted.
    pub(crate) ports: Vec<Port>,
    /// The ready ones first.
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Endpoints {
    /// Label: who writes them.
    pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
    /// Its value where that is us, or kube-controller-manager in our place.
    pub(crate) const MANAGER: &str = "endpoint-controller";
    /// Annotation: some addresses are left out.
    pub(crate) const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
    /// Annotation: no endpoints but somebody's lock.
    const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";

    pub(crate) fn parse(value: &Value) -> Option<Self> {
        Some(Endpoints {
            meta: meta(value)?,
            version: version(value),
            subsets: items(value, "/subsets").iter().map(Subset::parse).collect(),
        })
    }

    /// They say that nobody wants slices of them, or are no endpoints but somebody's lock.
    pub(crate) fn is_skipped(&self) -> bool {
        let skip = self.meta.labels.get("endpointslice.kubernetes.io/skip-mirror");
        skip.is_some_and(|skip| skip == "true") || self.is_lock()
    }

    pub(crate) fn is_lock(&self) -> bool {
        self.meta.annotations.contains_key(Self::LOCK)
    }
}

impl Subset {
    fn parse(value: &Value) -> Self {
        let of = |list: &str, ready: bool| {
            items(value, list).iter().filter_map(move |address| endpoint(address, ready))
        };
        let mut ports: Vec<_> = items(value, "/ports").iter().filter_map(Port::parse).collect();
        ports.sort_unstable();
        let endpoints = of("/addresses", true).chain(of("/notReadyAddresses", false)).collect();
        Subset { ports, endpoints }
    }

    pub(crate) fn of_family(&self, family: Family) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(move |endpoint| Family::of(endpoint.address) == family)
    }
}

fn endpoint(value: &Value, ready: bool) -> Option<Endpoint> {
    Some(Endpoint {
        address: text(value, "/ip")?.parse().ok()?,
        ready,
        serving: ready,
        terminating: false,
        hostname: owned_text(value, "/hostname"),
        node: owned_text(value, "/nodeName"),
        zone: None,
        target: value.get("targetRef").map(Target::parse),
        hints: Hints::default(),
        weight: 1,
    })
}
