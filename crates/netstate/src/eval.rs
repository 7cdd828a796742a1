//! What a rule table does with a packet, by the table's values alone.
//!
//! The kernel's own evaluation, retold: base chains of a hook in order of priority, rules in order,
//! statements until one does not hold. What a table holds that has no meaning here ends in
//! [`Ending::Unknown`], never in a guess.

use crate::nft::{
    Chain, ChainKind, Element, ElementValue, Field, HookPoint, Key, Statement, Table, Verdict,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Jumps deep: the kernel allows no more (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// `IPS_DST_NAT` of `enum ip_conntrack_status`.
const DST_NAT: u32 = 1 << 5;

/// `RTN_UNICAST` and `RTN_LOCAL` of linux/rtnetlink.h.
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;

/// What a rule can see of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub mark: u32,
    /// Bits as nf_tables has them; only packets of new connections (8) see NAT chains.
    pub conntrack_state: u32,
    pub conntrack_status: u32,
    pub input_interface: String,
    /// Where it was addressed to before it was translated.
    pub original: Option<(IpAddr, u16)>,
    pub priority: u32,
    /// Whether the source is to be replaced by the node's own address on the way out.
    pub masquerade: bool,
}

/// How a hook ends for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Accepted,
    Dropped,
    Rejected,
    /// The table holds something that is not understood here.
    Unknown(String),
}

/// What is not in the table and not in the packet, but decides all the same.
pub struct Surroundings<'a> {
    /// Draws the number below its argument for `numgen` and `jhash`.
    pub random: &'a mut dyn FnMut(u32) -> u32,
    /// Whether an address is the node's own (`fib … type local`).
    pub is_local: &'a dyn Fn(IpAddr) -> bool,
    /// Elements that rules have put into dynamic maps; they last for ever here.
    pub memory: &'a mut Memory,
}

/// By map and key.
pub type Memory = BTreeMap<String, BTreeMap<Key, Key>>;

/// Runs the packet through the table's chains at one hook.
pub fn evaluate(
    table: &Table,
    point: HookPoint,
    packet: &mut Packet,
    surroundings: &mut Surroundings<'_>,
) -> Ending {
    let at_point = |chain: &&Chain| chain.hook.is_some_and(|hook| hook.point == point);
    let mut chains: Vec<&Chain> = table.chains.values().filter(at_point).collect();
    chains.sort_by_key(|chain| chain.hook.map(|hook| hook.priority));
    for chain in chains {
        let is_nat = chain.hook.is_some_and(|hook| hook.kind == ChainKind::Nat);
        if is_nat && packet.conntrack_state & 8 == 0 {
            continue;
        }
        let mut run = Run { table, packet, surroundings };
        match run.chain(chain, 0) {
            Flow::Ended(Ending::Accepted) | Flow::Next | Flow::Returned => {}
            Flow::Ended(ending) => return ending,
        }
    }
    Ending::Accepted
}

enum Flow {
    Next,
    Returned,
    Ended(Ending),
}

struct Run<'a, 'b> {
    table: &'a Table,
    packet: &'a mut Packet,
    surroundings: &'a mut Surroundings<'b>,
}

impl Run<'_, '_> {
    fn chain(&mut self, chain: &Chain, depth: usize) -> Flow {
        if depth > DEEPEST {
            return unknown("jumps too deep");
        }
        for rule in &chain.rules {
            match self.rule(&rule.statements, depth) {
                Flow::Next => {}
                Flow::Returned => return Flow::Next,
                ended @ Flow::Ended(_) => return ended,
            }
        }
        Flow::Next
    }

    /// `Next`: go on with the next rule.
    fn rule(&mut self, statements: &[Statement], depth: usize) -> Flow {
        for statement in statements {
            match self.statement(statement, depth) {
                Step::Holds => {}
                Step::Fails => return Flow::Next,
                Step::Flow(flow) => return flow,
            }
        }
        Flow::Next
    }

    fn statement(&mut self, statement: &Statement, depth: usize) -> Step {
        match statement {
            Statement::Match { field, mask, negate, value } => {
                let mut have = self.field(field);
                if let Some(mask) = mask {
                    have.iter_mut().zip(mask).for_each(|(octet, mask)| *octet &= mask);
                }
                Step::when((have == *value) != *negate)
            }
            Statement::InSet { key, set, negate } => match self.find(set, key) {
                Found::NoSet => Step::Flow(unknown(&format!("no set {set}"))),
                Found::Nothing => Step::when(*negate),
                Found::Value(_) => Step::when(!*negate),
            },
            Statement::VerdictMap { key, map } => self.verdict_map(key, map, depth),
            Statement::Counter | Statement::Notrack => Step::Holds,
            Statement::SetMark { and, xor } => {
                self.packet.mark = (self.packet.mark & and) ^ xor;
                Step::Holds
            }
            Statement::DnatMap { key, map } => self.dnat(key, map),
            Statement::Remember { key, value, map, .. } => self.remember(key, value, map),
            Statement::SetPriorityMap { key, map } => self.set_priority(key, map),
            Statement::SetPriority(number) => {
                self.packet.priority = *number;
                Step::Holds
            }
            Statement::Masquerade => {
                self.packet.masquerade = true;
                Step::Flow(Flow::Ended(Ending::Accepted))
            }
            Statement::Reject => Step::Flow(Flow::Ended(Ending::Rejected)),
            Statement::Verdict(verdict) => self.verdict(verdict, depth),
            Statement::Unknown(what) => Step::Flow(unknown(what)),
        }
    }

    fn verdict_map(&mut self, key: &[Field], map: &str, depth: usize) -> Step {
        match self.find(map, key) {
            Found::NoSet => Step::Flow(unknown(&format!("no map {map}"))),
            Found::Nothing => Step::Fails,
            Found::Value(ElementValue::Verdict(verdict)) => self.verdict(&verdict, depth),
            Found::Value(_) => Step::Flow(unknown(&format!("{map} holds no verdicts"))),
        }
    }

    fn dnat(&mut self, key: &[Field], map: &str) -> Step {
        let data = match self.find(map, key) {
            Found::NoSet => return Step::Flow(unknown(&format!("no map {map}"))),
            Found::Value(ElementValue::Data(data)) => data,
            Found::Nothing | Found::Value(_) => return Step::Fails,
        };
        let Some((address, port)) = endpoint(data.as_bytes()) else {
            return Step::Flow(unknown(&format!("{map} holds no endpoints")));
        };
        let before = (self.packet.destination, self.packet.destination_port);
        self.packet.original.get_or_insert(before);
        self.packet.destination = address;
        self.packet.destination_port = port;
        self.packet.conntrack_status |= DST_NAT;
        Step::Flow(Flow::Ended(Ending::Accepted))
    }

    fn remember(&mut self, key: &[Field], value: &[Field], map: &str) -> Step {
        let (key, value) = (self.key(key), self.key(value));
        let memory = self.surroundings.memory.entry(map.to_owned()).or_default();
        memory.entry(key).or_insert(value);
        Step::Holds
    }

    fn set_priority(&mut self, key: &[Field], map: &str) -> Step {
        let data = match self.find(map, key) {
            Found::NoSet => return Step::Flow(unknown(&format!("no map {map}"))),
            Found::Value(ElementValue::Data(data)) => data,
            Found::Nothing | Found::Value(_) => return Step::Fails,
        };
        let Ok(number) = data.as_bytes().try_into() else {
            return Step::Flow(unknown(&format!("{map} holds no numbers")));
        };
        self.packet.priority = u32::from_ne_bytes(number);
        Step::Holds
    }

    fn verdict(&mut self, verdict: &Verdict, depth: usize) -> Step {
        Step::Flow(match verdict {
            Verdict::Accept => Flow::Ended(Ending::Accepted),
            Verdict::Drop => Flow::Ended(Ending::Dropped),
            Verdict::Return => Flow::Returned,
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let Some(chain) = self.table.chains.get(name) else {
                    return Step::Flow(unknown(&format!("no chain {name}")));
                };
                match (self.chain(chain, depth + 1), verdict) {
                    // A chain that was gone to returns to where its caller was jumped from.
                    (Flow::Next, Verdict::Goto(_)) => Flow::Returned,
                    (flow, _) => flow,
                }
            }
        })
    }

    fn find(&mut self, set: &str, key: &[Field]) -> Found {
        let Some(found) = self.table.sets.get(set) else { return Found::NoSet };
        let key = self.key(key);
        if found.dynamic.is_some() {
            let held = self.surroundings.memory.get(set).and_then(|memory| memory.get(&key));
            return held.map_or(Found::Nothing, |data| Found::Value(ElementValue::Data(*data)));
        }
        if !found.interval {
            return Found::of(found.elements.get(&key));
        }
        let Some((_, element)) = found.elements.range(..=key).next_back() else {
            return Found::Nothing;
        };
        Found::of(Some(element).filter(|element| element.until.is_none_or(|until| key < until)))
    }

    fn key(&mut self, fields: &[Field]) -> Key {
        fields.iter().fold(Key::new(), |key, field| key.part(&self.field(field)))
    }

    /// The field's octets before padding.
    fn field(&mut self, field: &Field) -> Vec<u8> {
        let packet = &*self.packet;
        let is_local = self.surroundings.is_local;
        let kind = |address| if is_local(address) { RTN_LOCAL } else { RTN_UNICAST };
        let original = packet.original.unwrap_or((packet.destination, packet.destination_port));
        match field {
            Field::ConntrackOriginalDestination => octets(original.0),
            Field::ConntrackOriginalPort => original.1.to_be_bytes().to_vec(),
            Field::Priority => packet.priority.to_ne_bytes().to_vec(),
            Field::SourceAddress => octets(packet.source),
            Field::DestinationAddress => octets(packet.destination),
            Field::Protocol => vec![packet.protocol],
            Field::SourcePort => packet.source_port.to_be_bytes().to_vec(),
            Field::DestinationPort => packet.destination_port.to_be_bytes().to_vec(),
            Field::Mark => packet.mark.to_ne_bytes().to_vec(),
            Field::ConntrackStatus => packet.conntrack_status.to_ne_bytes().to_vec(),
            Field::ConntrackState => packet.conntrack_state.to_ne_bytes().to_vec(),
            // With one number to choose from nothing is drawn.
            Field::Random { modulus: 1, offset } => offset.to_ne_bytes().to_vec(),
            Field::Random { modulus, offset } | Field::AddressHash { modulus, offset, .. } => {
                let drawn = (self.surroundings.random)(*modulus);
                offset.wrapping_add(drawn).to_ne_bytes().to_vec()
            }
            Field::Masked { of, mask } => {
                let mut address = self.field(&of.field());
                address.iter_mut().zip(mask).for_each(|(octet, mask)| *octet &= mask);
                address
            }
            Field::Constant(octets) => octets.clone(),
            Field::InputInterface => {
                let mut name = packet.input_interface.clone().into_bytes();
                name.resize(16, 0);
                name
            }
            Field::SourceAddressType => kind(packet.source).to_ne_bytes().to_vec(),
            Field::DestinationAddressType => kind(packet.destination).to_ne_bytes().to_vec(),
        }
    }
}

/// What a set holds for a key.
enum Found {
    NoSet,
    Nothing,
    Value(ElementValue),
}

impl Found {
    fn of(element: Option<&Element>) -> Self {
        element.map_or(Found::Nothing, |element| Found::Value(element.value.clone()))
    }
}

enum Step {
    Holds,
    Fails,
    Flow(Flow),
}

impl Step {
    fn when(holds: bool) -> Self {
        if holds { Step::Holds } else { Step::Fails }
    }
}

fn unknown(what: &str) -> Flow {
    Flow::Ended(Ending::Unknown(what.to_owned()))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Address, then port in network byte order, each padded to four octets.
fn endpoint(data: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = data.split_at_checked(data.len().checked_sub(4)?)?;
    let port = u16::from_be_bytes([*port.first()?, *port.get(1)?]);
    match address.len() {
        4 => Some((<[u8; 4]>::try_from(address).ok()?.into(), port)),
        16 => Some((<[u8; 16]>::try_from(address).ok()?.into(), port)),
        _ => None,
    }
}
