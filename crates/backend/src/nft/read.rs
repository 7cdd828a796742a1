//! The service table as the kernel has it, in the words of the program: for `podway show`.

use super::layout::{chain, set, table_id};
use kernel::netlink::Socket;
use kernel::nft::{Count, Observed, read_table};
use model::Origin;
use netstate::nft::{Key, Rule};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A front end as the kernel serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `None`: the node's own addresses.
    pub address: Option<Ipv4Addr>,
    /// IP protocol number.
    pub protocol: u8,
    pub port: u16,
    /// Where it comes from; `None` where somebody else put it there.
    pub origin: Option<Origin>,
    /// In order of slots; empty: refused.
    pub endpoints: Vec<SocketAddrV4>,
    /// New connections since the element was made.
    pub connections: Count,
}

/// A rule with its place and its counter, where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRule {
    pub chain: String,
    pub rule: Rule,
    pub count: Option<Count>,
}

/// The whole table; `None` where there is none.
pub fn observe() -> kernel::Result<Option<Observed>> {
    read_table(&mut Socket::netfilter()?, &table_id())
}

/// All front ends, in order of their keys.
pub fn services(observed: &Observed) -> Vec<Served> {
    let mut services = Vec::new();
    for name in [set::SERVICES, set::REFUSED_SERVICES, set::NODE_PORTS, set::REFUSED_NODE_PORTS] {
        let Some(set) = observed.table.sets.get(name) else { continue };
        for (key, element) in &set.elements {
            let Some((address, protocol, port)) = split(key.as_bytes()) else { continue };
            let counts = observed.element_counts.get(name);
            services.push(Served {
                address,
                protocol,
                port,
                origin: element.comment.parse().ok(),
                endpoints: endpoints(observed, address, protocol, port),
                connections: counts.and_then(|counts| counts.get(key)).copied().unwrap_or_default(),
            });
        }
    }
    services
}

/// All rules, base chains first.
pub fn rules(observed: &Observed) -> Vec<ShownRule> {
    let mut chains: Vec<_> = observed.table.chains.iter().collect();
    chains.sort_by_key(|(name, chain)| {
        (chain.hook.is_none(), name.as_str() != chain::DISPATCH, *name)
    });
    let none = BTreeMap::new();
    let shown = chains.into_iter().flat_map(|(name, chain)| {
        let counts = observed.rule_counts.get(name).unwrap_or(&none);
        chain.rules.iter().enumerate().map(|(place, rule)| ShownRule {
            chain: name.clone(),
            rule: rule.clone(),
            count: counts.get(&place).copied(),
        })
    });
    shown.collect()
}

/// Address (where there is one), protocol and port, each padded to four octets.
fn split(key: &[u8]) -> Option<(Option<Ipv4Addr>, u8, u16)> {
    let (address, rest) = match key.len() {
        12 => (Some(Ipv4Addr::from(<[u8; 4]>::try_from(&key[..4]).ok()?)), &key[4..]),
        8 => (None, key),
        _ => return None,
    };
    Some((address, rest[0], u16::from_be_bytes([rest[4], rest[5]])))
}

fn endpoints(
    observed: &Observed,
    address: Option<Ipv4Addr>,
    protocol: u8,
    port: u16,
) -> Vec<SocketAddrV4> {
    let Some(slots) = observed.table.sets.get(set::SLOTS) else { return Vec::new() };
    let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let key = |slot: u32| {
        Key::new()
            .part(&address.octets())
            .part(&[protocol])
            .part(&port.to_be_bytes())
            .part(&slot.to_ne_bytes())
    };
    let found = (0..).map_while(|slot| slots.elements.get(&key(slot)));
    found.filter_map(|element| endpoint(&element.value)).collect()
}

fn endpoint(value: &netstate::nft::ElementValue) -> Option<SocketAddrV4> {
    let netstate::nft::ElementValue::Data(data) = value else { return None };
    let [a, b, c, d, high, low, ..] = *data.as_bytes() else { return None };
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}
