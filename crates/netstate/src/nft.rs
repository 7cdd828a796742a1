//! nf_tables rule sets as values, at the level of statements rather than registers.
//!
//! The encoding of a statement into register expressions is the business of crate `kernel`.
//! Only what a service table needs is here; a new statement is a new variant and is then missing
//! nowhere, because every `match` on [`Statement`] is exhaustive.

mod display;

use std::collections::BTreeMap;
use std::fmt;

/// `NFPROTO_*` of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ip,
    Ip6,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    pub family: Family,
    pub name: String,
}

/// One table: all of it is committed in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub id: TableId,
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// `None`: a chain that is only jumped to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    pub kind: ChainKind,
    pub point: HookPoint,
    /// Lower runs first; −100 is dstnat, 0 filter, 100 srcnat (`NF_IP_PRI_*`).
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

/// `NF_INET_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub statements: Vec<Statement>,
    /// Why the rule is there, in words or as an origin; kept in the kernel as the rule's comment.
    pub comment: String,
}

/// One step of a rule. A matching statement that does not hold ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `field == value` or, negated, `field != value`; `mask` is applied first where given.
    Match {
        field: Field,
        mask: Option<Vec<u8>>,
        negate: bool,
        value: Vec<u8>,
    },
    /// `field . field @set`, or `!= @set`.
    InSet {
        key: Vec<Field>,
        set: String,
        negate: bool,
    },
    /// `field . field vmap @map`: goes on with the element's verdict; no element, nothing happens.
    VerdictMap {
        key: Vec<Field>,
        map: String,
    },
    /// Counts packets and octets that come this far.
    Counter,
    /// `meta mark set (mark & and) ^ xor`.
    SetMark {
        and: u32,
        xor: u32,
    },
    /// `dnat to field . field map @map`: the element's data is address then port.
    DnatMap {
        key: Vec<Field>,
        map: String,
    },
    /// `update @map { key timeout t : value }`: puts an element in, or lets the one that is there live longer.
    /// Where there is no room the rule ends.
    Remember {
        key: Vec<Field>,
        value: Vec<Field>,
        map: String,
        seconds: u32,
    },
    /// `meta priority set key map @map`: the only field that rules can write and that nobody reads before the packet
    /// is queued; where the map holds nothing the rule ends.
    SetPriorityMap {
        key: Vec<Field>,
        map: String,
    },
    /// `meta priority set number`.
    SetPriority(u32),
    /// `masquerade fully-random`.
    Masquerade,
    /// `notrack`: no connection is kept for the packet. Only before connections are tracked (priority −200).
    Notrack,
    /// Answers with a TCP reset for TCP, ICMP port unreachable otherwise.
    Reject,
    Verdict(Verdict),
    /// A kernel expression that has no statement here, by its name; only ever read, never written.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What a key or a comparison is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    SourceAddress,
    DestinationAddress,
    /// `meta l4proto`, one octet.
    Protocol,
    SourcePort,
    DestinationPort,
    /// `meta mark`, host byte order.
    Mark,
    /// `ct status`, host byte order, bits of `enum ip_conntrack_status`.
    ConntrackStatus,
    /// `ct original ip daddr`: where the connection was addressed to before any translation.
    ConntrackOriginalDestination,
    /// `ct original proto-dst`.
    ConntrackOriginalPort,
    /// `meta priority`, host byte order.
    Priority,
    /// `ct state`, host byte order, bits as nf_tables has them (invalid 1, established 2, related 4, new 8).
    ConntrackState,
    /// `numgen random mod n offset o`, host byte order.
    Random {
        modulus: u32,
        offset: u32,
    },
    /// `jhash source-or-destination-address mod n seed s offset o`, host byte order.
    AddressHash {
        of: AddressSide,
        modulus: u32,
        seed: u32,
        offset: u32,
    },
    /// `address & mask`: an address cut to a prefix.
    Masked {
        of: AddressSide,
        mask: Vec<u8>,
    },
    /// A constant, to fill a place of a concatenated key.
    Constant(Vec<u8>),
    /// `meta iifname`, 16 octets, zero filled.
    InputInterface,
    /// `fib daddr type`, host byte order (`RTN_LOCAL` is 2).
    DestinationAddressType,
    /// `fib saddr type`, likewise.
    SourceAddressType,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSide {
    Source,
    Destination,
}

impl AddressSide {
    pub fn field(self) -> Field {
        match self {
            AddressSide::Source => Field::SourceAddress,
            AddressSide::Destination => Field::DestinationAddress,
        }
    }
}

/// What an element of a set is made of: octets of each part (before padding to four).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// 4 octets.
    Ipv4,
    /// 16 octets.
    Ipv6,
    /// `inet_proto`, 1 octet.
    Protocol,
    /// `inet_service`, 2 octets, network byte order.
    Port,
    /// `mark` or any other 32-bit number in host byte order.
    Number,
    /// `ifname`, 16 octets.
    InterfaceName,
}

impl DataType {
    /// Octets before padding.
    pub fn width(self) -> usize {
        match self {
            DataType::Ipv4 | DataType::Number => 4,
            DataType::Ipv6 | DataType::InterfaceName => 16,
            DataType::Protocol => 1,
            DataType::Port => 2,
        }
    }

    /// Octets it takes in a concatenation: registers are filled in steps of four.
    pub fn padded_width(self) -> usize {
        self.width().next_multiple_of(4)
    }
}

/// A set, a map or a verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub key: Vec<DataType>,
    pub data: SetData,
    /// Elements are ranges or prefixes (single-part keys only).
    pub interval: bool,
    /// Each element counts packets and octets.
    pub counters: bool,
    /// Rules put elements in, which last for a time; at most so many. Nobody else's business: such elements are
    /// neither read nor compared.
    pub dynamic: Option<u32>,
    pub elements: BTreeMap<Key, Element>,
}

impl Set {
    /// Whether both differ in nothing but their elements.
    pub fn same_shape(&self, other: &Set) -> bool {
        self.key == other.key
            && self.data == other.data
            && self.interval == other.interval
            && self.counters == other.counters
            && self.dynamic == other.dynamic
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetData {
    /// A plain set.
    None,
    Verdict,
    /// A map to these parts, concatenated.
    Values(Vec<DataType>),
}

/// The octets of a concatenated key or of a map's data, each part padded to four octets.
///
/// Inline, at most 48 octets (two IPv6 addresses, protocol, two ports, number): a service table has a hundred thousand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: [u8; Key::CAPACITY],
    len: u8,
}

impl Key {
    /// Octets a key holds at most.
    pub const CAPACITY: usize = 48;

    pub fn new() -> Self {
        Key { bytes: [0; Key::CAPACITY], len: 0 }
    }

    /// Adds one part, zero-padded to a multiple of four octets.
    ///
    /// # Panics
    /// When the key would grow beyond [`Key::CAPACITY`]: keys have a fixed, known shape.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.len);
        let end = start + bytes.len().next_multiple_of(4);
        assert!(end <= Key::CAPACITY, "a key of {end} octets; the longest has {}", Key::CAPACITY);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len = u8::try_from(end).expect("bounded by the assertion above");
        self
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for Key {
    fn default() -> Self {
        Key::new()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:02x?})", self.as_bytes())
    }
}

/// What a key maps to, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// One past the last key of the range, in sets with `interval`.
    pub until: Option<Key>,
    pub value: ElementValue,
    /// Kept in the kernel as the element's comment; empty for none.
    pub comment: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementValue {
    None,
    Verdict(Verdict),
    Data(Key),
}
