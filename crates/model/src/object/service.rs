//! Services.

use crate::field::{Field, FieldError};
use crate::named::named;
use crate::object::{Meta, PortRef, Protocol};
use crate::selector::Selector;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub meta: Meta,
    pub kind: ServiceType,
    /// `spec.clusterIPs`, else `spec.clusterIP`; empty for headless Services and where none is allocated yet.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `None`: the endpoints are made by hand.
    pub selector: Option<Selector>,
    pub ports: Box<[ServicePort]>,
    pub publish_not_ready_addresses: bool,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`, as far as it has addresses.
    pub ingress: Vec<LoadBalancerIngress>,
    /// `spec.loadBalancerSourceRanges`; empty: anybody.
    pub source_ranges: Vec<IpNet>,
    pub external_policy: TrafficPolicy,
    pub internal_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// How long a client keeps its endpoint (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
    /// Annotation `podway.io/lb-algorithm`; `None`: the back end's own way, or a word that is no scheduler.
    pub scheduler: Option<Scheduler>,
}

/// Which endpoints a connection may go to: all, or those on the node that it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}

/// An address that a load balancer answers on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancerIngress {
    pub ip: IpAddr,
    pub mode: IngressMode,
}

/// `ipMode`: whether packets arrive on nodes still addressed to the load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngressMode {
    Vip,
    Proxy,
}

/// How an endpoint is chosen, by the names of IPVS's schedulers; `random` is what netfilter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheduler {
    Random,
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    LocalityLeastConnection,
    DestinationHash,
    SourceHash,
    ShortestExpectedDelay,
    NeverQueue,
    Maglev,
}

named!(Scheduler {
    Random = "random",
    RoundRobin = "rr",
    WeightedRoundRobin = "wrr",
    LeastConnection = "lc",
    WeightedLeastConnection = "wlc",
    LocalityLeastConnection = "lblc",
    DestinationHash = "dh",
    SourceHash = "sh",
    ShortestExpectedDelay = "sed",
    NeverQueue = "nq",
    Maglev = "mh",
});

/// The text names no scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of random, rr, wrr, lc, wlc, lblc, dh, sh, sed, nq and mh")]
pub struct UnknownScheduler;

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Scheduler::by_name(text).ok_or(UnknownScheduler)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for the only port of a Service.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub target: PortRef,
    pub node_port: Option<u16>,
}

impl Service {
    /// Somebody else's proxy serves objects with this label, Services and slices alike.
    pub const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
    /// Names the scheduler of a Service.
    pub const SCHEDULER: &str = "podway.io/lb-algorithm";

    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let spec = object.at("spec");
        let selector = spec.at("selector").strings()?;
        let ports = spec.at("ports").items()?;
        Ok(Service {
            kind: ServiceType::parse(&spec.at("type"))?,
            cluster_ips: cluster_ips(&spec)?,
            headless: spec.at("clusterIP").optional_text()? == Some("None"),
            selector: (!selector.is_empty()).then(|| Selector::from_labels(selector)),
            ports: ports.iter().map(ServicePort::parse).collect::<Result<_, _>>()?,
            publish_not_ready_addresses: spec
                .at("publishNotReadyAddresses")
                .optional_bool()?
                .unwrap_or(false),
            external_ips: addresses(&spec.at("externalIPs"))?,
            ingress: ingress(object)?,
            source_ranges: source_ranges(&spec)?,
            external_policy: TrafficPolicy::parse(&spec.at("externalTrafficPolicy"))?,
            internal_policy: TrafficPolicy::parse(&spec.at("internalTrafficPolicy"))?,
            health_check_node_port: spec
                .at("healthCheckNodePort")
                .optional_number::<u16>("a port number")?
                .filter(|port| *port != 0),
            affinity: affinity(&spec)?,
            scheduler: meta.annotations.get(Service::SCHEDULER).and_then(|name| name.parse().ok()),
            meta,
        })
    }
}

impl ServiceType {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        match field.optional_text()? {
            None | Some("ClusterIP") => Ok(ServiceType::ClusterIp),
            Some("NodePort") => Ok(ServiceType::NodePort),
            Some("LoadBalancer") => Ok(ServiceType::LoadBalancer),
            Some("ExternalName") => Ok(ServiceType::ExternalName),
            Some(_) => Err(field.error("ClusterIP, NodePort, LoadBalancer or ExternalName")),
        }
    }
}

impl ServicePort {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let port = field.at("port").port()?;
        let node_port = field.at("nodePort").optional_number::<u16>("a node port number")?;
        Ok(ServicePort {
            name: field.at("name").optional_text()?.unwrap_or_default().to_owned(),
            protocol: Protocol::parse(&field.at("protocol"))?,
            port,
            target: PortRef::parse(&field.at("targetPort"))?.unwrap_or(PortRef::Number(port)),
            node_port: node_port.filter(|port| *port != 0),
        })
    }
}

impl TrafficPolicy {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        match field.optional_text()? {
            None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
            Some("Local") => Ok(TrafficPolicy::Local),
            Some(_) => Err(field.error("Cluster or Local")),
        }
    }
}

/// Entries that have a name only are somebody else's to resolve.
fn ingress(object: &Field<'_>) -> Result<Vec<LoadBalancerIngress>, FieldError> {
    let mut ingress = Vec::new();
    for entry in object.at("status").at("loadBalancer").at("ingress").items()? {
        let (ip, mode) = (entry.at("ip"), entry.at("ipMode"));
        if ip.optional_text()?.is_none_or(str::is_empty) {
            continue;
        }
        let mode = match mode.optional_text()? {
            None | Some("VIP") => IngressMode::Vip,
            Some("Proxy") => IngressMode::Proxy,
            Some(_) => return Err(mode.error("VIP or Proxy")),
        };
        ingress.push(LoadBalancerIngress { ip: ip.ip()?, mode });
    }
    Ok(ingress)
}

/// The API allows space around them.
fn source_ranges(spec: &Field<'_>) -> Result<Vec<IpNet>, FieldError> {
    let parse = |entry: &Field<'_>| {
        let parsed = entry.text()?.trim().parse::<IpNet>();
        parsed.map(|net| net.trunc()).map_err(|_reason| entry.error("a prefix like 192.0.2.0/24"))
    };
    spec.at("loadBalancerSourceRanges").items()?.iter().map(parse).collect()
}

fn affinity(spec: &Field<'_>) -> Result<Option<Duration>, FieldError> {
    const DEFAULT: u32 = 10_800;
    let field = spec.at("sessionAffinity");
    match field.optional_text()? {
        None | Some("" | "None") => Ok(None),
        Some("ClientIP") => {
            let seconds = spec.at("sessionAffinityConfig").at("clientIP").at("timeoutSeconds");
            let seconds = seconds.optional_number::<u32>("seconds from 1 to 86400")?;
            Ok(Some(Duration::from_secs(u64::from(seconds.unwrap_or(DEFAULT)))))
        }
        Some(_) => Err(field.error("None or ClientIP")),
    }
}

fn addresses(list: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    list.items()?.iter().map(Field::ip).collect()
}

fn cluster_ips(spec: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    let mut listed = spec.at("clusterIPs").items()?;
    if listed.is_empty() {
        listed.push(spec.at("clusterIP"));
    }
    let mut addresses = Vec::new();
    for entry in &listed {
        match entry.optional_text()? {
            None | Some("" | "None") => {}
            Some(_) => addresses.push(entry.ip()?),
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;
    use serde_json::json;

    fn service(spec: serde_json::Value, status: serde_json::Value) -> Result<Service, String> {
        let metadata = json!({"name": "s", "annotations": {"podway.io/lb-algorithm": "mh"}});
        let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status});
        match Object::parse(&value) {
            Ok(Object::Service(service)) => Ok(service),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn everything_that_a_proxy_must_know() {
        let spec = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"],
            "loadBalancerSourceRanges": [" 192.0.2.128/25 "],
        });
        let ingress = json!([{"ip": "192.0.2.2"}, {"hostname": "x"}, {"ip": "2001:db8::1", "ipMode": "Proxy"}]);
        let service = service(spec, json!({"loadBalancer": {"ingress": ingress}})).unwrap();
        assert_eq!(service.external_policy, TrafficPolicy::Local);
        assert_eq!(service.internal_policy, TrafficPolicy::Cluster);
        assert_eq!(service.health_check_node_port, Some(31_000));
        assert_eq!(service.affinity, Some(Duration::from_secs(10_800)));
        assert_eq!(service.external_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(service.source_ranges, ["192.0.2.128/25".parse().unwrap()]);
        let modes: Vec<_> = service.ingress.iter().map(|ingress| ingress.mode).collect();
        assert_eq!(modes, [IngressMode::Vip, IngressMode::Proxy]);
        assert_eq!(service.scheduler, Some(Scheduler::Maglev));
    }

    #[test]
    fn what_is_refused_names_its_field() {
        for (spec, field) in [
            (json!({"externalTrafficPolicy": "local"}), "externalTrafficPolicy"),
            (json!({"sessionAffinity": "Cookie"}), "sessionAffinity"),
            (json!({"loadBalancerSourceRanges": ["10.0.0.0/33"]}), "loadBalancerSourceRanges[0]"),
            (json!({"externalIPs": ["x"]}), "externalIPs[0]"),
        ] {
            let error = service(spec, json!({})).unwrap_err();
            assert!(error.contains(&format!("spec.{field}")), "{error}");
        }
    }

    #[test]
    fn schedulers_read_what_they_write() {
        for scheduler in Scheduler::ALL {
            assert_eq!(scheduler.to_string().parse(), Ok(scheduler));
        }
        assert_eq!("wlc".parse(), Ok(Scheduler::WeightedLeastConnection));
        assert_eq!("fastest".parse::<Scheduler>(), Err(UnknownScheduler));
    }
}
