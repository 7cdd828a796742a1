//! Services: which front ends there are and what becomes of connections to them.

mod endpoints;

use crate::finding::Code;
use crate::{Compiler, LocalDetection, Settings};
use endpoints::{Candidates, Here, is_proxied_slice};
use ipnet::IpNet;
use model::{
    Family, IngressMode, Kind, ObjectKey, Origin, Scheduler, Service, ServicePort, ServiceType,
    TrafficPolicy,
};
use program::{
    Action, Binding, Frontend, FrontendKind, HealthCheckPort, Masquerade, Pool, Scope,
    ServicePortName, Standing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What one Service contributes to a node's program.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) bindings: BTreeMap<Frontend, Binding>,
    pub(crate) health_checks: BTreeMap<u16, HealthCheckPort>,
}

/// All of one Service; nothing when it does not exist or is none of our business.
pub(crate) fn served(compiler: &mut Compiler<'_>, key: &ObjectKey) -> Served {
    let Some(service) = compiler.world.service(key).filter(|service| is_proxied(service)) else {
        return Served::default();
    };
    if service.cluster_ips.is_empty() {
        let text = "no cluster IP is allocated yet".to_owned();
        compiler.find(Code::NoClusterIp, origin(key, "spec.clusterIP"), text);
    }
    let scheduler = scheduler(compiler, service);
    let mut bindings = BTreeMap::new();
    for (index, port) in service.ports.iter().enumerate() {
        let origin = origin(key, &format!("spec.ports[{index}]"));
        for family in families(service) {
            let bound = Port::new(compiler, service, port, &origin, family, scheduler).bindings();
            bindings.extend(bound);
        }
        let of_port = bindings.values().filter(|binding: &&Binding| binding.origin == origin);
        if of_port.clone().all(|binding| binding.action == Action::Reject) {
            let text = format!("port {} has no endpoint that could answer", port.port);
            compiler.find(Code::NoEndpoints, origin, text);
        }
    }
    Served { bindings, health_checks: health_checks(compiler, service) }
}

fn is_proxied(service: &Service) -> bool {
    !service.headless
        && service.kind != ServiceType::ExternalName
        && !service.meta.labels.contains_key(Service::PROXY_NAME)
}

fn families(service: &Service) -> BTreeSet<Family> {
    service.cluster_ips.iter().map(|ip| Family::of(*ip)).collect()
}

fn origin(service: &ObjectKey, field: &str) -> Origin {
    Origin::new(Kind::Service, &service.namespace, &service.name, field)
}

/// The scheduler that the Service asks for, where the back end has it.
fn scheduler(compiler: &mut Compiler<'_>, service: &Service) -> Option<Scheduler> {
    let name = service.meta.annotations.get(Service::SCHEDULER)?;
    let field = format!("metadata.annotations[{}]", Service::SCHEDULER);
    let origin = origin(&service.meta.key, &field);
    let Some(scheduler) = service.scheduler else {
        let text = format!("{name} is no scheduler: {}", model::object::service::UnknownScheduler);
        compiler.find(Code::SchedulerUnknown, origin, text);
        return None;
    };
    if compiler.settings.schedulers.contains(&scheduler) {
        return Some(scheduler);
    }
    let text = format!("this node's service proxy has no scheduler {name}: it uses its own way");
    compiler.find(Code::SchedulerUnsupported, origin, text);
    None
}

/// One port of a Service in one family.
struct Port<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    family: Family,
    name: ServicePortName,
    origin: &'a Origin,
    own_addresses: Vec<IpAddr>,
    settings: &'a Settings,
    scheduler: Option<Scheduler>,
    cluster: Option<Arc<Pool>>,
    local: Option<Arc<Pool>>,
    standing: Arc<[Standing]>,
}

impl<'a> Port<'a> {
    fn new(
        compiler: &Compiler<'a>,
        service: &'a Service,
        port: &'a ServicePort,
        origin: &'a Origin,
        family: Family,
        scheduler: Option<Scheduler>,
    ) -> Self {
        let (key, node) = (&service.meta.key, compiler.world.node(compiler.node));
        let candidates = Candidates::of(compiler.world, key, port, family);
        let here = Here { node: compiler.node, zone: node.and_then(|node| node.zone()) };
        Port {
            service,
            port,
            family,
            name: ServicePortName { service: key.clone(), port: port.name.as_str().into() },
            origin,
            own_addresses: node.map(|node| node.addresses.clone()).unwrap_or_default(),
            settings: compiler.settings,
            scheduler,
            cluster: candidates.cluster(&here),
            local: candidates.local(&here),
            standing: candidates.standing(),
        }
    }

    /// Of two front ends with one address and port the later one counts: a cluster IP before all others.
    fn bindings(&self) -> Vec<(Frontend, Binding)> {
        let mut bound = Vec::new();
        let external = self.external();
        for ingress in &self.service.ingress {
            if ingress.mode == IngressMode::Vip {
                let mut binding = self.binding(FrontendKind::LoadBalancer, external.clone());
                binding.sources = self.sources(ingress.ip);
                bound.push((Scope::Address(ingress.ip), self.port.port, binding));
            }
        }
        for ip in &self.service.external_ips {
            let binding = self.binding(FrontendKind::ExternalIp, external.clone());
            bound.push((Scope::Address(*ip), self.port.port, binding));
        }
        for ip in &self.service.cluster_ips {
            let binding = self.binding(FrontendKind::ClusterIp, self.internal());
            bound.push((Scope::Address(*ip), self.port.port, binding));
        }
        let has_node_port =
            matches!(self.service.kind, ServiceType::NodePort | ServiceType::LoadBalancer);
        if let Some(node_port) = self.port.node_port.filter(|_| has_node_port) {
            let binding = self.binding(FrontendKind::NodePort, external);
            bound.push((Scope::NodePort(self.family), node_port, binding));
        }
        let of_family = bound.into_iter().filter(|(scope, _, _)| scope.family() == self.family);
        let protocol = self.port.protocol;
        of_family.map(|(scope, port, it)| (Frontend { scope, protocol, port }, it)).collect()
    }

    fn binding(&self, kind: FrontendKind, action: Action) -> Binding {
        Binding {
            port: self.name.clone(),
            kind,
            origin: self.origin.clone(),
            sources: None,
            action,
            affinity: self.service.affinity,
            scheduler: self.scheduler,
            standing: self.standing.clone(),
        }
    }

    /// What becomes of connections to cluster IPs.
    fn internal(&self) -> Action {
        let masquerade = match (self.settings.masquerade_all, &self.settings.local_detection) {
            (true, _) => Masquerade::Always,
            (false, LocalDetection::None) => Masquerade::Never,
            (false, _) => Masquerade::FromOutside,
        };
        let pool = match self.service.internal_policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        };
        match (pool, &self.cluster) {
            (Some(pool), _) => Action::Balance { pool: pool.clone(), masquerade },
            (None, Some(_)) => Action::Drop,
            (None, None) => Action::Reject,
        }
    }

    /// What becomes of connections to all other front ends.
    fn external(&self) -> Action {
        match (&self.cluster, self.service.external_policy) {
            (None, _) => Action::Reject,
            (Some(pool), TrafficPolicy::Cluster) => {
                Action::Balance { pool: pool.clone(), masquerade: Masquerade::Always }
            }
            (Some(inside), TrafficPolicy::Local) => {
                Action::BySource { inside: inside.clone(), outside: self.local.clone() }
            }
        }
    }

    /// Who may connect to a load balancer's address. Where the node may, it may also with that very address as
    /// source: the address is often its own too, and then what it sends there is from there.
    fn sources(&self, address: IpAddr) -> Option<Arc<[IpNet]>> {
        let ranges = self.service.source_ranges.iter();
        let mut ranges: Vec<IpNet> =
            ranges.filter(|net| Family::of_net(net) == self.family).copied().collect();
        if ranges.is_empty() || ranges.iter().any(|net| net.prefix_len() == 0) {
            return None;
        }
        let holds_node = |net: &IpNet| self.own_addresses.iter().any(|own| net.contains(own));
        if ranges.iter().any(holds_node) {
            ranges.push(address.into());
        }
        let merged = IpNet::aggregate(&ranges);
        Some(merged.into())
    }
}

/// What load balancers ask to find the nodes that have endpoints.
fn health_checks(compiler: &Compiler<'_>, service: &Service) -> BTreeMap<u16, HealthCheckPort> {
    let asked = service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local;
    let Some(port) = service.health_check_node_port.filter(|_| asked) else {
        return BTreeMap::new();
    };
    let key = &service.meta.key;
    let slices = compiler.world.slices_of(key).filter(|slice| is_proxied_slice(slice));
    let here = slices.flat_map(|slice| &slice.endpoints).filter(|endpoint| {
        endpoint.ready && endpoint.node().is_some_and(|node| **node == *compiler.node)
    });
    let mut ready: BTreeMap<Family, BTreeSet<IpAddr>> = BTreeMap::new();
    for endpoint in here {
        ready.entry(Family::of(endpoint.address)).or_default().insert(endpoint.address);
    }
    let check = HealthCheckPort {
        service: key.clone(),
        local_endpoints: ready.values().map(BTreeSet::len).max().unwrap_or_default(),
        origin: origin(key, "spec.healthCheckNodePort"),
    };
    [(port, check)].into()
}
