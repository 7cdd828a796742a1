//! What a rule table does with a packet, by the table's values alone.
//!
//! The kernel's own evaluation, retold: base chains of a hook in order of priority, rules in order,
//! statements until one does not hold. What a table holds that has no meaning here ends in
//! [`Ending::Unknown`], never in a guess.

use crate::nft::{
    Chain, ChainKind, ElementValue, Field, HookPoint, Key, Set, Statement, Table, Verdict,
};
use std::net::IpAddr;

/// Jumps deep: the kernel allows no more (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// `IPS_DST_NAT` of `enum ip_conntrack_status`.
const DST_NAT: u32 = 1 << 5;

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

/// Runs the packet through the table's chains at one hook.
///
/// `random` draws the number below its argument for `numgen`.
pub fn evaluate(
    table: &Table,
    point: HookPoint,
    packet: &mut Packet,
    random: &mut dyn FnMut(u32) -> u32,
) -> Ending {
    let at_point = |chain: &&Chain| chain.hook.is_some_and(|hook| hook.point == point);
    let mut chains: Vec<&Chain> = table.chains.values().filter(at_point).collect();
    chains.sort_by_key(|chain| chain.hook.map(|hook| hook.priority));
    for chain in chains {
        let is_nat = chain.hook.is_some_and(|hook| hook.kind == ChainKind::Nat);
        if is_nat && packet.conntrack_state & 8 == 0 {
            continue;
        }
        let mut run = Run { table, packet, random };
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

struct Run<'a> {
    table: &'a Table,
    packet: &'a mut Packet,
    random: &'a mut dyn FnMut(u32) -> u32,
}

impl Run<'_> {
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
            Statement::InSet { key, set, negate } => match self.table.sets.get(set) {
                Some(found) => Step::when(self.find(found, key).is_some() != *negate),
                None => Step::Flow(unknown(&format!("no set {set}"))),
            },
            Statement::VerdictMap { key, map } => self.verdict_map(key, map, depth),
            Statement::Counter => Step::Holds,
            Statement::SetMark { and, xor } => {
                self.packet.mark = (self.packet.mark & and) ^ xor;
                Step::Holds
            }
            Statement::DnatMap { key, map } => self.dnat(key, map),
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
        let Some(set) = self.table.sets.get(map) else {
            return Step::Flow(unknown(&format!("no map {map}")));
        };
        match self.find(set, key) {
            None => Step::Fails,
            Some(ElementValue::Verdict(verdict)) => self.verdict(&verdict.clone(), depth),
            Some(_) => Step::Flow(unknown(&format!("{map} holds no verdicts"))),
        }
    }

    fn dnat(&mut self, key: &[Field], map: &str) -> Step {
        let Some(set) = self.table.sets.get(map) else {
            return Step::Flow(unknown(&format!("no map {map}")));
        };
        let Some(ElementValue::Data(data)) = self.find(set, key) else { return Step::Fails };
        let Some((address, port)) = endpoint(data.as_bytes()) else {
            return Step::Flow(unknown(&format!("{map} holds no endpoints")));
        };
        self.packet.destination = address;
        self.packet.destination_port = port;
        self.packet.conntrack_status |= DST_NAT;
        Step::Flow(Flow::Ended(Ending::Accepted))
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

    fn find<'s>(&mut self, set: &'s Set, key: &[Field]) -> Option<&'s ElementValue>
    where
        Self: 's,
    {
        let key = key.iter().fold(Key::new(), |built, field| built.part(&self.field(field)));
        if !set.interval {
            return set.elements.get(&key).map(|element| &element.value);
        }
        let (_, element) = set.elements.range(..=key).next_back()?;
        element.until.is_none_or(|until| key < until).then_some(&element.value)
    }

    /// The field's octets before padding.
    fn field(&mut self, field: &Field) -> Vec<u8> {
        let packet = &*self.packet;
        match field {
            Field::SourceAddress => octets(packet.source),
            Field::DestinationAddress => octets(packet.destination),
            Field::Protocol => vec![packet.protocol],
            Field::SourcePort => packet.source_port.to_be_bytes().to_vec(),
            Field::DestinationPort => packet.destination_port.to_be_bytes().to_vec(),
            Field::Mark => packet.mark.to_ne_bytes().to_vec(),
            Field::ConntrackStatus => packet.conntrack_status.to_ne_bytes().to_vec(),
            Field::ConntrackState => packet.conntrack_state.to_ne_bytes().to_vec(),
            Field::Random { modulus } => (self.random)(*modulus).to_ne_bytes().to_vec(),
            Field::Constant(octets) => octets.clone(),
            Field::InputInterface => {
                let mut name = packet.input_interface.clone().into_bytes();
                name.resize(16, 0);
                name
            }
            // Where an address is local is the routing table's knowledge, not the packet's.
            Field::DestinationAddressType => Vec::new(),
        }
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
