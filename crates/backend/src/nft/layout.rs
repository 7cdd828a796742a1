//! The shape of the table: names, keys and what elements hold.

use model::Family;
use netstate::nft::{DataType, Element, ElementValue, Key, Set, SetData, TableId};
use program::{Draw, Endpoint, Frontend, Masquerade, Pool, Reach, Scope};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Packets with this bit leave with the node's own address (`--iptables-masquerade-bit` 14).
pub const MASQUERADE_MARK: u32 = 0x4000;

/// Where the slots of a second pool begin.
pub const OUTSIDE_SLOTS: u32 = 1 << 16;

/// Clients that are remembered at most, in each family; those beyond get an endpoint as if it were their first time.
const REMEMBERED_CLIENTS: u32 = 1 << 16;

/// The names of the sets and maps.
pub mod set {
    /// Node's own addresses that node ports answer on, where they are not told by prefixes.
    pub const NODE_ADDRESSES: &str = "node-addresses";
    /// Cluster IPs that have front ends: unknown ports on them are refused.
    pub const SERVICE_ADDRESSES: &str = "service-addresses";
    /// Address, protocol, port to the chain of the front end's class.
    pub const SERVICES: &str = "services";
    /// Protocol, port likewise.
    pub const NODE_PORTS: &str = "node-ports";
    /// Address, protocol, port, slot number to endpoint.
    pub const SLOTS: &str = "slots";
    /// Protocol, port, slot number likewise.
    pub const SLOTS_NODE_PORTS: &str = "slots-node-ports";
    /// Pod address twice, for each pod on the node: a pod that reached itself through its Service.
    pub const HAIRPIN: &str = "hairpin";
    /// Front ends that depend on where a packet comes from, to the chain for pods and the node itself.
    pub const INSIDE: &str = "inside";
    pub const INSIDE_NODE_PORTS: &str = "inside-node-ports";
    /// Likewise, to the chain for everybody else.
    pub const OUTSIDE: &str = "outside";
    pub const OUTSIDE_NODE_PORTS: &str = "outside-node-ports";
    /// Address, protocol, port, prefix length, source prefix: who may connect where not everybody may.
    pub const ALLOWED: &str = "allowed-sources";
    /// Front ends that not everybody may connect to, to what becomes of those who may.
    pub const GUARDED: &str = "guarded";
    /// Front ends whose clients keep their endpoints, to the number of the Service port.
    pub const STICKY: &str = "sticky";
    pub const STICKY_NODE_PORTS: &str = "sticky-node-ports";
    /// The same front ends, to the chain that remembers for as long as the Service wants.
    pub const REMEMBERED: &str = "remembered";
    pub const REMEMBERED_NODE_PORTS: &str = "remembered-node-ports";
    /// Number of the Service port, client to its endpoint. Filled by rules.
    pub const MEMORY: &str = "memory";
    /// Likewise, where only endpoints on this node count.
    pub const MEMORY_LOCAL: &str = "memory-local";
    /// Those endpoints: address and port.
    pub const LOCAL_ENDPOINTS: &str = "local-endpoints";

    /// Sets that rules look into once `services` or `node-ports` have led them there.
    pub const DETAILS: [&str; 12] = [
        SLOTS,
        SLOTS_NODE_PORTS,
        INSIDE,
        INSIDE_NODE_PORTS,
        OUTSIDE,
        OUTSIDE_NODE_PORTS,
        ALLOWED,
        GUARDED,
        STICKY,
        STICKY_NODE_PORTS,
        REMEMBERED,
        REMEMBERED_NODE_PORTS,
    ];
}

/// The names of the chains that are not classes.
pub mod chain {
    pub const PREROUTING: &str = "prerouting";
    pub const OUTPUT: &str = "output";
    pub const POSTROUTING: &str = "postrouting";
    /// Where a new connection's front end is found.
    pub const DISPATCH: &str = "dispatch";
    /// Front ends that not everybody may connect to.
    pub const GUARD: &str = "guard";
    /// Front ends for which it matters where the packet comes from.
    pub const BY_SOURCE: &str = "by-source";
    pub const BY_SOURCE_NODE_PORT: &str = "by-source-node-port";
    /// Where the endpoint that a client got is remembered, on its way to it.
    pub const REMEMBER: &str = "remember";
    pub const REMEMBER_HERE: &str = "remember-here";
    /// Traffic policy Local, and no endpoint on this node.
    pub const NOT_HERE: &str = "not-here";
    /// What nobody answers.
    pub const REFUSAL: &str = "refusal";
}

pub fn table_id(family: Family) -> TableId {
    let family = match family {
        Family::V4 => netstate::nft::Family::Ip,
        Family::V6 => netstate::nft::Family::Ip6,
    };
    TableId { family, name: "podway".to_owned() }
}

/// The table that serves while the other one is replaced.
pub fn stand_in_id(family: Family) -> TableId {
    TableId { name: "podway-stand-in".to_owned(), ..table_id(family) }
}

/// All front ends that are served by the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    pub node_port: bool,
    pub masquerade: Masquerade,
    pub side: Side,
    pub draw: Draw,
    pub slots: u32,
    /// Clients keep their endpoints: those of the memory that goes with the pool.
    pub memory: Option<Memory>,
}

/// Which endpoints a client may be remembered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    Cluster,
    Local,
}

impl Memory {
    pub const ALL: [Memory; 2] = [Memory::Cluster, Memory::Local];

    pub fn of(pool: &Pool) -> Self {
        if pool.reach == Reach::Local { Memory::Local } else { Memory::Cluster }
    }

    /// The map that holds it.
    pub fn map(self) -> &'static str {
        match self {
            Memory::Cluster => set::MEMORY,
            Memory::Local => set::MEMORY_LOCAL,
        }
    }
}

/// The chain that remembers the clients of front ends for so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remembering {
    pub node_port: bool,
    pub seconds: u32,
}

impl fmt::Display for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.node_port { "node-port" } else { "address" };
        write!(f, "remember-{scope}-{}", self.seconds)
    }
}

/// Which of a front end's pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The only one, or that of pods and the node itself.
    Inside,
    Outside,
}

impl Side {
    pub fn first_slot(self) -> u32 {
        match self {
            Side::Inside => 0,
            Side::Outside => OUTSIDE_SLOTS,
        }
    }
}

/// The name of the class's chain.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.node_port { "node-port" } else { "address" };
        let masquerade = match self.masquerade {
            Masquerade::Always => "masquerade",
            Masquerade::FromOutside => "outside",
            Masquerade::FromNode | Masquerade::Never => "keep",
        };
        write!(f, "{scope}-{masquerade}-{}", self.slots)?;
        f.write_str(match self.draw {
            Draw::Random => "",
            Draw::Source => "-by-source",
            Draw::Destination => "-by-destination",
        })?;
        if self.side == Side::Outside {
            f.write_str("-local")?;
        }
        f.write_str(match self.memory {
            None => "",
            Some(Memory::Cluster) => "-sticky",
            Some(Memory::Local) => "-sticky-here",
        })
    }
}

/// The sets and maps, empty.
pub fn sets(family: Family) -> BTreeMap<String, Set> {
    use DataType::{Number, Port, Protocol};
    let ip = match family {
        Family::V4 => DataType::Ipv4,
        Family::V6 => DataType::Ipv6,
    };
    let set = |key: &[DataType], data, counters| Set {
        key: key.to_vec(),
        data,
        interval: false,
        counters,
        dynamic: None,
        elements: BTreeMap::new(),
    };
    let endpoint = || SetData::Values(vec![ip, Port]);
    let sticky = |key: &[DataType]| set(key, SetData::Values(vec![Number]), false);
    let verdicts = |key: &[DataType], counters| set(key, SetData::Verdict, counters);
    let plain = |key: &[DataType]| set(key, SetData::None, false);
    let frontend = [ip, Protocol, Port];
    let memory = || {
        let empty = set(&[Number, ip], endpoint(), false);
        Set { dynamic: Some(REMEMBERED_CLIENTS), ..empty }
    };
    let fixed = [
        (set::NODE_ADDRESSES, plain(&[ip])),
        (set::SERVICE_ADDRESSES, plain(&[ip])),
        (set::SERVICES, verdicts(&frontend, true)),
        (set::NODE_PORTS, verdicts(&frontend[1..], true)),
        (set::SLOTS, set(&[ip, Protocol, Port, Number], endpoint(), false)),
        (set::SLOTS_NODE_PORTS, set(&[Protocol, Port, Number], endpoint(), false)),
        (set::HAIRPIN, plain(&[ip, ip])),
        (set::INSIDE, verdicts(&frontend, false)),
        (set::INSIDE_NODE_PORTS, verdicts(&frontend[1..], false)),
        (set::OUTSIDE, verdicts(&frontend, false)),
        (set::OUTSIDE_NODE_PORTS, verdicts(&frontend[1..], false)),
        (set::ALLOWED, plain(&[ip, Protocol, Port, Number, ip])),
        (set::GUARDED, verdicts(&frontend, true)),
        (set::STICKY, sticky(&frontend)),
        (set::STICKY_NODE_PORTS, sticky(&frontend[1..])),
        (set::REMEMBERED, verdicts(&frontend, false)),
        (set::REMEMBERED_NODE_PORTS, verdicts(&frontend[1..], false)),
        (set::MEMORY, memory()),
        (set::MEMORY_LOCAL, memory()),
        (set::LOCAL_ENDPOINTS, plain(&[ip, Port])),
    ];
    fixed.map(|(name, set)| (name.to_owned(), set)).into()
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(crate) fn address_key(address: IpAddr) -> Key {
    Key::new().part(&octets(address))
}

/// The key of a front end: that of a node port has no address, and is in sets of its own.
pub fn frontend_key(frontend: &Frontend) -> Key {
    let key = match frontend.scope {
        Scope::Address(address) => address_key(address),
        Scope::NodePort(_) => Key::new(),
    };
    key.part(&[frontend.protocol.number()]).part(&frontend.port.to_be_bytes())
}

/// The key of a front end's slot.
pub fn slot_key(frontend: &Frontend, slot: u32) -> Key {
    frontend_key(frontend).part(&slot.to_ne_bytes())
}

/// The key of a prefix in `allowed-sources`.
pub(super) fn allowed_key(frontend: &Frontend, net: &ipnet::IpNet) -> Key {
    let length = u32::from(net.prefix_len());
    frontend_key(frontend).part(&length.to_ne_bytes()).part(&octets(net.network()))
}

pub(super) fn slot_element(endpoint: &Endpoint) -> Element {
    data_element(endpoint_key(endpoint.address()))
}

/// An endpoint's address and port, as elements hold them.
pub(super) fn endpoint_key(endpoint: SocketAddr) -> Key {
    address_key(endpoint.ip()).part(&endpoint.port().to_be_bytes())
}

pub(super) fn data_element(data: Key) -> Element {
    Element { until: None, value: ElementValue::Data(data), comment: "".into() }
}

pub(crate) fn bare() -> Element {
    Element { until: None, value: ElementValue::None, comment: "".into() }
}
