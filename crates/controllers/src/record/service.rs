use super::{items, text, time};
use jiff::Timestamp;
use model::{Object, ServiceType};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// `addressType` of slices.
    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) base: model::Service,
    /// The families it has addresses in; a headless one without `ipFamilies` takes what its pods have.
    pub(crate) families: BTreeSet<Family>,
    /// The first of them, as the Service has them.
    pub(crate) primary: Family,
    pub(crate) created: Option<Timestamp>,
    pub(crate) distribution: Distribution,
    /// `appProtocol` by port name.
    pub(crate) app_protocols: BTreeMap<String, String>,
}

/// `spec.trafficDistribution`: which endpoints traffic should prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    Alike,
    SameZone,
    SameNode,
}

impl Distribution {
    /// What nobody knows is no wish: the API server refuses it.
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("PreferSameZone" | "PreferClose") => Distribution::SameZone,
            Some("PreferSameNode") => Distribution::SameNode,
            _ => Distribution::Alike,
        }
    }
}

impl Service {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let Ok(Object::Service(base)) = Object::parse(value) else { return None };
        Some(Service {
            families: families(value, &base),
            primary: primary(value, &base),
            created: time(value, "/metadata/creationTimestamp"),
            distribution: Distribution::parse(text(value, "/spec/trafficDistribution")),
            app_protocols: app_protocols(value),
            base,
        })
    }

    /// Its endpoints are for us to find.
    pub(crate) fn is_selecting(&self) -> bool {
        self.base.selector.is_some() && self.base.kind != ServiceType::ExternalName
    }
}

/// `spec.ipFamilies`.
fn listed(value: &Value) -> impl Iterator<Item = Family> {
    items(value, "/spec/ipFamilies").iter().filter_map(|family| match family.as_str() {
        Some("IPv4") => Some(Family::V4),
        Some("IPv6") => Some(Family::V6),
        _ => None,
    })
}

fn primary(value: &Value, base: &model::Service) -> Family {
    let assigned = || base.cluster_ips.first().map(|address| Family::of(*address));
    listed(value).next().or_else(assigned).unwrap_or(Family::V4)
}

fn families(value: &Value, base: &model::Service) -> BTreeSet<Family> {
    let listed: BTreeSet<_> = listed(value).collect();
    if !listed.is_empty() {
        return listed;
    }
    let assigned: BTreeSet<_> =
        base.cluster_ips.iter().map(|address| Family::of(*address)).collect();
    if !assigned.is_empty() {
        return assigned;
    }
    if base.headless { [Family::V4, Family::V6].into() } else { [Family::V4].into() }
}

fn app_protocols(value: &Value) -> BTreeMap<String, String> {
    let ports = items(value, "/spec/ports").iter();
    ports
        .filter_map(|port| {
            let name = text(port, "/name").unwrap_or_default();
            Some((name.to_owned(), text(port, "/appProtocol")?.to_owned()))
        })
        .collect()
}
