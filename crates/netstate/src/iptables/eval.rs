//! What rules do with a packet, by their values alone.

use super::{
    Chain, Match, Policy, RecentAction, RecentMatch, Rule, RuleSet, Side, State, Table, TableName,
    Target,
};
use crate::eval::{Ending, Packet};
use crate::nft::HookPoint;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The kernel has room for so many jumps; a rule set that needs more is refused.
const DEEPEST: usize = 64;

/// `IPS_SRC_NAT` and `IPS_DST_NAT` of `enum ip_conntrack_status`.
const SRC_NAT: u32 = 1 << 4;
const DST_NAT: u32 = 1 << 5;

/// What is not in the rules and not in the packet, but decides all the same.
pub struct Surroundings<'a> {
    /// Draws the number below its argument for `statistic`.
    pub random: &'a mut dyn FnMut(u32) -> u32,
    /// Whether an address is the node's own (`addrtype LOCAL`).
    pub is_local: &'a dyn Fn(IpAddr) -> bool,
    /// Of any clock that never goes back.
    pub now: Duration,
    pub recent: &'a mut RecentLists,
}

/// The lists of `-m recent`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentLists(pub BTreeMap<String, Recent>);

/// When each address was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent(pub BTreeMap<IpAddr, Vec<Duration>>);

/// Runs the packet through the chains of one hook, table by table as the kernel has them.
pub fn evaluate(
    rules: &RuleSet,
    point: HookPoint,
    packet: &mut Packet,
    surroundings: &mut Surroundings<'_>,
) -> Ending {
    let (hook, tables) = hook(point);
    for name in tables {
        let Some(table) = rules.tables.get(name) else { continue };
        let Some(chain) = table.chains.get(hook) else { continue };
        if *name == TableName::Nat && packet.conntrack_state & bit(State::New) == 0 {
            continue;
        }
        let mut run = Run { table, name: *name, packet, surroundings };
        match run.base(chain) {
            Ending::Accepted => {}
            ending => return ending,
        }
    }
    Ending::Accepted
}

fn hook(point: HookPoint) -> (&'static str, &'static [TableName]) {
    use TableName::{Filter, Mangle, Nat, Raw, Security};
    match point {
        HookPoint::Prerouting => ("PREROUTING", &[Raw, Mangle, Nat]),
        HookPoint::Input => ("INPUT", &[Mangle, Filter, Security, Nat]),
        HookPoint::Forward => ("FORWARD", &[Mangle, Filter, Security]),
        HookPoint::Output => ("OUTPUT", &[Raw, Mangle, Nat, Filter, Security]),
        HookPoint::Postrouting => ("POSTROUTING", &[Mangle, Nat]),
    }
}

enum Flow {
    Next,
    Returned,
    Ended(Ending),
}

struct Run<'a, 'b> {
    table: &'a Table,
    name: TableName,
    packet: &'a mut Packet,
    surroundings: &'a mut Surroundings<'b>,
}

/// What is not understood, to end with.
struct Unknown(String);

impl Run<'_, '_> {
    fn base(&mut self, chain: &Chain) -> Ending {
        match (self.chain(chain, 0), chain.policy) {
            (Flow::Ended(ending), _) => ending,
            (_, Some(Policy::Drop)) => Ending::Dropped,
            _ => Ending::Accepted,
        }
    }

    fn chain(&mut self, chain: &Chain, depth: usize) -> Flow {
        if depth > DEEPEST {
            return unknown("jumps too deep");
        }
        for rule in &chain.rules {
            match self.rule(rule, depth) {
                Flow::Next => {}
                Flow::Returned => return Flow::Next,
                ended @ Flow::Ended(_) => return ended,
            }
        }
        Flow::Next
    }

    /// `Next`: go on with the next rule.
    fn rule(&mut self, rule: &Rule, depth: usize) -> Flow {
        for condition in &rule.matches {
            match self.holds(condition) {
                Ok(true) => {}
                Ok(false) => return Flow::Next,
                Err(Unknown(what)) => return unknown(&what),
            }
        }
        match &rule.target {
            Some(target) => self.target(target, depth),
            None => Flow::Next,
        }
    }

    fn target(&mut self, target: &Target, depth: usize) -> Flow {
        match target {
            Target::Accept => Flow::Ended(Ending::Accepted),
            Target::Drop => Flow::Ended(Ending::Dropped),
            Target::Reject { .. } => Flow::Ended(Ending::Rejected),
            Target::Return => Flow::Returned,
            Target::Jump(name) => self.lead(name, depth),
            // Nothing comes back to the rules behind a goto.
            Target::Goto(name) => match self.lead(name, depth) {
                Flow::Next => Flow::Returned,
                flow => flow,
            },
            Target::Mark { value, mask } => {
                self.packet.mark = (self.packet.mark & !mask) ^ value;
                Flow::Next
            }
            _ if self.name != TableName::Nat => unknown(&format!("{target} in {}", self.name)),
            Target::Masquerade { .. } => {
                self.packet.masquerade = true;
                self.packet.conntrack_status |= SRC_NAT;
                Flow::Ended(Ending::Accepted)
            }
            Target::Dnat(to) => {
                self.packet.destination = to.address;
                self.packet.destination_port = to.port.unwrap_or(self.packet.destination_port);
                self.packet.conntrack_status |= DST_NAT;
                Flow::Ended(Ending::Accepted)
            }
            Target::Snat(to) => {
                self.packet.source = to.address;
                self.packet.source_port = to.port.unwrap_or(self.packet.source_port);
                self.packet.conntrack_status |= SRC_NAT;
                Flow::Ended(Ending::Accepted)
            }
            Target::Unknown(what) => unknown(what),
        }
    }

    fn lead(&mut self, name: &str, depth: usize) -> Flow {
        match self.table.chains.get(name) {
            Some(chain) => self.chain(chain, depth + 1),
            None => unknown(&format!("no chain {name}")),
        }
    }

    fn holds(&mut self, condition: &Match) -> Result<bool, Unknown> {
        let packet = &*self.packet;
        let is = |holds: bool, negate: &bool| Ok(holds != *negate);
        match condition {
            Match::Address { side, net, negate } => is(net.contains(&self.address(*side)), negate),
            Match::InputInterface { name, negate } => {
                is(is_interface(name, &packet.input_interface), negate)
            }
            Match::OutputInterface { .. } => Err(Unknown(format!("{condition}"))),
            Match::Protocol { protocol, negate } => {
                is(protocol.0 == 0 || protocol.0 == packet.protocol, negate)
            }
            Match::Port { protocol, side, ports, negate } => {
                // Without the protocol there are no ports, whatever is asked of them.
                Ok(protocol.0 == packet.protocol && ports.contains(&self.port(*side)) != *negate)
            }
            Match::Ports { side, ports, negate } => {
                let within = |side| ports.iter().any(|ports| ports.contains(&self.port(side)));
                let either = [Side::Source, Side::Destination];
                is(side.map_or_else(|| either.into_iter().any(within), within), negate)
            }
            Match::Comment(_) | Match::Accounted(_) => Ok(true),
            Match::AddressType { side, kind, negate } if kind == "LOCAL" => {
                is((self.surroundings.is_local)(self.address(*side)), negate)
            }
            Match::State { states, negate } => {
                is(states.iter().any(|state| has_state(packet, *state)), negate)
            }
            Match::Mark { value, mask, negate } => is(packet.mark & mask == *value, negate),
            Match::Chance(share) => Ok((self.surroundings.random)(1 << 31) < *share),
            Match::Recent(recent) => Ok(self.recent(recent) != recent.negate),
            Match::AddressType { .. } | Match::IpSet { .. } | Match::Unknown(_) => {
                Err(Unknown(condition.to_string()))
            }
        }
    }

    fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.packet.source,
            Side::Destination => self.packet.destination,
        }
    }

    fn port(&self, side: Side) -> u16 {
        match side {
            Side::Source => self.packet.source_port,
            Side::Destination => self.packet.destination_port,
        }
    }

    /// `recent_mt` of net/netfilter/xt_recent.c.
    fn recent(&mut self, asked: &RecentMatch) -> bool {
        let (address, now) = (self.address(asked.side), self.surroundings.now);
        let list = &mut self.surroundings.recent.0.entry(asked.name.clone()).or_default().0;
        let since = asked.seconds.map_or(Duration::ZERO, |seconds| {
            now.saturating_sub(Duration::from_secs(seconds.into()))
        });
        let Some(stamps) = list.get(&address) else {
            if asked.action == RecentAction::Set {
                list.insert(address, vec![now]);
            }
            return asked.action == RecentAction::Set;
        };
        let hits = stamps.iter().filter(|stamp| **stamp >= since).count();
        let wanted =
            asked.hits.map_or(1, |hits| usize::try_from(hits.max(1)).unwrap_or(usize::MAX));
        let holds = match asked.action {
            RecentAction::Set | RecentAction::Remove => true,
            RecentAction::Check | RecentAction::Update => hits >= wanted,
        };
        if asked.reap {
            list.retain(|_, stamps| stamps.last().is_some_and(|stamp| *stamp >= since));
        }
        match asked.action {
            RecentAction::Remove => drop(list.remove(&address)),
            RecentAction::Set => list.entry(address).or_default().push(now),
            RecentAction::Update if holds => list.entry(address).or_default().push(now),
            RecentAction::Check | RecentAction::Update => {}
        }
        holds
    }
}

fn has_state(packet: &Packet, state: State) -> bool {
    match state {
        State::Snat => packet.conntrack_status & SRC_NAT != 0,
        State::Dnat => packet.conntrack_status & DST_NAT != 0,
        state => packet.conntrack_state & bit(state) != 0,
    }
}

/// As nf_tables numbers the states.
fn bit(state: State) -> u32 {
    match state {
        State::Invalid => 1,
        State::Established => 2,
        State::Related => 4,
        State::New => 8,
        State::Untracked => 64,
        State::Snat | State::Dnat => 0,
    }
}

fn is_interface(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('+').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

fn unknown(what: &str) -> Flow {
    Flow::Ended(Ending::Unknown(what.to_owned()))
}
