//! The rules: those that are always there, and those of a class of front ends.

use super::layout::{Class, MASQUERADE_MARK, Memory, Remembering, chain, octets, set};
use ipnet::IpNet;
use model::Family;
use netstate::nft::{
    AddressSide, Chain, ChainKind, Field, Hook, HookPoint, Rule, Statement, Verdict,
};
use program::{Draw, Masquerade, NodePortAddresses, PodNetwork, PodSources, Program};
use std::collections::BTreeMap;

/// `IPS_DST_NAT` of `enum ip_conntrack_status`.
const DST_NAT: u32 = 1 << 5;
/// `RTN_LOCAL` of linux/rtnetlink.h.
const RTN_LOCAL: u32 = 2;
/// Any number but 0, which would be another one at every start: a client must find its endpoint again.
const HASH_SEED: u32 = 0x706f_6477;
/// Octets of an interface's name in a register.
const INTERFACE_NAME: usize = 16;

/// What the rules depend on beside the classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    pub family: Family,
    pub network: Option<&'a PodNetwork>,
    pub pod_sources: &'a PodSources,
    pub node_ports: &'a NodePortAddresses,
    pub service_cidrs: Vec<IpNet>,
    /// Lengths of the prefixes in `allowed-sources`.
    pub source_lengths: Vec<u8>,
    /// Whether any client is to be remembered.
    pub remembers: bool,
}

impl<'a> Frame<'a> {
    pub fn of(
        program: &'a Program,
        family: Family,
        source_lengths: Vec<u8>,
        remembers: bool,
    ) -> Self {
        let cidrs = program.service_cidrs.keys().filter(|net| Family::of_net(net) == family);
        Frame {
            family,
            network: program.networks.get(&family),
            pod_sources: &program.pod_sources,
            node_ports: &program.node_ports,
            service_cidrs: cidrs.copied().collect(),
            source_lengths,
            remembers,
        }
    }

    /// The chains that do not depend on classes. All base chains are of type nat: they see the first packet of a
    /// connection, and all others pass them by.
    pub fn chains(&self) -> BTreeMap<String, Chain> {
        let to_dispatch = || rule("find the front end", vec![jump(chain::DISPATCH)]);
        let nat = |point, priority, rules| Chain {
            hook: Some(Hook { kind: ChainKind::Nat, point, priority }),
            rules,
        };
        let plain = |rules| Chain { hook: None, rules };
        let incoming = self.guard_loopback().into_iter().chain([to_dispatch()]).collect();
        let mut chains = vec![
            (chain::PREROUTING, nat(HookPoint::Prerouting, -100, incoming)),
            (chain::OUTPUT, nat(HookPoint::Output, -100, vec![to_dispatch()])),
            (chain::POSTROUTING, nat(HookPoint::Postrouting, 100, self.postrouting())),
            (chain::DISPATCH, plain(self.dispatch())),
            (chain::GUARD, plain(self.guard())),
            (chain::BY_SOURCE, plain(self.by_source(false))),
            (chain::BY_SOURCE_NODE_PORT, plain(self.by_source(true))),
            (chain::NOT_HERE, plain(vec![rule("no endpoint on this node", dropped())])),
            (
                chain::REFUSAL,
                plain(vec![rule("refuse", vec![Statement::Counter, Statement::Reject])]),
            ),
        ];
        if self.remembers {
            chains.extend([
                (chain::REMEMBER, nat(HookPoint::Postrouting, 90, self.remember())),
                (chain::REMEMBER_HERE, nat(HookPoint::Input, 90, self.remember())),
            ]);
        }
        chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect()
    }

    /// The rules of a class: mark, choose a slot, and never let the packet pass untranslated.
    ///
    /// A packet that crosses a change of the table may draw a slot that is gone: then the first slot
    /// serves, and a front end that is gone altogether drops the packet; the client sends it again.
    pub fn class_chain(&self, class: Class) -> Chain {
        let mut rules = Vec::new();
        match class.masquerade {
            Masquerade::Always => rules.push(rule("reply through this node", vec![mark()])),
            Masquerade::FromOutside => {
                let statements = [self.no_pod_conditions(), vec![mark()]].concat();
                rules.push(rule("reply through this node", statements));
            }
            Masquerade::FromNode | Masquerade::Never => {}
        }
        if let Some(memory) = class.memory {
            rules.extend(self.affinity(class.node_port, memory));
        }
        if class.slots > 1 {
            let to = self.dnat(class, drawn(class));
            rules.push(rule(&format!("to {} endpoint", drawn_how(class.draw)), vec![to]));
        }
        let first = constant(class.side.first_slot());
        rules.push(rule("to the first endpoint", vec![self.dnat(class, first)]));
        rules.push(rule("no endpoint any more", vec![Statement::Verdict(Verdict::Drop)]));
        Chain { hook: None, rules }
    }

    /// A client that is remembered gets the same endpoint again. It is one of the pool, for those that leave a pool
    /// are forgotten with it.
    ///
    /// The number of the Service port passes through the packet's priority: the only field that rules can write, that
    /// `nft list` can print in a key, and that the node's own ways of sending set anew.
    fn affinity(&self, node_port: bool, memory: Memory) -> Vec<Rule> {
        let map = match node_port {
            true => set::STICKY_NODE_PORTS,
            false => set::STICKY,
        };
        let number =
            Statement::SetPriorityMap { key: frontend_fields(node_port), map: map.to_owned() };
        let key = vec![Field::Priority, Field::SourceAddress];
        let to_remembered = Statement::DnatMap { key, map: memory.map().to_owned() };
        vec![
            rule("the Service port's number", vec![number]),
            rule("to the same endpoint as before", vec![to_remembered]),
            rule("the number is used", vec![Statement::SetPriority(0)]),
        ]
    }

    /// On its way to the endpoint a packet shows who got it, and the connection what it was addressed to at first.
    fn remember(&self) -> Vec<Rule> {
        let key = vec![
            Field::ConntrackOriginalDestination,
            Field::Protocol,
            Field::ConntrackOriginalPort,
        ];
        let address = Statement::VerdictMap { key, map: set::REMEMBERED.to_owned() };
        let mut rules = vec![rule("service addresses", vec![is_translated(), address])];
        for condition in self.node_port_addresses(&Field::ConntrackOriginalDestination) {
            let key = vec![Field::Protocol, Field::ConntrackOriginalPort];
            let map = set::REMEMBERED_NODE_PORTS.to_owned();
            let node_port = vec![Statement::VerdictMap { key, map }];
            let statements = [vec![is_translated()], condition, node_port].concat();
            rules.push(rule("node ports", statements));
        }
        rules
    }

    /// The rules that remember a client: with whom it is, and with whom on this node.
    pub fn remembering_chain(&self, remembering: Remembering) -> Chain {
        let (mut key, map) = match remembering.node_port {
            true => (Vec::new(), set::STICKY_NODE_PORTS),
            false => (vec![Field::ConntrackOriginalDestination], set::STICKY),
        };
        key.extend([Field::Protocol, Field::ConntrackOriginalPort]);
        let number = Statement::SetPriorityMap { key, map: map.to_owned() };
        let remember = |memory: Memory| Statement::Remember {
            key: vec![Field::Priority, Field::SourceAddress],
            value: vec![Field::DestinationAddress, Field::DestinationPort],
            map: memory.map().to_owned(),
            seconds: remembering.seconds,
        };
        let is_here = Statement::InSet {
            key: vec![Field::DestinationAddress, Field::DestinationPort],
            set: set::LOCAL_ENDPOINTS.to_owned(),
            negate: false,
        };
        let rules = vec![
            rule("the Service port's number", vec![number]),
            rule("remember the client", vec![remember(Memory::Cluster)]),
            rule("and that its endpoint is here", vec![is_here, remember(Memory::Local)]),
            rule("the number is used", vec![Statement::SetPriority(0)]),
        ];
        Chain { hook: None, rules }
    }

    fn dnat(&self, class: Class, slot: Field) -> Statement {
        let mut key = frontend_fields(class.node_port);
        key.push(slot);
        let map = if class.node_port { set::SLOTS_NODE_PORTS } else { set::SLOTS };
        Statement::DnatMap { key, map: map.to_owned() }
    }

    fn dispatch(&self) -> Vec<Rule> {
        let look_up = |node_port: bool, map: &str| Statement::VerdictMap {
            key: frontend_fields(node_port),
            map: map.to_owned(),
        };
        let mut rules = vec![rule("service addresses", vec![look_up(false, set::SERVICES)])];
        for mut statements in self.node_port_addresses(&Field::DestinationAddress) {
            statements.push(look_up(true, set::NODE_PORTS));
            rules.push(rule("node ports", statements));
        }
        let unknown_port = Statement::InSet {
            key: vec![Field::DestinationAddress],
            set: set::SERVICE_ADDRESSES.to_owned(),
            negate: false,
        };
        let refused = Statement::Verdict(Verdict::Goto(chain::REFUSAL.to_owned()));
        rules.push(rule("unknown port of a service", vec![unknown_port, refused]));
        for net in &self.service_cidrs {
            let unallocated = vec![in_prefix(Field::DestinationAddress, *net, false)];
            rules.push(rule("a cluster IP that nobody has", [unallocated, dropped()].concat()));
        }
        rules
    }

    /// Conditions any of which says that node ports answer on an address.
    fn node_port_addresses(&self, address: &Field) -> Vec<Vec<Statement>> {
        let destination = || address.clone();
        let mut conditions = match &self.node_ports.within {
            None => {
                let key = vec![destination()];
                let set = set::NODE_ADDRESSES.to_owned();
                vec![vec![Statement::InSet { key, set, negate: false }]]
            }
            Some(nets) => {
                let within = |net: &IpNet| {
                    let not_loopback = in_prefix(destination(), loopback(self.family), true);
                    let within = in_prefix(destination(), *net, false);
                    let local = is_local(Field::DestinationAddressType);
                    // A connection that was translated had a local destination.
                    let local = (*address == Field::DestinationAddress).then_some(local);
                    [within, not_loopback].into_iter().chain(local).collect()
                };
                nets.iter().filter(|net| Family::of_net(net) == self.family).map(within).collect()
            }
        };
        if self.serves_loopback() {
            conditions.push(vec![in_prefix(destination(), loopback(self.family), false)]);
        }
        conditions
    }

    fn serves_loopback(&self) -> bool {
        self.node_ports.localhost.contains(&self.family)
    }

    /// With `route_localnet` the kernel lets others in that speak to loopback addresses (CVE-2020-8558); to ::1 it never
    /// does.
    fn guard_loopback(&self) -> Vec<Rule> {
        if self.family == Family::V6 || !self.serves_loopback() {
            return Vec::new();
        }
        let from_elsewhere = in_prefix(Field::SourceAddress, loopback(self.family), true);
        let to_loopback = in_prefix(Field::DestinationAddress, loopback(self.family), false);
        let statements = [vec![from_elsewhere, to_loopback], dropped()].concat();
        vec![rule("loopback is for the node itself", statements)]
    }

    fn guard(&self) -> Vec<Rule> {
        let allowed = |length: &u8| {
            let mut key = frontend_fields(false);
            key.push(constant(u32::from(*length)));
            let mask = netmask(self.family, *length);
            key.push(Field::Masked { of: AddressSide::Source, mask });
            let allowed = Statement::InSet { key, set: set::ALLOWED.to_owned(), negate: false };
            let key = frontend_fields(false);
            let go_on = Statement::VerdictMap { key, map: set::GUARDED.to_owned() };
            rule("an allowed source", vec![allowed, go_on])
        };
        let mut rules: Vec<_> = self.source_lengths.iter().map(allowed).collect();
        rules.push(rule("not an allowed source", dropped()));
        rules
    }

    fn by_source(&self, node_port: bool) -> Vec<Rule> {
        let (inside, outside) = match node_port {
            true => (set::INSIDE_NODE_PORTS, set::OUTSIDE_NODE_PORTS),
            false => (set::INSIDE, set::OUTSIDE),
        };
        let look_up = |map: &str| Statement::VerdictMap {
            key: frontend_fields(node_port),
            map: map.to_owned(),
        };
        let mut rules = Vec::new();
        for mut statements in self.pod_conditions() {
            statements.push(look_up(inside));
            rules.push(rule("from a pod of this cluster", statements));
        }
        let from_node = is_local(Field::SourceAddressType);
        rules.push(rule("from the node itself", vec![from_node, mark(), look_up(inside)]));
        rules.push(rule("from elsewhere", vec![look_up(outside)]));
        rules.push(rule("no endpoint on this node", dropped()));
        rules
    }

    /// Conditions any of which says that a packet is of a pod of this cluster.
    fn pod_conditions(&self) -> Vec<Vec<Statement>> {
        match self.pod_sources {
            PodSources::Cidrs(nets) => {
                let nets = nets.iter().filter(|net| Family::of_net(net) == self.family);
                nets.map(|net| vec![in_prefix(Field::SourceAddress, *net, false)]).collect()
            }
            PodSources::Interface(name) => vec![vec![interface(name, INTERFACE_NAME, false)]],
            PodSources::InterfacePrefix(name) => vec![vec![interface(name, name.len(), false)]],
        }
    }

    /// That a packet is of no pod of this cluster.
    fn no_pod_conditions(&self) -> Vec<Statement> {
        match self.pod_sources {
            PodSources::Cidrs(nets) => self.outside_of(Field::SourceAddress, nets),
            PodSources::Interface(name) => vec![interface(name, INTERFACE_NAME, true)],
            PodSources::InterfacePrefix(name) => vec![interface(name, name.len(), true)],
        }
    }

    fn postrouting(&self) -> Vec<Rule> {
        let bit = MASQUERADE_MARK.to_ne_bytes().to_vec();
        let marked = Statement::Match {
            field: Field::Mark,
            mask: Some(bit.clone()),
            negate: false,
            value: bit,
        };
        let clear = Statement::SetMark { and: !MASQUERADE_MARK, xor: 0 };
        let to_itself = Statement::InSet {
            key: vec![Field::SourceAddress, Field::DestinationAddress],
            set: set::HAIRPIN.to_owned(),
            negate: false,
        };
        let masquerade = || vec![Statement::Counter, Statement::Masquerade];
        let mut rules = vec![
            rule("reply through this node", [vec![marked, clear], masquerade()].concat()),
            rule("a pod reaches itself", [vec![is_translated(), to_itself], masquerade()].concat()),
        ];
        rules.extend(self.network.map(|network| self.leaves_cluster(network)));
        rules
    }

    fn leaves_cluster(&self, network: &PodNetwork) -> Rule {
        let multicast = match self.family {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        };
        let multicast = multicast.parse().expect("a prefix");
        let mut statements = vec![in_prefix(Field::SourceAddress, network.subnet, false)];
        statements.extend(self.outside_of(Field::DestinationAddress, &network.cluster));
        statements.push(in_prefix(Field::DestinationAddress, multicast, true));
        statements.extend([Statement::Counter, Statement::Masquerade]);
        rule("a pod leaves the cluster", statements)
    }

    fn outside_of(&self, field: Field, nets: &[IpNet]) -> Vec<Statement> {
        let nets = nets.iter().filter(|net| Family::of_net(net) == self.family);
        nets.map(|net| in_prefix(field.clone(), *net, true)).collect()
    }
}

/// Protocol and port, and the address before them where it is not one of the node's own.
fn frontend_fields(node_port: bool) -> Vec<Field> {
    let address = (!node_port).then_some(Field::DestinationAddress);
    address.into_iter().chain([Field::Protocol, Field::DestinationPort]).collect()
}

/// One number and no other, in a key: `nft list` cannot print constants there.
fn constant(number: u32) -> Field {
    Field::Random { modulus: 1, offset: number }
}

fn drawn(class: Class) -> Field {
    let (modulus, offset, seed) = (class.slots, class.side.first_slot(), HASH_SEED);
    let hash = |of| Field::AddressHash { of, modulus, seed, offset };
    match class.draw {
        // A hash has no modulus of 1.
        _ if class.slots == 1 => Field::Random { modulus, offset },
        Draw::Random => Field::Random { modulus, offset },
        Draw::Source => hash(AddressSide::Source),
        Draw::Destination => hash(AddressSide::Destination),
    }
}

fn drawn_how(draw: Draw) -> &'static str {
    match draw {
        Draw::Random => "a random",
        Draw::Source => "the client's",
        Draw::Destination => "the address's",
    }
}

fn loopback(family: Family) -> IpNet {
    let net = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    net.parse().expect("a prefix")
}

fn netmask(family: Family, length: u8) -> Vec<u8> {
    IpNet::new(family.unspecified(), length).map(|net| octets(net.netmask())).unwrap_or_default()
}

/// The first `length` octets of the name of the interface that a packet came in through.
fn interface(name: &str, length: usize, negate: bool) -> Statement {
    let mut value = name.as_bytes().to_vec();
    value.resize(INTERFACE_NAME, 0);
    let mut mask = vec![0xff; length.min(INTERFACE_NAME)];
    mask.resize(INTERFACE_NAME, 0);
    let mask = (length < INTERFACE_NAME).then_some(mask);
    Statement::Match { field: Field::InputInterface, mask, negate, value }
}

fn in_prefix(field: Field, net: IpNet, negate: bool) -> Statement {
    let mask = Some(octets(net.netmask()));
    Statement::Match { field, mask, negate, value: octets(net.network()) }
}

fn is_local(address_type: Field) -> Statement {
    let value = RTN_LOCAL.to_ne_bytes().to_vec();
    Statement::Match { field: address_type, mask: None, negate: false, value }
}

fn is_translated() -> Statement {
    let bit = DST_NAT.to_ne_bytes().to_vec();
    let (field, mask) = (Field::ConntrackStatus, Some(bit.clone()));
    Statement::Match { field, mask, negate: false, value: bit }
}

fn mark() -> Statement {
    Statement::SetMark { and: !MASQUERADE_MARK, xor: MASQUERADE_MARK }
}

fn dropped() -> Vec<Statement> {
    vec![Statement::Counter, Statement::Verdict(Verdict::Drop)]
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn rule(comment: &str, statements: Vec<Statement>) -> Rule {
    Rule { statements, comment: comment.to_owned() }
}
