//! A cluster and one of its nodes, compiled to what that node must do.
//!
//! *Here*: the semantics of Kubernetes objects, written once: [`compile`] for a whole node and
//! [`recompile`] for what one change touches; both give the same program.
//! *Not here*: the objects (crate `model`), the program's meaning (crate `program`), the kernel.
//! *Start at* [`compile`], then `service.rs`.
//!
//! One bad object never stops the others: what is wrong with it is a [`Finding`].

mod finding;
mod network;
mod service;
mod settings;
mod virtual_ip;

pub use finding::{Code, Finding};

pub use model::LocalDetection;
pub use settings::Settings;

use model::{Family, Kind, Origin, Touched, World};
use program::{Change, PodSources, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The whole program of a node.
pub fn compile(world: &World, node: &str, settings: &Settings) -> (Program, Vec<Finding>) {
    let mut compiler = Compiler { world, node, settings, findings: Vec::new() };
    let mut program = Program { node_ports: settings.node_ports.clone(), ..Program::default() };
    compiler.update_own_node(&mut program);
    compiler.update_service_cidrs(&mut program);
    for name in world.nodes().map(|node| &node.meta.key.name).filter(|name| &***name != node) {
        compiler.update_peer(&mut program, name);
    }
    compiler.update_services(&mut program);
    for pod in world.pods_on(node) {
        compiler.update(&mut program, &Touched::Pod(pod.meta.key.clone()));
    }
    compiler.update_virtual_ips(&mut program);
    (program, compiler.findings)
}

/// Brings a program up to date with the world after a change of `touched`.
///
/// The cost is proportional to what is touched, not to the cluster.
pub fn recompile(
    program: &mut Program,
    world: &World,
    node: &str,
    settings: &Settings,
    touched: &Touched,
) -> (Vec<Change>, Vec<Finding>) {
    let mut compiler = Compiler { world, node, settings, findings: Vec::new() };
    let mut changes = compiler.update(program, touched);
    if matches!(touched, Touched::Node(_) | Touched::VirtualIp(_)) {
        changes.extend(compiler.update_virtual_ips(program));
    }
    (changes, compiler.findings)
}

/// The virtual IPs that a node takes part in, and nothing else of its program.
pub fn virtual_ips(
    world: &World,
    node: &str,
) -> (BTreeMap<Arc<str>, program::VirtualIp>, Vec<Finding>) {
    let mut findings = Vec::new();
    let virtual_ips = virtual_ip::all(world, node, &mut findings);
    (virtual_ips, findings)
}

struct Compiler<'a> {
    world: &'a World,
    node: &'a str,
    settings: &'a Settings,
    findings: Vec<Finding>,
}

impl Compiler<'_> {
    fn find(&mut self, code: Code, origin: Origin, text: String) {
        self.findings.push(Finding { code, origin, text });
    }

    fn update(&mut self, program: &mut Program, touched: &Touched) -> Vec<Change> {
        match touched {
            Touched::Node(name) if &**name == self.node => {
                let place = |program: &Program| (program.addresses.clone(), program.zone.clone());
                let before = place(program);
                let mut changes = self.update_own_node(program);
                // Where the node is decides about hints, who it is about source ranges.
                if place(program) != before {
                    changes.extend(self.update_services(program));
                }
                changes
            }
            Touched::Node(name) => self.update_peer(program, name),
            Touched::Pod(key) => {
                program.replace_pod(key, network::local_pod(self.world, self.node, key))
            }
            Touched::Service(key) => {
                let served = service::served(self, key);
                program.replace_service(key, served.bindings, served.health_checks)
            }
            Touched::ServiceCidr(_) => self.update_service_cidrs(program),
            Touched::VirtualIp(_) => Vec::new(),
        }
    }

    fn update_services(&mut self, program: &mut Program) -> Vec<Change> {
        let world = self.world;
        let services = world.services().map(|service| Touched::Service(service.meta.key.clone()));
        services.flat_map(|touched| self.update(program, &touched)).collect()
    }

    fn update_own_node(&mut self, program: &mut Program) -> Vec<Change> {
        let node = self.world.node(self.node);
        let addresses = node.map(|node| node.addresses.clone()).unwrap_or_default();
        let leaving = node.is_some_and(|node| node.leaving);
        program.zone = node.and_then(|node| node.zone()).map(Arc::from);
        let pod_sources = self.pod_sources();
        let mut changes = Vec::new();
        if program.addresses != addresses {
            let before = std::mem::replace(&mut program.addresses, addresses.clone());
            changes.push(Change::Addresses { before, after: addresses });
        }
        if program.leaving != leaving {
            program.leaving = leaving;
            changes.push(Change::Leaving { after: leaving });
        }
        if program.pod_sources != pod_sources {
            let before = std::mem::replace(&mut program.pod_sources, pod_sources.clone());
            changes.push(Change::PodSources { before, after: pod_sources });
        }
        let wanted = node
            .map(|node| network::own(node, self.settings, &mut self.findings))
            .unwrap_or_default();
        let before = std::mem::replace(&mut program.networks, wanted);
        for family in Family::ALL {
            let (before, after) = (before.get(&family), program.networks.get(&family));
            if before != after {
                let (before, after) = (before.cloned(), after.cloned());
                changes.push(Change::Network { family, before, after });
            }
        }
        changes
    }

    fn pod_sources(&self) -> PodSources {
        match &self.settings.local_detection {
            LocalDetection::ClusterCidr => PodSources::Cidrs(self.settings.cluster_cidrs.clone()),
            LocalDetection::NodeCidr => {
                let node = self.world.node(self.node);
                PodSources::Cidrs(node.map(|node| node.pod_cidrs.clone()).unwrap_or_default())
            }
            LocalDetection::None => PodSources::default(),
            LocalDetection::BridgeInterface(name) => PodSources::Interface(name.clone()),
            LocalDetection::InterfaceNamePrefix(prefix) => {
                PodSources::InterfacePrefix(prefix.clone())
            }
        }
    }

    fn update_service_cidrs(&mut self, program: &mut Program) -> Vec<Change> {
        let mut after = BTreeMap::new();
        for object in self.world.service_cidrs() {
            for (index, net) in object.cidrs.iter().enumerate() {
                let (key, field) = (&object.meta.key, format!("spec.cidrs[{index}]"));
                let origin = Origin::new(Kind::ServiceCidr, &key.namespace, &key.name, &field);
                after.entry(*net).or_insert(origin);
            }
        }
        let before = std::mem::replace(&mut program.service_cidrs, after.clone());
        if before == after { Vec::new() } else { vec![Change::ServiceCidrs { before, after }] }
    }

    fn update_peer(&mut self, program: &mut Program, name: &Arc<str>) -> Vec<Change> {
        let node = self.world.node(name);
        let mut wanted =
            node.map(|node| network::peers(node, &mut self.findings)).unwrap_or_default();
        let mut changes = Vec::new();
        for family in Family::ALL {
            let (key, after) = ((family, name.clone()), wanted.remove(&family));
            let before = match &after {
                Some(peer) => program.peers.insert(key, peer.clone()),
                None => program.peers.remove(&key),
            };
            if before != after {
                changes.push(Change::Peer { family, node: name.clone(), before, after });
            }
        }
        changes
    }

    fn update_virtual_ips(&mut self, program: &mut Program) -> Vec<Change> {
        let wanted = virtual_ip::all(self.world, self.node, &mut self.findings);
        let before = std::mem::replace(&mut program.virtual_ips, wanted);
        let after = &program.virtual_ips;
        let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        changed
            .map(|name| Change::VirtualIp {
                name: name.clone(),
                before: before.get(name).cloned(),
                after: after.get(name).cloned(),
            })
            .collect()
    }
}
