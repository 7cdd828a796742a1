//! What one port of a Service puts into the tables.

use super::frame::{Frame, address, comment, local};
use super::lower::rejection;
use super::names::{self, PortKey, prefix};
use ipnet::IpNet;
use netstate::iptables::{
    Match, Protocol, RecentAction, RecentMatch, Rule, Side, TableName, Target, Translation,
};
use program::{Action, Binding, Frontend, FrontendKind, Masquerade, Pool, Reach, Scope};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Chains of its own, and rules in shared chains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortRules {
    pub(super) chains: BTreeMap<(TableName, String), Vec<Rule>>,
    pub(super) entries: BTreeMap<(TableName, &'static str), Vec<Rule>>,
}

impl PortRules {
    pub(super) fn of(
        key: &PortKey,
        frontends: &BTreeMap<Frontend, Binding>,
        frame: &Frame,
    ) -> Self {
        let mut port = Port { key, frame, rules: PortRules::default(), pools: BTreeMap::new() };
        for (frontend, binding) in frontends {
            port.frontend(frontend, binding);
        }
        port.pools(frontends.values().find_map(|binding| binding.affinity));
        port.rules
    }

    fn enter(&mut self, table: TableName, chain: &'static str, rule: Rule) {
        self.entries.entry((table, chain)).or_default().push(rule);
    }
}

struct Port<'a> {
    key: &'a PortKey,
    frame: &'a Frame,
    rules: PortRules,
    /// By the prefix of their chains, with the rules that come ahead of the choice of an endpoint.
    pools: BTreeMap<&'static str, (Arc<Pool>, Vec<Rule>)>,
}

impl Port<'_> {
    fn frontend(&mut self, frontend: &Frontend, binding: &Binding) {
        for pool in binding.action.pools() {
            let prefix = pool_prefix(pool);
            self.pools.entry(prefix).or_insert_with(|| (pool.clone(), Vec::new()));
        }
        match &binding.action {
            Action::Balance { pool, masquerade } if is_inside(binding) => {
                self.cluster_ip(frontend, binding, pool, *masquerade);
            }
            Action::Balance { .. } | Action::BySource { .. } => self.external(frontend, binding),
            Action::Reject => {
                let target = rejection(self.key.protocol);
                self.refuse(frontend, binding, "has no endpoints", target);
            }
            Action::Drop => self.refuse(frontend, binding, "has no local endpoints", Target::Drop),
        }
        if let Action::BySource { outside: None, .. } = &binding.action {
            self.refuse(frontend, binding, "has no local endpoints", Target::Drop);
        }
    }

    fn cluster_ip(
        &mut self,
        frontend: &Frontend,
        binding: &Binding,
        pool: &Pool,
        masquerade: Masquerade,
    ) {
        let matches = self.to(frontend, &what(binding));
        let mark = match masquerade {
            Masquerade::Always => Some(jump(matches.clone(), names::MARK_MASQUERADE)),
            Masquerade::FromOutside => Some(self.frame.mark_outside(matches.clone())),
            Masquerade::FromNode => Some(jump(from_node(matches.clone()), names::MARK_MASQUERADE)),
            Masquerade::Never => None,
        };
        let prefix = pool_prefix(pool);
        if let Some((_, first)) = self.pools.get_mut(prefix) {
            first.extend(mark);
        }
        let chain = self.key.chain(prefix);
        self.rules.enter(TableName::Nat, names::SERVICES, jump(matches, &chain));
    }

    fn external(&mut self, frontend: &Frontend, binding: &Binding) {
        let chain = match &binding.sources {
            Some(sources) => self.allow(frontend, binding, sources),
            None => self.key.chain(prefix::EXTERNAL),
        };
        let shared = match frontend.scope {
            Scope::Address(_) => names::SERVICES,
            Scope::NodePort(_) => names::NODE_PORTS,
        };
        let rule = jump(self.to(frontend, &what(binding)), &chain);
        self.rules.enter(TableName::Nat, shared, rule);
        let external = (TableName::Nat, self.key.chain(prefix::EXTERNAL));
        if !self.rules.chains.contains_key(&external) {
            let rules = self.externally(&binding.action);
            self.rules.chains.insert(external, rules);
        }
    }

    /// Who comes from elsewhere than the allowed sources goes on untranslated, and is dropped by the filter.
    fn allow(&mut self, frontend: &Frontend, binding: &Binding, sources: &[IpNet]) -> String {
        let chain = self.key.chain(prefix::FIREWALL);
        let external = self.key.chain(prefix::EXTERNAL);
        let allowed = self.of_family(sources).map(|net| {
            let matches = vec![address(Side::Source, net, false), comment(&what(binding))];
            jump(matches, &external)
        });
        let rules = allowed.collect();
        self.rules.chains.insert((TableName::Nat, chain.clone()), rules);
        let why = format!("{} traffic not accepted by {chain}", binding.port);
        let rule = Rule::new(self.to(frontend, &why), Target::Drop);
        self.rules.enter(TableName::Filter, names::FIREWALL, rule);
        chain
    }

    fn of_family(&self, nets: &[IpNet]) -> impl Iterator<Item = IpNet> {
        let family = self.key.family;
        nets.iter().copied().filter(move |net| model::Family::of_net(net) == family)
    }

    /// What becomes of connections to any address that is not a cluster IP.
    fn externally(&self, action: &Action) -> Vec<Rule> {
        let name = &self.key.name;
        let mut rules = Vec::new();
        match action {
            Action::Balance { pool, masquerade } => {
                let why = comment(&format!("masquerade traffic for {name} external destinations"));
                rules.extend(match masquerade {
                    Masquerade::Always => Some(jump(vec![why], names::MARK_MASQUERADE)),
                    Masquerade::FromOutside => Some(self.frame.mark_outside(vec![why])),
                    Masquerade::FromNode => {
                        Some(jump(from_node(vec![why]), names::MARK_MASQUERADE))
                    }
                    Masquerade::Never => None,
                });
                rules.push(jump(Vec::new(), &self.key.chain(pool_prefix(pool))));
            }
            Action::BySource { inside, outside } => {
                let inside = self.key.chain(pool_prefix(inside));
                let why = |text: &str| comment(&format!("{text} for {name} external destinations"));
                for pod in self.frame.pod_conditions() {
                    rules.push(jump(vec![pod, why("pod traffic")], &inside));
                }
                let local = |text: &str| from_node(vec![why(text)]);
                rules.push(jump(local("masquerade LOCAL traffic"), names::MARK_MASQUERADE));
                rules.push(jump(local("route LOCAL traffic"), &inside));
                let outside = outside.as_ref().map(|pool| self.key.chain(pool_prefix(pool)));
                rules.extend(outside.map(|chain| jump(Vec::new(), &chain)));
            }
            Action::Reject | Action::Drop => {}
        }
        rules
    }

    /// Where nobody translates: told or dropped by the filter.
    fn refuse(&mut self, frontend: &Frontend, binding: &Binding, why: &str, target: Target) {
        let why = format!("{} {why}", binding.port);
        let shared = match frontend.scope {
            Scope::NodePort(_) => names::REFUSED_NODE_PORTS,
            Scope::Address(_) if binding.kind == FrontendKind::ClusterIp => names::SERVICES,
            Scope::Address(_) => names::EXTERNAL_SERVICES,
        };
        let matches = self.to(frontend, &why);
        let rule = match &binding.sources {
            Some(sources) if target != Target::Drop => {
                let chain = self.key.chain(prefix::FIREWALL);
                let allowed = self.of_family(sources).map(|net| {
                    let source = address(Side::Source, net, false);
                    let matches = vec![source, self.protocol(), comment(&why)];
                    Rule::new(matches, target.clone())
                });
                let others = Rule::new(Vec::new(), Target::Drop);
                let rules = allowed.chain([others]).collect();
                self.rules.chains.insert((TableName::Filter, chain.clone()), rules);
                jump(matches, &chain)
            }
            _ => Rule::new(matches, target),
        };
        self.rules.enter(TableName::Filter, shared, rule);
    }

    /// The chains of the pools and of their endpoints.
    fn pools(&mut self, affinity: Option<std::time::Duration>) {
        let seconds = affinity.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
        for (prefix, (pool, mut rules)) in std::mem::take(&mut self.pools) {
            rules.extend(self.choose(&pool, seconds));
            self.rules.chains.insert((TableName::Nat, self.key.chain(prefix)), rules);
            for endpoint in &pool.endpoints {
                let chain = self.key.endpoint_chain(endpoint.address());
                let rules = self.endpoint(endpoint, &chain, seconds.is_some());
                self.rules.chains.insert((TableName::Nat, chain), rules);
            }
        }
    }

    /// A client's last endpoint where that is asked for; else each with the share that its weight gives it.
    fn choose(&self, pool: &Pool, affinity: Option<u32>) -> Vec<Rule> {
        let mut rules = Vec::new();
        let weight = |endpoint: &program::Endpoint| u64::from(endpoint.weight.max(1));
        let to = |endpoint: &program::Endpoint| {
            comment(&format!("{} -> {}", self.key.name, endpoint.address()))
        };
        for endpoint in pool.endpoints.iter().filter(|_| affinity.is_some()) {
            let chain = self.key.endpoint_chain(endpoint.address());
            let remembered = RecentMatch {
                seconds: affinity,
                reap: true,
                ..recent(RecentAction::Check, &chain)
            };
            rules.push(jump(vec![to(endpoint), Match::Recent(remembered)], &chain));
        }
        let mut left: u64 = pool.endpoints.iter().map(weight).sum();
        for (place, endpoint) in pool.endpoints.iter().enumerate() {
            let mut matches = vec![to(endpoint)];
            if place + 1 < pool.endpoints.len() {
                matches.push(Match::Chance(share(weight(endpoint), left)));
            }
            left -= weight(endpoint);
            rules.push(jump(matches, &self.key.endpoint_chain(endpoint.address())));
        }
        rules
    }

    fn endpoint(&self, endpoint: &program::Endpoint, chain: &str, remember: bool) -> Vec<Rule> {
        let name = comment(&self.key.name.to_string());
        let own = address(Side::Source, endpoint.address().ip().into(), false);
        let mut matches = vec![self.protocol(), name.clone()];
        matches.extend(remember.then(|| Match::Recent(recent(RecentAction::Set, chain))));
        let to = Translation {
            address: endpoint.address().ip(),
            port: Some(endpoint.address().port()),
            fully_random: false,
        };
        vec![jump(vec![own, name], names::MARK_MASQUERADE), Rule::new(matches, Target::Dnat(to))]
    }

    fn protocol(&self) -> Match {
        Match::Protocol { protocol: Protocol(self.key.protocol.number()), negate: false }
    }

    /// That a packet is for a front end.
    fn to(&self, frontend: &Frontend, why: &str) -> Vec<Match> {
        let at = match frontend.scope {
            Scope::Address(at) => Some(address(Side::Destination, at.into(), false)),
            Scope::NodePort(_) => None,
        };
        let port = Match::Port {
            protocol: Protocol(frontend.protocol.number()),
            side: Side::Destination,
            ports: frontend.port..=frontend.port,
            negate: false,
        };
        at.into_iter().chain([self.protocol(), comment(why), port]).collect()
    }
}

/// Whether connections go to the pool's chain without a detour.
fn is_inside(binding: &Binding) -> bool {
    binding.kind == FrontendKind::ClusterIp && binding.sources.is_none()
}

fn pool_prefix(pool: &Pool) -> &'static str {
    match pool.reach {
        Reach::Local => prefix::LOCAL,
        Reach::Cluster | Reach::Zone | Reach::Node => prefix::CLUSTER,
    }
}

/// As kube-proxy words it.
fn what(binding: &Binding) -> String {
    let name = &binding.port;
    match binding.kind {
        FrontendKind::ClusterIp => format!("{name} cluster IP"),
        FrontendKind::ExternalIp => format!("{name} external IP"),
        FrontendKind::LoadBalancer => format!("{name} loadbalancer IP"),
        FrontendKind::NodePort => name.to_string(),
    }
}

fn jump(matches: Vec<Match>, chain: &str) -> Rule {
    Rule::new(matches, Target::Jump(chain.to_owned()))
}

fn from_node(mut matches: Vec<Match>) -> Vec<Match> {
    matches.push(local(Side::Source));
    matches
}

fn recent(action: RecentAction, name: &str) -> RecentMatch {
    RecentMatch {
        action,
        negate: false,
        name: name.to_owned(),
        seconds: None,
        reap: false,
        hits: None,
        side: Side::Source,
    }
}

/// `weight` of `total` as `xt_statistic` counts: in 2³¹ parts.
fn share(weight: u64, total: u64) -> u32 {
    let total = total.max(1);
    u32::try_from(((weight << 31) + total / 2) / total).unwrap_or(1 << 31)
}
