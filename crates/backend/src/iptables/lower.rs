//! A program, and a change of one, to rule sets and changes of them, for one family. Pure.

use super::frame::{Frame, address, comment};
use super::names::{self, PortKey};
use super::port::PortRules;
use crate::usage::Usage;
use model::Family;
use netstate::iptables::{
    ChainDelta, Delta, Match, Protocol, Rule, RuleSet, Scope, Side, TableName, Target,
};
use program::{Binding, Change, Frontend, FrontendKind, HealthCheckPort, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All rules.
pub fn rules(program: &Program, frame: &Frame) -> RuleSet {
    let index = Index::of(program, frame.family);
    let mut rules = frame.rules();
    let mut delta = Delta::default();
    for (key, frontends) in &index.ports {
        difference(&PortRules::default(), &PortRules::of(key, frontends, frame), &mut delta);
    }
    for address in index.addresses.keys() {
        delta.edit(TableName::Filter, frame.address_chain(*address), &[], &refuse_ports(*address));
    }
    let checks = program.health_checks.iter().map(|(port, check)| admit(*port, check));
    delta.edit(TableName::Filter, names::NODE_PORTS, &[], &checks.collect::<Vec<_>>());
    delta.apply(&mut rules);
    rules
}

/// What becomes ours of what is in the kernel.
pub fn with_scope<T>(frame: &Frame, act: impl FnOnce(&Scope<'_>) -> T) -> T {
    act(&Scope { owns: &names::is_own, unordered: &|table, chain| frame.tail(table, chain) })
}

/// Front ends by the Service port that their chains belong to, so that a change knows what it meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    family: Family,
    ports: BTreeMap<PortKey, BTreeMap<Frontend, Binding>>,
    /// Cluster IPs.
    addresses: Usage<IpAddr>,
}

impl Index {
    pub fn empty(family: Family) -> Self {
        Index { family, ports: BTreeMap::new(), addresses: Usage::default() }
    }

    pub fn of(program: &Program, family: Family) -> Self {
        let mut index = Index::empty(family);
        for (frontend, binding) in program.services.iter() {
            if frontend.scope.family() == family {
                index.put(frontend, binding);
            }
        }
        index
    }

    fn put(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(address) = cluster_ip(frontend, binding) {
            self.addresses.take(address);
        }
        let port = self.ports.entry(self.key(frontend, binding)).or_default();
        port.insert(*frontend, binding.clone());
    }

    fn remove(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(address) = cluster_ip(frontend, binding) {
            self.addresses.release(&address);
        }
        let key = self.key(frontend, binding);
        if let Some(port) = self.ports.get_mut(&key) {
            port.remove(frontend);
            if port.is_empty() {
                self.ports.remove(&key);
            }
        }
    }

    fn key(&self, frontend: &Frontend, binding: &Binding) -> PortKey {
        let (name, protocol) = (binding.port.clone(), frontend.protocol);
        PortKey { name, protocol, family: self.family }
    }

    fn rules(&self, key: &PortKey, frame: &Frame) -> PortRules {
        self.ports.get(key).map(|it| PortRules::of(key, it, frame)).unwrap_or_default()
    }
}

/// Whether changes touch the frame: then all is to be compared anew.
pub fn is_of_frame(change: &Change) -> bool {
    matches!(
        change,
        Change::Addresses { .. }
            | Change::PodSources { .. }
            | Change::ServiceCidrs { .. }
            | Change::Network { .. }
    )
}

/// The difference that some changes of the program make, none of which is of the frame; `index` is brought up to
/// date. The work is in proportion to the Service ports that are met.
pub fn changes(index: &mut Index, frame: &Frame, changes: &[Change]) -> Delta {
    let mut delta = Delta::default();
    let mut before = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for change in changes {
        match change {
            Change::Frontend { frontend, before: old, after }
                if frontend.scope.family() == index.family =>
            {
                for binding in old.iter().chain(after) {
                    let key = index.key(frontend, binding);
                    before.entry(key.clone()).or_insert_with(|| index.rules(&key, frame));
                    if let Some(address) = cluster_ip(frontend, binding) {
                        addresses.entry(address).or_insert_with(|| index.addresses.has(&address));
                    }
                }
                old.iter().for_each(|binding| index.remove(frontend, binding));
                after.iter().for_each(|binding| index.put(frontend, binding));
            }
            Change::HealthCheck { port, before, after } => {
                let rule = |check: &Option<HealthCheckPort>| -> Vec<Rule> {
                    check.iter().map(|check| admit(*port, check)).collect()
                };
                delta.edit(TableName::Filter, names::NODE_PORTS, &rule(before), &rule(after));
            }
            _ => {}
        }
    }
    for (key, before) in before {
        difference(&before, &index.rules(&key, frame), &mut delta);
    }
    for (address, had) in addresses {
        let rule = |has: bool| if has { refuse_ports(address).into() } else { Vec::new() };
        let has = index.addresses.has(&address);
        delta.edit(TableName::Filter, frame.address_chain(address), &rule(had), &rule(has));
    }
    delta
}

fn cluster_ip(frontend: &Frontend, binding: &Binding) -> Option<IpAddr> {
    match frontend.scope {
        program::Scope::Address(address) if binding.kind == FrontendKind::ClusterIp => {
            Some(address)
        }
        _ => None,
    }
}

fn refuse_ports(cluster_ip: IpAddr) -> [Rule; 2] {
    let rule = |negate, target| {
        let to = address(Side::Destination, cluster_ip.into(), false);
        let tcp = Match::Protocol { protocol: Protocol::TCP, negate };
        Rule::new(vec![to, tcp, comment("an unknown port of a service")], target)
    };
    [rule(false, rejection(model::Protocol::Tcp)), rule(true, Target::Reject { with: None })]
}

/// Whoever speaks TCP is told at once: the kernel limits how often it says "port unreachable", and a process of the
/// node itself does not hear it over IPv6 before it has repeated its SYN, a second later.
pub(super) fn rejection(protocol: model::Protocol) -> Target {
    let with = (protocol == model::Protocol::Tcp).then(|| "tcp-reset".to_owned());
    Target::Reject { with }
}

/// A firewall that others keep may be shut for it.
fn admit(port: u16, check: &HealthCheckPort) -> Rule {
    let matches = vec![
        Match::Protocol { protocol: Protocol::TCP, negate: false },
        comment(&format!("{} health check node port", check.service)),
        Match::Port {
            protocol: Protocol::TCP,
            side: Side::Destination,
            ports: port..=port,
            negate: false,
        },
    ];
    Rule::new(matches, Target::Accept)
}

fn difference(before: &PortRules, after: &PortRules, delta: &mut Delta) {
    let chains: BTreeSet<_> = before.chains.keys().chain(after.chains.keys()).collect();
    for chain in chains {
        let (old, new) = (before.chains.get(chain), after.chains.get(chain));
        let (table, name) = (chain.0, &chain.1);
        match new {
            Some(rules) if old != new => delta.put(table, name, ChainDelta::Rewrite(rules.clone())),
            None => delta.put(table, name, ChainDelta::Remove),
            Some(_) => {}
        }
    }
    let shared: BTreeSet<_> = before.entries.keys().chain(after.entries.keys()).collect();
    for shared in shared {
        let entries = |rules: &'_ PortRules| rules.entries.get(shared).cloned().unwrap_or_default();
        delta.edit(shared.0, shared.1, &entries(before), &entries(after));
    }
}
