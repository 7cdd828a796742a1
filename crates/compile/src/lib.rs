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
mod virtual_ip;

pub use finding::{Code, Finding};

use ipnet::IpNet;
use model::{Touched, World};
use program::{Change, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What holds for the whole cluster and is in no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// All pods' addresses (`--cluster-cidr`): other sources count as outside.
    pub cluster_cidrs: Vec<IpNet>,
}

/// The whole program of a node.
pub fn compile(world: &World, node: &str, settings: &Settings) -> (Program, Vec<Finding>) {
    let mut compiler = Compiler { world, node, settings, findings: Vec::new() };
    let mut program = Program::default();
    let mut touched: Vec<Touched> =
        world.nodes().map(|node| Touched::Node(node.meta.key.name.clone())).collect();
    touched.extend(world.services().map(|service| Touched::Service(service.meta.key.clone())));
    touched.extend(world.pods_on(node).map(|pod| Touched::Pod(pod.meta.key.clone())));
    for touched in &touched {
        compiler.update(&mut program, touched);
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
    fn update(&mut self, program: &mut Program, touched: &Touched) -> Vec<Change> {
        match touched {
            Touched::Node(name) if &**name == self.node => self.update_own_node(program),
            Touched::Node(name) => self.update_peer(program, name),
            Touched::Pod(key) => {
                program.replace_pod(key, network::local_pod(self.world, self.node, key))
            }
            Touched::Service(key) => {
                let bindings = service::bindings(self.world, key, &mut self.findings);
                program.replace_service(key, bindings)
            }
            Touched::VirtualIp(_) => Vec::new(),
        }
    }

    fn update_own_node(&mut self, program: &mut Program) -> Vec<Change> {
        let node = self.world.node(self.node);
        let addresses = node.map(|node| node.addresses.clone()).unwrap_or_default();
        let network = node.and_then(|node| network::own(node, self.settings, &mut self.findings));
        let mut changes = Vec::new();
        if program.addresses != addresses {
            let before = std::mem::replace(&mut program.addresses, addresses.clone());
            changes.push(Change::Addresses { before, after: addresses });
        }
        if program.network != network {
            let before = std::mem::replace(&mut program.network, network.clone());
            changes.push(Change::Network { before, after: network });
        }
        changes
    }

    fn update_peer(&mut self, program: &mut Program, name: &Arc<str>) -> Vec<Change> {
        let node = self.world.node(name);
        let after = node.and_then(|node| network::peer(node, &mut self.findings));
        let before = match &after {
            Some(peer) => program.peers.insert(name.clone(), peer.clone()),
            None => program.peers.remove(name),
        };
        if before == after {
            return Vec::new();
        }
        vec![Change::Peer { node: name.clone(), before, after }]
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
