//! EndpointSlices.

use crate::field::{Field, FieldError};
use crate::name::shared;
use crate::object::{Kind, Meta, ObjectKey, Protocol};
use crate::origin::Origin;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    pub meta: Meta,
    /// The Service it belongs to, from the label `kubernetes.io/service-name`.
    pub service: Option<ObjectKey>,
    pub ports: Box<[EndpointPort]>,
    pub endpoints: Box<[Endpoint]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// Empty for an unnamed port; equal to the Service port's name.
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of `addresses`: the only one that counts.
    pub address: IpAddr,
    pub node: Option<Arc<str>>,
    /// `conditions.ready`; absent counts as true.
    pub ready: bool,
    /// `conditions.serving`; absent counts as true.
    pub serving: bool,
    pub terminating: bool,
    /// The name of the pod it is, from `targetRef`; its namespace is the slice's.
    pub pod: Option<Box<str>>,
    pub zone: Option<Arc<str>>,
    /// `None`: for nobody in particular.
    hints: Option<Box<Hints>>,
    /// How many connections it is to get in proportion to others; 1 where nobody says.
    pub weight: u16,
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
        Ok(EndpointSlice {
            service,
            ports: ports
                .iter()
                .filter_map(|port| EndpointPort::parse(port).transpose())
                .collect::<Result<_, _>>()?,
            endpoints: endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
            meta,
        })
    }
}

impl EndpointSlice {
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

impl Endpoint {
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
        let target = field.at("targetRef");
        let pod = match target.at("kind").optional_text()? {
            Some("Pod") => Some(target.at("name").text()?.into()),
            _ => None,
        };
        Ok(Endpoint {
            address: first.ip()?,
            node: field.at("nodeName").optional_text()?.map(shared),
            ready: conditions.at("ready").optional_bool()?.unwrap_or(true),
            serving: conditions.at("serving").optional_bool()?.unwrap_or(true),
            terminating: conditions.at("terminating").optional_bool()?.unwrap_or(false),
            pod,
            zone: field.at("zone").optional_text()?.map(shared),
            hints: Hints::parse(&field.at("hints"))?,
            weight: 1,
        })
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
        assert_eq!(slice.endpoints[1].zone.as_deref(), Some("b"));
        assert_eq!(*slice.endpoints[2].meant_nodes(), ["n".into()]);
    }
}
