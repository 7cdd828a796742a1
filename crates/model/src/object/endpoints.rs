//! EndpointSlices.

use crate::field::{Field, FieldError};
use crate::object::{Meta, ObjectKey, Protocol};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    pub meta: Meta,
    /// The Service it belongs to, from the label `kubernetes.io/service-name`.
    pub service: Option<ObjectKey>,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
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
    /// The pod it is, from `targetRef`.
    pub pod: Option<ObjectKey>,
    pub zone: Option<String>,
    pub hints: Hints,
    /// How many connections it is to get in proportion to others; 1 where nobody says.
    pub weight: u16,
}

/// For whom an endpoint is meant (`hints`); empty: nobody in particular.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

impl EndpointSlice {
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
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
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let addresses = field.at("addresses");
        let listed = addresses.items()?;
        let first = listed.first().ok_or_else(|| addresses.error("at least one address"))?;
        let conditions = field.at("conditions");
        let target = field.at("targetRef");
        let pod = match target.at("kind").optional_text()? {
            Some("Pod") => Some(ObjectKey::new(
                target.at("namespace").optional_text()?.unwrap_or("default"),
                target.at("name").text()?,
            )),
            _ => None,
        };
        Ok(Endpoint {
            address: first.ip()?,
            node: field.at("nodeName").optional_text()?.map(Arc::from),
            ready: conditions.at("ready").optional_bool()?.unwrap_or(true),
            serving: conditions.at("serving").optional_bool()?.unwrap_or(true),
            terminating: conditions.at("terminating").optional_bool()?.unwrap_or(false),
            pod,
            zone: field.at("zone").optional_text()?.map(str::to_owned),
            hints: Hints::parse(&field.at("hints"))?,
            weight: 1,
        })
    }
}

impl Hints {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let names = |list: &'static str| -> Result<Vec<String>, FieldError> {
            let names = field.at(list).items()?;
            names.iter().map(|entry| entry.at("name").text().map(str::to_owned)).collect()
        };
        Ok(Hints { zones: names("forZones")?, nodes: names("forNodes")? })
    }
}

/// The path of an endpoint in its slice: `endpoints[3]`.
///
/// A cluster has a hundred thousand endpoints and few different paths: they are made once.
pub fn endpoint_field(index: usize) -> Arc<str> {
    const LONGEST_SLICE: usize = 1000;
    static FIELDS: LazyLock<Vec<Arc<str>>> =
        LazyLock::new(|| (0..LONGEST_SLICE).map(field_of_endpoint).collect());
    FIELDS.get(index).cloned().unwrap_or_else(|| field_of_endpoint(index))
}

fn field_of_endpoint(index: usize) -> Arc<str> {
    format!("endpoints[{index}]").into()
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
        assert_eq!(slice.endpoints[0].hints.zones, ["a"]);
        assert_eq!(slice.endpoints[1].zone.as_deref(), Some("b"));
        assert_eq!(slice.endpoints[2].hints.nodes, ["n"]);
    }
}
