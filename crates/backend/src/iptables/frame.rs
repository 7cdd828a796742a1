//! The chains that are always there, and conditions that depend on the node alone.

use super::names;
use crate::nft::layout::MASQUERADE_MARK;
use ipnet::IpNet;
use model::Family;
use netstate::iptables::{Chain, Match, Rule, RuleSet, Side, State, Table, TableName, Target};
use program::{NodePortAddresses, PodNetwork, PodSources, Program};
use std::net::IpAddr;

/// What the rules depend on beside the Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub family: Family,
    pub network: Option<PodNetwork>,
    pub pod_sources: PodSources,
    pub node_ports: NodePortAddresses,
    pub primary_address: Option<IpAddr>,
    pub service_cidrs: Vec<IpNet>,
    /// Whether connection tracking takes packets outside of the window for valid
    /// (`nf_conntrack_tcp_be_liberal`).
    pub liberal: bool,
}

impl Frame {
    pub fn of(program: &Program, family: Family, liberal: bool) -> Self {
        let cidrs = program.service_cidrs.keys().filter(|net| Family::of_net(net) == family);
        Frame {
            family,
            network: program.networks.get(&family).cloned(),
            pod_sources: program.pod_sources.clone(),
            node_ports: program.node_ports.clone(),
            primary_address: program.primary_address(family),
            service_cidrs: cidrs.copied().collect(),
            liberal,
        }
    }

    /// Everything but what Services put there.
    pub fn rules(&self) -> RuleSet {
        let mut rules = RuleSet::default();
        let empty = || Chain::of(Vec::new());
        let mut put = |table: TableName, name: &str, chain: Chain| {
            let table: &mut Table = rules.tables.entry(table).or_default();
            table.chains.insert(name.to_owned(), chain);
        };
        put(TableName::Mangle, names::CANARY, empty());
        for (name, chain) in self.nat() {
            put(TableName::Nat, name, chain);
        }
        for (name, chain) in self.filter() {
            put(TableName::Filter, name, chain);
        }
        rules
    }

    /// How many rules of the frame end a chain that Services put theirs into; `None`: they put none there.
    pub fn tail(&self, table: TableName, chain: &str) -> Option<usize> {
        match (table, chain) {
            (TableName::Nat, names::SERVICES) | (TableName::Filter, names::EXTERNAL_SERVICES) => {
                Some(self.node_port_addresses().len())
            }
            (TableName::Filter, names::SERVICES) => Some(self.to_service_addresses().len()),
            (TableName::Nat | TableName::Filter, names::NODE_PORTS)
            | (TableName::Filter, names::FIREWALL | names::SERVICE_ADDRESSES)
            | (TableName::Filter, names::STRAY_ADDRESSES | names::REFUSED_NODE_PORTS) => Some(0),
            _ => None,
        }
    }

    fn nat(&self) -> Vec<(&'static str, Chain)> {
        let to_services = || Chain::base(vec![jump(PORTALS, names::SERVICES)]);
        let mut chains = vec![
            ("PREROUTING", to_services()),
            ("OUTPUT", to_services()),
            ("POSTROUTING", Chain::base(self.to_postrouting())),
            (names::SERVICES, Chain::of(self.to_node_ports(names::NODE_PORTS))),
            (names::NODE_PORTS, Chain::of(Vec::new())),
            (names::MARK_MASQUERADE, Chain::of(vec![Rule::new(Vec::new(), set_mark())])),
            (names::POSTROUTING, Chain::of(masquerade_marked())),
            (names::CANARY, Chain::of(Vec::new())),
        ];
        if let Some(network) = &self.network {
            chains.push((names::LEAVING, Chain::of(self.leaves_cluster(network))));
        }
        if let Some(rules) = self.mark_from_outside() {
            chains.push((names::FROM_OUTSIDE, Chain::of(rules)));
        }
        chains
    }

    fn filter(&self) -> Vec<(&'static str, Chain)> {
        let mut input = vec![
            new("kubernetes load balancer firewall", names::FIREWALL),
            jump("kubernetes health check service ports", names::NODE_PORTS),
            new("kubernetes externally-visible service portals", names::EXTERNAL_SERVICES),
        ];
        let mut chains = Vec::new();
        if self.guards_loopback() {
            input.insert(0, jump("loopback is for the node itself", names::LOOPBACK));
            chains.push((names::LOOPBACK, Chain::of(vec![self.guard_loopback()])));
        }
        let forward = vec![
            new("kubernetes load balancer firewall", names::FIREWALL),
            jump("kubernetes forwarding rules", names::FORWARD),
            new(PORTALS, names::SERVICES),
            new("kubernetes externally-visible service portals", names::EXTERNAL_SERVICES),
        ];
        let output = vec![
            new("kubernetes load balancer firewall", names::FIREWALL),
            new(PORTALS, names::SERVICES),
            new("kubernetes externally-visible service portals", names::EXTERNAL_SERVICES),
        ];
        let external = self.to_node_ports(names::REFUSED_NODE_PORTS);
        chains.extend([
            ("INPUT", Chain::base(input)),
            ("FORWARD", Chain::base(forward)),
            ("OUTPUT", Chain::base(output)),
            (names::FORWARD, Chain::of(self.forward())),
            (names::SERVICES, Chain::of(self.to_service_addresses())),
            (names::EXTERNAL_SERVICES, Chain::of(external)),
        ]);
        let empty = [
            names::NODE_PORTS,
            names::FIREWALL,
            names::SERVICE_ADDRESSES,
            names::STRAY_ADDRESSES,
            names::REFUSED_NODE_PORTS,
            names::CANARY,
        ];
        chains.extend(empty.map(|name| (name, Chain::of(Vec::new()))));
        chains
    }

    fn to_postrouting(&self) -> Vec<Rule> {
        let mut rules = vec![jump("kubernetes postrouting rules", names::POSTROUTING)];
        if let Some(network) = &self.network {
            let to = Target::Jump(names::LEAVING.to_owned());
            rules.push(Rule::new(
                vec![
                    address(Side::Source, network.subnet, false),
                    comment("pods leave the cluster"),
                ],
                to,
            ));
        }
        rules
    }

    fn leaves_cluster(&self, network: &PodNetwork) -> Vec<Rule> {
        let multicast = match self.family {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        };
        let multicast: IpNet = multicast.parse().expect("a prefix");
        let stay = network.cluster.iter().copied().chain([multicast]);
        let stay = stay.filter(|net| Family::of_net(net) == self.family);
        let mut rules: Vec<_> = stay
            .map(|net| Rule::new(vec![address(Side::Destination, net, false)], Target::Return))
            .collect();
        rules.push(Rule::new(Vec::new(), Target::Masquerade { fully_random: true }));
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let state = |states: &[State]| Match::State {
            states: states.iter().copied().collect(),
            negate: false,
        };
        let marked = vec![comment("kubernetes forwarding rules"), mark(false)];
        let known = vec![
            comment("kubernetes forwarding conntrack rule"),
            state(&[State::Related, State::Established]),
        ];
        let mut rules = vec![Rule::new(marked, Target::Accept), Rule::new(known, Target::Accept)];
        if !self.liberal {
            rules.insert(0, Rule::new(vec![state(&[State::Invalid])], Target::Drop));
        }
        rules
    }

    /// Packets that were translated never come here with a Service's address.
    fn to_service_addresses(&self) -> Vec<Rule> {
        let to = |net: &IpNet, why: &str, target| {
            Rule::new(vec![address(Side::Destination, *net, false), comment(why)], target)
        };
        let mut rules = Vec::new();
        for net in &self.service_cidrs {
            let chain = Target::Jump(names::SERVICE_ADDRESSES.to_owned());
            rules.push(to(net, "unknown ports of services", chain));
            rules.push(to(net, "a cluster IP that nobody has", Target::Drop));
        }
        rules.push(jump("unknown ports of services", names::STRAY_ADDRESSES));
        rules
    }

    /// The chain in which the unknown ports of a cluster IP are refused.
    pub fn address_chain(&self, address: IpAddr) -> &'static str {
        match self.service_cidrs.iter().any(|net| net.contains(&address)) {
            true => names::SERVICE_ADDRESSES,
            false => names::STRAY_ADDRESSES,
        }
    }

    fn to_node_ports(&self, chain: &str) -> Vec<Rule> {
        let why = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
        let addresses = self.node_port_addresses().into_iter();
        let rule = |mut matches: Vec<Match>| {
            matches.insert(0, comment(why));
            Rule::new(matches, Target::Jump(chain.to_owned()))
        };
        addresses.map(rule).collect()
    }

    /// Conditions any of which says that node ports answer on the destination.
    fn node_port_addresses(&self) -> Vec<Vec<Match>> {
        let loopback = loopback(self.family);
        let to = |net, negate| address(Side::Destination, net, negate);
        let mut conditions = Vec::new();
        let Some(nets) = &self.node_ports.within else {
            let primary = self.primary_address.map(IpNet::from);
            conditions.extend(primary.map(|net| vec![to(net, false)]));
            conditions.extend(self.serves_loopback().then(|| vec![to(loopback, false)]));
            return conditions;
        };
        let of_family = nets.iter().filter(|net| Family::of_net(net) == self.family);
        let mut everywhere = false;
        for net in of_family {
            if net.prefix_len() == 0 && self.serves_loopback() {
                conditions.push(vec![local(Side::Destination)]);
                everywhere = true;
            } else if net.prefix_len() == 0 {
                conditions.push(vec![to(loopback, true), local(Side::Destination)]);
            } else if !loopback.contains(net) {
                conditions.push(vec![to(*net, false), local(Side::Destination)]);
            }
        }
        if self.serves_loopback() && !everywhere {
            conditions.push(vec![to(loopback, false)]);
        }
        conditions
    }

    fn serves_loopback(&self) -> bool {
        self.node_ports.localhost.contains(&self.family)
    }

    /// With `route_localnet` the kernel lets others in that speak to loopback addresses (CVE-2020-8558); to ::1 it never
    /// does.
    pub fn guards_loopback(&self) -> bool {
        self.family == Family::V4 && self.serves_loopback()
    }

    fn guard_loopback(&self) -> Rule {
        let known = [State::Related, State::Established, State::Dnat].into_iter().collect();
        let matches = vec![
            address(Side::Source, loopback(self.family), true),
            address(Side::Destination, loopback(self.family), false),
            comment("block incoming localnet connections"),
            Match::State { states: known, negate: true },
        ];
        Rule::new(matches, Target::Drop)
    }

    /// Conditions any of which says that a packet is of a pod of this cluster.
    pub fn pod_conditions(&self) -> Vec<Match> {
        match &self.pod_sources {
            PodSources::Cidrs(nets) => {
                let nets = nets.iter().filter(|net| Family::of_net(net) == self.family);
                nets.map(|net| address(Side::Source, *net, false)).collect()
            }
            PodSources::Interface(name) => {
                vec![Match::InputInterface { name: name.clone(), negate: false }]
            }
            PodSources::InterfacePrefix(prefix) => {
                vec![Match::InputInterface { name: format!("{prefix}+"), negate: false }]
            }
        }
    }

    /// Marks a packet that is of no pod of this cluster.
    pub fn mark_outside(&self, mut matches: Vec<Match>) -> Rule {
        let mut pods = self.pod_conditions();
        let mark = Target::Jump(names::MARK_MASQUERADE.to_owned());
        match pods.len() {
            0 => Rule::new(matches, mark),
            1 => {
                matches.extend(pods.pop().map(negated));
                Rule::new(matches, mark)
            }
            _ => Rule::new(matches, Target::Jump(names::FROM_OUTSIDE.to_owned())),
        }
    }

    fn mark_from_outside(&self) -> Option<Vec<Rule>> {
        let pods = self.pod_conditions();
        if pods.len() < 2 {
            return None;
        }
        let pods = pods.into_iter().map(|pod| Rule::new(vec![pod], Target::Return));
        let mark = Rule::new(Vec::new(), Target::Jump(names::MARK_MASQUERADE.to_owned()));
        Some(pods.chain([mark]).collect())
    }
}

const PORTALS: &str = "kubernetes service portals";

fn masquerade_marked() -> Vec<Rule> {
    let why = comment("kubernetes service traffic requiring SNAT");
    vec![
        Rule::new(vec![mark(true)], Target::Return),
        // Clears the bit, so that the packet is not translated anew if it passes here again.
        Rule::new(Vec::new(), Target::Mark { value: MASQUERADE_MARK, mask: 0 }),
        Rule::new(vec![why], Target::Masquerade { fully_random: true }),
    ]
}

fn set_mark() -> Target {
    Target::Mark { value: MASQUERADE_MARK, mask: MASQUERADE_MARK }
}

fn mark(negate: bool) -> Match {
    Match::Mark { value: MASQUERADE_MARK, mask: MASQUERADE_MARK, negate }
}

fn jump(why: &str, chain: &str) -> Rule {
    Rule::new(vec![comment(why)], Target::Jump(chain.to_owned()))
}

/// A jump for new connections.
fn new(why: &str, chain: &str) -> Rule {
    let state = Match::State { states: [State::New].into(), negate: false };
    Rule::new(vec![state, comment(why)], Target::Jump(chain.to_owned()))
}

fn negated(condition: Match) -> Match {
    match condition {
        Match::Address { side, net, negate } => Match::Address { side, net, negate: !negate },
        Match::InputInterface { name, negate } => Match::InputInterface { name, negate: !negate },
        other => other,
    }
}

fn loopback(family: Family) -> IpNet {
    let net = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    net.parse().expect("a prefix")
}

pub fn address(side: Side, net: IpNet, negate: bool) -> Match {
    Match::Address { side, net: net.trunc(), negate }
}

pub fn local(side: Side) -> Match {
    Match::AddressType { side, kind: "LOCAL".to_owned(), negate: false }
}

pub fn comment(text: &str) -> Match {
    Match::Comment(text.to_owned())
}
