//! EndpointSlices.

use crate::field::{Field, FieldError};
use crate::name::{Shared, shared};
use crate::object::{Kind, Meta, ObjectKey, Protocol};
use crate::origin::Origin;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    pub meta: Meta,
    /// The Service it belongs to, from the label `kubernetes.io/service-name`.
    pub service: Option<ObjectKey>,
    pub ports: Box<[EndpointPort]>,
    pub endpoints: Box<[Endpoint]>,
    pods: PodNames,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// Empty for an unnamed port; equal to the Service port's name.
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
}

/// Small, for there may be a hundred thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of `addresses`: the only one that counts.
    pub address: IpAddr,
    /// `conditions.ready`; absent counts as true.
    pub ready: bool,
    /// `conditions.serving`; absent counts as true.
    pub serving: bool,
    pub terminating: bool,
    /// How many connections it is to get in proportion to others; 1 where nobody says.
    pub weight: u16,
    /// `None`: nowhere in particular.
    place: Option<Arc<Place>>,
    /// `None`: for nobody in particular.
    hints: Option<Box<Hints>>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    node: Option<Arc<str>>,
    zone: Option<Arc<str>>,
}

/// The names of a slice's pods, one after the other in one piece of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PodNames {
    text: Box<str>,
    /// Where each endpoint's name ends; that of one which is no pod is empty.
    ends: Box<[u32]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hints {
    zones: Box<[Arc<str>]>,
    nodes: Box<[Arc<str>]>,
}

impl EndpointSlice {
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// Slices with this label belong to headless Services.
    pub const HEADLESS: &str = "service.kubernetes.io/headless";
    /// Weights of endpoints that have another one than 1: `10.244.1.2=5,10.244.2.3=2`.
    pub const WEIGHTS: &str = "podway.io/weights";
    /// The heaviest that an endpoint can be.
    pub const HEAVIEST: u16 = 100;

    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let name = meta.labels.get(Self::SERVICE_NAME);
        let service = name.map(|name| ObjectKey {
            namespace: meta.key.namespace.clone(),
            name: name.as_str().into(),
        });
        let ports = object.at("ports").items()?;
        let endpoints = object.at("endpoints").items()?;
        let weights = weights(meta.annotations.get(Self::WEIGHTS).map_or("", String::as_str));
        let endpoint = |field: &Field<'_>| {
            let endpoint = Endpoint::parse(field)?;
            let weight = weights.get(&endpoint.address).copied().unwrap_or(1);
            Ok(Endpoint { weight, ..endpoint })
        };
        let pods = endpoints.iter().map(pod_name).collect::<Result<Vec<_>, _>>()?;
        Ok(EndpointSlice {
            service,
            ports: ports
                .iter()
                .filter_map(|port| EndpointPort::parse(port).transpose())
                .collect::<Result<_, _>>()?,
            endpoints: endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
            pods: PodNames::of(&pods),
            meta,
        })
    }
}

impl EndpointSlice {
    /// The name of the pod that an endpoint of it is, from `targetRef`; its namespace is the slice's.
    pub fn pod(&self, index: usize) -> Option<&str> {
        self.pods.get(index)
    }

    /// Where an endpoint of it comes from.
    pub fn origin(&self, index: usize) -> Origin {
        Origin {
            kind: Kind::EndpointSlice,
            namespace: self.meta.key.namespace.clone(),
            name: self.meta.key.name.clone(),
            field: format!("endpoints[{index}]").into(),
        }
    }
}

impl EndpointPort {
    /// `None` for a port that is absent or 0: such ports mean nothing.
    fn parse(field: &Field<'_>) -> Result<Option<Self>, FieldError> {
        let port = field.at("port").optional_number::<u16>("a port number from 0 to 65535")?;
        let Some(port) = port.filter(|port| *port != 0) else { return Ok(None) };
        Ok(Some(EndpointPort {
            name: field.at("name").optional_text()?.unwrap_or_default().to_owned(),
            port,
            protocol: Protocol::parse(&field.at("protocol"))?,
        }))
    }
}

impl PodNames {
    fn of(names: &[Option<&str>]) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for name in names {
            text.push_str(name.unwrap_or_default());
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        PodNames { text: text.into(), ends: ends.into() }
    }

    fn get(&self, index: usize) -> Option<&str> {
        let begin = index.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before))?;
        let name = self.text.get(*begin as usize..*self.ends.get(index)? as usize)?;
        (!name.is_empty()).then_some(name)
    }
}

impl Place {
    fn shared(self) -> Arc<Self> {
        static PLACES: Mutex<Shared<Place>> = Mutex::new(Shared::NONE);
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&self, || Arc::new(self.clone()))
    }
}

impl Endpoint {
    pub fn node(&self) -> Option<&Arc<str>> {
        self.place.as_ref()?.node.as_ref()
    }

    pub fn zone(&self) -> Option<&Arc<str>> {
        self.place.as_ref()?.zone.as_ref()
    }

    /// The zones that it is meant for (`hints`); empty: none in particular.
    pub fn meant_zones(&self) -> &[Arc<str>] {
        self.hints.as_deref().map_or(&[], |hints| &hints.zones)
    }

    /// The nodes that it is meant for, likewise.
    pub fn meant_nodes(&self) -> &[Arc<str>] {
        self.hints.as_deref().map_or(&[], |hints| &hints.nodes)
    }

    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let addresses = field.at("addresses");
        let listed = addresses.items()?;
        let first = listed.first().ok_or_else(|| addresses.error("at least one address"))?;
        let conditions = field.at("conditions");
        let name = |of: &'static str| field.at(of).optional_text().map(|name| name.map(shared));
        let place = Place { node: name("nodeName")?, zone: name("zone")? };
        let somewhere = place.node.is_some() || place.zone.is_some();
        Ok(Endpoint {
            address: first.ip()?,
            ready: conditions.at("ready").optional_bool()?.unwrap_or(true),
            serving: conditions.at("serving").optional_bool()?.unwrap_or(true),
            terminating: conditions.at("terminating").optional_bool()?.unwrap_or(false),
            weight: 1,
            place: somewhere.then(|| place.shared()),
            hints: Hints::parse(&field.at("hints"))?,
        })
    }
}

fn pod_name<'a>(endpoint: &Field<'a>) -> Result<Option<&'a str>, FieldError> {
    let target = endpoint.at("targetRef");
    match target.at("kind").optional_text()? {
        Some("Pod") => target.at("name").text().map(Some),
        _ => Ok(None),
    }
}

impl Hints {
    fn parse(field: &Field<'_>) -> Result<Option<Box<Self>>, FieldError> {
        let names = |list: &'static str| -> Result<Box<[Arc<str>]>, FieldError> {
            let names = field.at(list).items()?;
            names.iter().map(|entry| entry.at("name").text().map(shared)).collect()
        };
        let hints = Hints { zones: names("forZones")?, nodes: names("forNodes")? };
        let none = hints.zones.is_empty() && hints.nodes.is_empty();
        Ok((!none).then(|| Box::new(hints)))
    }
}

/// What is no weight counts for nothing: annotations are nobody's schema.
fn weights(text: &str) -> BTreeMap<IpAddr, u16> {
    let entries = text.split(',').filter_map(|entry| {
        let (address, weight) = entry.split_once('=')?;
        Some((address.trim().parse().ok()?, weight.trim().parse::<u16>().ok()?))
    });
    entries.map(|(address, weight)| (address, weight.clamp(1, EndpointSlice::HEAVIEST))).collect()
}

#[cfg(test)]
mod tests {
    use crate::object::Object;
    use serde_json::json;

    #[test]
    fn weights_and_hints() {
        let value = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s", "annotations": {"podway.io/weights": "10.0.0.1=5, ::1=0,x=3,10.0.0.2=900"}},
            "endpoints": [
                {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}]}},
                {"addresses": ["10.0.0.2"], "zone": "b"},
                {"addresses": ["10.0.0.3"], "hints": {"forNodes": [{"name": "n"}]}},
            ],
        });
        let Ok(Object::EndpointSlice(slice)) = Object::parse(&value) else { unreachable!() };
        let weights: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        assert_eq!(weights, [5, 100, 1]);
        assert_eq!(*slice.endpoints[0].meant_zones(), ["a".into()]);
        assert_eq!(slice.endpoints[1].zone().map(|zone| &**zone), Some("b"));
        assert_eq!(*slice.endpoints[2].meant_nodes(), ["n".into()]);
    }
}
