//! iptables rule sets as values: what `iptables-save` and `ip6tables-save` print, of either variant.
//!
//! What a rule says and has no place here is kept as text ([`Match::Unknown`], [`Target::Unknown`]), so that a
//! dump of any node can be read, compared and printed; only its evaluation then ends in a named unknown.

mod delta;
mod eval;
mod option;
mod parse;
mod save;
mod target;
mod words;

pub use delta::{ChainDelta, Delta, Scope, TableDelta};
pub use eval::{Recent, RecentLists, Surroundings, evaluate};
pub use parse::ParseError;

use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

/// The tables of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    pub tables: BTreeMap<TableName, Table>,
}

/// In the order in which a hook runs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableName {
    Raw,
    Mangle,
    Nat,
    Filter,
    Security,
}

impl TableName {
    pub const ALL: [TableName; 5] =
        [TableName::Raw, TableName::Mangle, TableName::Nat, TableName::Filter, TableName::Security];

    pub fn as_str(self) -> &'static str {
        match self {
            TableName::Raw => "raw",
            TableName::Mangle => "mangle",
            TableName::Nat => "nat",
            TableName::Filter => "filter",
            TableName::Security => "security",
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// What becomes of packets that no rule decides about; `None`: not a chain of the kernel's own, and they go
    /// back to the chain that they came from.
    pub policy: Option<Policy>,
    pub counters: Counters,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: u64,
    pub octets: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// As they were counted, where that was asked for (`iptables-save -c`).
    pub counters: Option<Counters>,
    /// All must hold.
    pub matches: Vec<Match>,
    /// `None`: it counts and no more.
    pub target: Option<Target>,
}

impl Rule {
    /// With its conditions in the order in which `iptables-save` prints them.
    pub fn new(mut matches: Vec<Match>, target: Target) -> Self {
        matches.sort_by_key(Match::rank);
        Rule { counters: None, matches, target: Some(target) }
    }

    /// Whether both say the same, whatever they counted.
    pub fn is_like(&self, other: &Rule) -> bool {
        self.matches == other.matches && self.target == other.target
    }

    /// The chain it leads to.
    pub fn leads_to(&self) -> Option<&str> {
        match &self.target {
            Some(Target::Jump(chain) | Target::Goto(chain)) => Some(chain),
            _ => None,
        }
    }

    pub fn comment(&self) -> Option<&str> {
        self.matches.iter().find_map(|it| match it {
            Match::Comment(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Source,
    Destination,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `-s`, `-d`.
    Address {
        side: Side,
        net: IpNet,
        negate: bool,
    },
    /// `-i`; a last `+` stands for any rest.
    InputInterface {
        name: String,
        negate: bool,
    },
    /// `-o`.
    OutputInterface {
        name: String,
        negate: bool,
    },
    /// `-p`.
    Protocol {
        protocol: Protocol,
        negate: bool,
    },
    /// `-m tcp --dport` and the like.
    Port {
        protocol: Protocol,
        side: Side,
        ports: RangeInclusive<u16>,
        negate: bool,
    },
    /// `-m multiport`; no side: either port will do.
    Ports {
        side: Option<Side>,
        ports: Vec<RangeInclusive<u16>>,
        negate: bool,
    },
    Comment(String),
    /// `-m addrtype`, by the kernel's name of the type (`LOCAL`).
    AddressType {
        side: Side,
        kind: String,
        negate: bool,
    },
    /// `-m conntrack --ctstate`.
    State {
        states: BTreeSet<State>,
        negate: bool,
    },
    /// `-m mark`: `mark & mask == value`.
    Mark {
        value: u32,
        mask: u32,
        negate: bool,
    },
    /// `-m statistic --mode random`: in so many of 2³¹ cases.
    Chance(u32),
    /// `-m recent`.
    Recent(RecentMatch),
    /// `-m set --match-set`: the elements are in an ipset.
    IpSet {
        name: String,
        directions: String,
        negate: bool,
    },
    /// `-m nfacct`: counts elsewhere, and always holds.
    Accounted(String),
    /// Its words, quoted as they were.
    Unknown(String),
}

impl Match {
    /// What belongs to no module is printed first, in this order.
    fn rank(&self) -> u8 {
        match self {
            Match::Address { side: Side::Source, .. } => 0,
            Match::Address { side: Side::Destination, .. } => 1,
            Match::InputInterface { .. } => 2,
            Match::OutputInterface { .. } => 3,
            Match::Protocol { .. } => 4,
            _ => 5,
        }
    }
}

/// A list of addresses seen, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentMatch {
    pub action: RecentAction,
    pub negate: bool,
    pub name: String,
    /// How long ago at most.
    pub seconds: Option<u32>,
    /// Older ones are forgotten by the way.
    pub reap: bool,
    /// So many times at least.
    pub hits: Option<u32>,
    pub side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecentAction {
    Set,
    Check,
    Update,
    Remove,
}

/// An IP protocol, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const TCP: Protocol = Protocol(6);
    pub const UDP: Protocol = Protocol(17);
    pub const SCTP: Protocol = Protocol(132);
}

/// What connection tracking says; in the order in which `iptables-save` prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Invalid,
    New,
    Related,
    Established,
    Untracked,
    Snat,
    Dnat,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// By the name of the answer, without which it is port unreachable.
    Reject {
        with: Option<String>,
    },
    /// `MARK --set-xmark`: `(mark & !mask) ^ value`.
    Mark {
        value: u32,
        mask: u32,
    },
    Masquerade {
        fully_random: bool,
    },
    /// `--to-destination`, `--to-source`: one address, with its port or without.
    Dnat(Translation),
    Snat(Translation),
    /// Its name and words, quoted as they were.
    Unknown(String),
}

/// What an end of a packet becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    pub address: std::net::IpAddr,
    pub port: Option<u16>,
    pub fully_random: bool,
}

impl RuleSet {
    /// Reads what `iptables-save` prints.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    pub fn chain(&self, table: TableName, chain: &str) -> Option<&Chain> {
        self.tables.get(&table)?.chains.get(chain)
    }
}

/// As `iptables-save` prints it, with counters where there are any.
impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        save::rule_set(self, f)
    }
}
