//! The shape of the table: names, keys and the rules that never change.

use netstate::nft::{
    Chain, ChainKind, DataType, Element, ElementValue, Family, Field, Hook, HookPoint, Key, Rule,
    Set, SetData, Statement, TableId, Verdict,
};
use program::{Endpoint, Frontend, Masquerade, PodNetwork, Scope};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Packets with this bit leave with the node's own address (`--iptables-masquerade-bit` 14).
pub const MASQUERADE_MARK: u32 = 0x4000;

/// `IPS_DST_NAT` of `enum ip_conntrack_status`.
const DST_NAT: u32 = 1 << 5;
/// The state "new" as nf_tables numbers it.
const STATE_NEW: u32 = 8;

/// The names of the sets and maps.
pub mod set {
    /// Node's own addresses: node ports answer here and nowhere else.
    pub const NODE_ADDRESSES: &str = "node-addresses";
    /// Addresses that have front ends: unknown ports on them are refused.
    pub const SERVICE_ADDRESSES: &str = "service-addresses";
    /// Address, protocol, port to the chain of the front end's class.
    pub const SERVICES: &str = "services";
    /// Protocol, port likewise.
    pub const NODE_PORTS: &str = "node-ports";
    /// Address, protocol, port, slot number to endpoint; 0.0.0.0 stands for the node's own addresses.
    pub const SLOTS: &str = "slots";
    /// Front ends without endpoints, to the chain that refuses.
    pub const REFUSED_SERVICES: &str = "refused-services";
    pub const REFUSED_NODE_PORTS: &str = "refused-node-ports";
    /// Pod address twice, for each pod on the node: a pod that reached itself through its Service.
    pub const HAIRPIN: &str = "hairpin";
}

/// The names of the chains that are not classes.
pub mod chain {
    pub const PREROUTING: &str = "prerouting";
    pub const OUTPUT: &str = "output";
    pub const POSTROUTING: &str = "postrouting";
    pub const FILTER_INPUT: &str = "filter-input";
    pub const FILTER_FORWARD: &str = "filter-forward";
    pub const FILTER_OUTPUT: &str = "filter-output";
    /// Where a new connection's front end is found.
    pub const DISPATCH: &str = "dispatch";
    /// What nobody answers.
    pub const REFUSE: &str = "refuse";
    pub const REFUSAL: &str = "refusal";
}

pub fn table_id() -> TableId {
    TableId { family: Family::Ip, name: "podway".to_owned() }
}

/// All front ends that are served by the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    pub node_port: bool,
    pub masquerade: Masquerade,
    /// Endpoints, each with one slot: any number is exact.
    pub slots: u32,
}

/// The name of the class's chain.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.node_port { "node-port" } else { "address" };
        let masquerade = match self.masquerade {
            Masquerade::Always => "masquerade",
            Masquerade::FromOutside => "outside",
        };
        write!(f, "{scope}-{masquerade}-{}", self.slots)
    }
}

/// The sets and maps, empty.
pub fn sets() -> BTreeMap<String, Set> {
    use DataType::{Ipv4, Number, Port, Protocol};
    let set = |key: &[DataType], data, counters| Set {
        key: key.to_vec(),
        data,
        interval: false,
        counters,
        elements: BTreeMap::new(),
    };
    let endpoint = SetData::Values(vec![Ipv4, Port]);
    [
        (set::NODE_ADDRESSES, set(&[Ipv4], SetData::None, false)),
        (set::SERVICE_ADDRESSES, set(&[Ipv4], SetData::None, false)),
        (set::SERVICES, set(&[Ipv4, Protocol, Port], SetData::Verdict, true)),
        (set::NODE_PORTS, set(&[Protocol, Port], SetData::Verdict, true)),
        (set::SLOTS, set(&[Ipv4, Protocol, Port, Number], endpoint, false)),
        (set::REFUSED_SERVICES, set(&[Ipv4, Protocol, Port], SetData::Verdict, true)),
        (set::REFUSED_NODE_PORTS, set(&[Protocol, Port], SetData::Verdict, true)),
        (set::HAIRPIN, set(&[Ipv4, Ipv4], SetData::None, false)),
    ]
    .map(|(name, set)| (name.to_owned(), set))
    .into()
}

/// The chains that are always there.
pub fn chains(network: Option<&PodNetwork>) -> BTreeMap<String, Chain> {
    let to_dispatch = || vec![rule("find the front end", vec![jump(chain::DISPATCH)])];
    let to_refuse =
        || vec![rule("refuse what nobody answers", vec![is_new(), jump(chain::REFUSE)])];
    let base =
        |kind, point, priority, rules| Chain { hook: Some(Hook { kind, point, priority }), rules };
    let plain = |rules| Chain { hook: None, rules };
    let (nat, filter) = (ChainKind::Nat, ChainKind::Filter);
    [
        (chain::PREROUTING, base(nat, HookPoint::Prerouting, -100, to_dispatch())),
        (chain::OUTPUT, base(nat, HookPoint::Output, -100, to_dispatch())),
        (chain::POSTROUTING, base(nat, HookPoint::Postrouting, 100, postrouting(network))),
        (chain::FILTER_INPUT, base(filter, HookPoint::Input, 0, to_refuse())),
        (chain::FILTER_FORWARD, base(filter, HookPoint::Forward, 0, to_refuse())),
        (chain::FILTER_OUTPUT, base(filter, HookPoint::Output, 0, to_refuse())),
        (chain::DISPATCH, plain(look_up(set::SERVICES, set::NODE_PORTS))),
        (chain::REFUSE, plain(refuse())),
        (chain::REFUSAL, plain(vec![rule("refuse", vec![Statement::Counter, Statement::Reject])])),
    ]
    .map(|(name, chain)| (name.to_owned(), chain))
    .into()
}

/// The rules of a class: mark, choose a slot, and never let the packet pass untranslated.
///
/// A packet that crosses a change of the table may draw a slot that is gone: then the first slot
/// serves, and a front end that is gone altogether drops the packet; the client sends it again.
pub fn class_chain(class: Class, network: Option<&PodNetwork>) -> Chain {
    let mut rules = Vec::new();
    let mark = Statement::SetMark { and: !MASQUERADE_MARK, xor: MASQUERADE_MARK };
    let outside = match (class.masquerade, network) {
        (Masquerade::FromOutside, Some(network)) => outside_of(Field::SourceAddress, network),
        _ => Vec::new(),
    };
    rules.push(rule("reply through this node", [outside, vec![mark]].concat()));
    if class.slots > 1 {
        let random = Field::Random { modulus: class.slots };
        rules.push(rule("to a random endpoint", vec![dnat(class, random)]));
    }
    // A constant would do, but `nft list` cannot print one in a key.
    let first = Field::Random { modulus: 1 };
    rules.push(rule("to the first endpoint", vec![dnat(class, first)]));
    rules.push(rule("no endpoint any more", vec![Statement::Verdict(Verdict::Drop)]));
    Chain { hook: None, rules }
}

fn dnat(class: Class, slot: Field) -> Statement {
    let address = if class.node_port {
        Field::Constant(Ipv4Addr::UNSPECIFIED.octets().to_vec())
    } else {
        Field::DestinationAddress
    };
    let key = vec![address, Field::Protocol, Field::DestinationPort, slot];
    Statement::DnatMap { key, map: set::SLOTS.to_owned() }
}

fn look_up(services: &str, node_ports: &str) -> Vec<Rule> {
    let key = vec![Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let to_node = Statement::InSet {
        key: vec![Field::DestinationAddress],
        set: set::NODE_ADDRESSES.to_owned(),
        negate: false,
    };
    let port = vec![Field::Protocol, Field::DestinationPort];
    vec![
        rule("service addresses", vec![Statement::VerdictMap { key, map: services.to_owned() }]),
        rule(
            "node ports",
            vec![to_node, Statement::VerdictMap { key: port, map: node_ports.to_owned() }],
        ),
    ]
}

fn refuse() -> Vec<Rule> {
    let unknown_port = Statement::InSet {
        key: vec![Field::DestinationAddress],
        set: set::SERVICE_ADDRESSES.to_owned(),
        negate: false,
    };
    let mut rules = look_up(set::REFUSED_SERVICES, set::REFUSED_NODE_PORTS);
    let goto = Statement::Verdict(Verdict::Goto(chain::REFUSAL.to_owned()));
    rules.push(rule("unknown port of a service", vec![unknown_port, goto]));
    rules
}

fn postrouting(network: Option<&PodNetwork>) -> Vec<Rule> {
    let bit = MASQUERADE_MARK.to_ne_bytes().to_vec();
    let marked =
        Statement::Match { field: Field::Mark, mask: Some(bit.clone()), negate: false, value: bit };
    let clear = Statement::SetMark { and: !MASQUERADE_MARK, xor: 0 };
    let translated = Statement::Match {
        field: Field::ConntrackStatus,
        mask: Some(DST_NAT.to_ne_bytes().to_vec()),
        negate: false,
        value: DST_NAT.to_ne_bytes().to_vec(),
    };
    let to_itself = Statement::InSet {
        key: vec![Field::SourceAddress, Field::DestinationAddress],
        set: set::HAIRPIN.to_owned(),
        negate: false,
    };
    let mut rules = vec![
        rule(
            "reply through this node",
            vec![marked, clear, Statement::Counter, Statement::Masquerade],
        ),
        rule(
            "a pod reaches itself",
            vec![translated, to_itself, Statement::Counter, Statement::Masquerade],
        ),
    ];
    rules.extend(network.map(leaves_cluster));
    rules
}

fn leaves_cluster(network: &PodNetwork) -> Rule {
    let mut statements = vec![in_prefix(Field::SourceAddress, network.subnet, false)];
    statements.extend(outside_of(Field::DestinationAddress, network));
    let multicast = "224.0.0.0/4".parse().expect("a prefix");
    statements.push(in_prefix(Field::DestinationAddress, multicast, true));
    statements.extend([Statement::Counter, Statement::Masquerade]);
    rule("a pod leaves the cluster", statements)
}

fn outside_of(field: Field, network: &PodNetwork) -> Vec<Statement> {
    let cluster = network.cluster.iter().filter(|net| net.addr().is_ipv4());
    cluster.map(|net| in_prefix(field.clone(), *net, true)).collect()
}

fn in_prefix(field: Field, net: ipnet::IpNet, negate: bool) -> Statement {
    Statement::Match {
        field,
        mask: Some(octets(net.netmask())),
        negate,
        value: octets(net.network()),
    }
}

fn is_new() -> Statement {
    Statement::Match {
        field: Field::ConntrackState,
        mask: Some(STATE_NEW.to_ne_bytes().to_vec()),
        negate: false,
        value: STATE_NEW.to_ne_bytes().to_vec(),
    }
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn rule(comment: &str, statements: Vec<Statement>) -> Rule {
    Rule { statements, comment: comment.to_owned() }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The key of a front end in `services`, `node-ports` and their `refused` counterparts.
pub fn frontend_key(frontend: &Frontend) -> Key {
    let key = match frontend.scope {
        Scope::Address(address) => Key::new().part(&octets(address)),
        Scope::NodePort => Key::new(),
    };
    key.part(&[frontend.protocol.number()]).part(&frontend.port.to_be_bytes())
}

/// The key of a front end's slot in `slots`.
pub fn slot_key(frontend: &Frontend, slot: u32) -> Key {
    let address = match frontend.scope {
        Scope::Address(address) => address,
        Scope::NodePort => Ipv4Addr::UNSPECIFIED.into(),
    };
    Key::new()
        .part(&octets(address))
        .part(&[frontend.protocol.number()])
        .part(&frontend.port.to_be_bytes())
        .part(&slot.to_ne_bytes())
}

/// `None` for an endpoint of the other family: this table is IPv4's.
pub fn slot_element(endpoint: &Endpoint) -> Option<Element> {
    let SocketAddr::V4(address) = endpoint.address else { return None };
    let data = Key::new().part(&address.ip().octets()).part(&address.port().to_be_bytes());
    Some(Element { until: None, value: ElementValue::Data(data), comment: "".into() })
}
