//! The service table as the kernel has it, in the words of the program: for `podway show`.

use super::layout::{OUTSIDE_SLOTS, chain, set, table_id};
use crate::served::{Fate, Served};
use ipnet::IpNet;
use kernel::netlink::Socket;
use kernel::nft::{Count, Observed, read_table};
use model::Family;
use netstate::nft::{Element, ElementValue, Key, Rule, Set, Verdict};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A rule with its place and its counter, where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRule {
    pub chain: String,
    pub rule: Rule,
    pub count: Option<Count>,
}

/// The whole table of a family; `None` where there is none.
pub fn observe(family: Family) -> kernel::Result<Option<Observed>> {
    read_table(&mut Socket::netfilter()?, &table_id(family))
}

/// All front ends of both families in this network namespace, in order of their keys.
pub fn all_services() -> kernel::Result<Vec<Served>> {
    let mut served = Vec::new();
    for family in Family::ALL {
        if let Some(observed) = observe(family)? {
            served.extend(services(&observed, family));
        }
    }
    Ok(served)
}

/// All front ends of a table, in order of their keys.
pub fn services(observed: &Observed, family: Family) -> Vec<Served> {
    let table = Reader { observed, family };
    let mut services = Vec::new();
    for name in [set::SERVICES, set::NODE_PORTS] {
        let Some(set) = observed.table.sets.get(name) else { continue };
        let served =
            set.elements.iter().filter_map(|(key, element)| table.served(name, key, element));
        services.extend(served);
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

struct Reader<'a> {
    observed: &'a Observed,
    family: Family,
}

impl Reader<'_> {
    fn set(&self, name: &str) -> Option<&Set> {
        self.observed.table.sets.get(name)
    }

    fn value(&self, set: &str, key: &Key) -> Option<&ElementValue> {
        Some(&self.set(set)?.elements.get(key)?.value)
    }

    /// `None` for what is no front end.
    fn served(&self, set: &str, key: &Key, element: &Element) -> Option<Served> {
        let with_address = set == set::SERVICES;
        let mut parts = Parts { octets: key.as_bytes(), family: self.family };
        let address = if with_address { Some(parts.address()?) } else { None };
        let (protocol, port) = (parts.take(4)?[0], parts.port()?);
        let ElementValue::Verdict(mut verdict) = element.value.clone() else { return None };
        if is_to(&verdict, chain::GUARD) {
            let ElementValue::Verdict(guarded) = self.value(set::GUARDED, key)? else {
                return None;
            };
            verdict = guarded.clone();
        }
        let counts = self.observed.element_counts.get(set);
        Some(Served {
            family: self.family,
            address,
            protocol,
            port,
            origin: element.comment.parse().ok(),
            fate: self.fate(&verdict, key, with_address)?,
            sources: self.sources(key),
            affinity: self.affinity(key, with_address),
            relayed: None,
            connections: Some(
                counts.and_then(|counts| counts.get(key)).copied().unwrap_or_default(),
            ),
        })
    }

    fn fate(&self, verdict: &Verdict, key: &Key, with_address: bool) -> Option<Fate> {
        let Verdict::Goto(name) = verdict else { return None };
        let map = if with_address { set::SLOTS } else { set::SLOTS_NODE_PORTS };
        let slots = |first| self.slots(map, key, first);
        Some(match name.as_str() {
            chain::REFUSAL => Fate::Refused,
            chain::NOT_HERE => Fate::NotHere,
            chain::BY_SOURCE | chain::BY_SOURCE_NODE_PORT => {
                let (inside, outside) = (slots(0), slots(OUTSIDE_SLOTS));
                Fate::BySource { inside, outside }
            }
            _class => Fate::Balanced { endpoints: slots(0) },
        })
    }

    fn slots(&self, map: &str, key: &Key, first: u32) -> Vec<SocketAddr> {
        let Some(slots) = self.set(map) else { return Vec::new() };
        let found = (first..).map_while(|slot| slots.elements.get(&key.part(&slot.to_ne_bytes())));
        found.filter_map(|element| self.endpoint(&element.value)).collect()
    }

    fn endpoint(&self, value: &ElementValue) -> Option<SocketAddr> {
        let ElementValue::Data(data) = value else { return None };
        let mut parts = Parts { octets: data.as_bytes(), family: self.family };
        Some(SocketAddr::new(parts.address()?, parts.port()?))
    }

    fn sources(&self, key: &Key) -> Vec<IpNet> {
        let Some(allowed) = self.set(set::ALLOWED) else { return Vec::new() };
        let of_frontend = allowed.elements.range(*key..);
        let of_frontend =
            of_frontend.map_while(|(have, _)| have.as_bytes().strip_prefix(key.as_bytes()));
        let net = |octets| {
            let mut parts = Parts { octets, family: self.family };
            let length = u32::from_ne_bytes(parts.take(4)?.try_into().ok()?);
            IpNet::new(parts.address()?, u8::try_from(length).ok()?).ok()
        };
        of_frontend.filter_map(net).collect()
    }

    /// It stands in the name of the chain that remembers.
    fn affinity(&self, frontend: &Key, with_address: bool) -> Option<u32> {
        let map = if with_address { set::REMEMBERED } else { set::REMEMBERED_NODE_PORTS };
        match self.value(map, frontend)? {
            ElementValue::Verdict(Verdict::Goto(chain)) => chain.rsplit('-').next()?.parse().ok(),
            _ => None,
        }
    }
}

fn is_to(verdict: &Verdict, chain: &str) -> bool {
    matches!(verdict, Verdict::Goto(name) if name == chain)
}

/// The parts of a key, each padded to four octets.
struct Parts<'a> {
    octets: &'a [u8],
    family: Family,
}

impl<'a> Parts<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.octets.split_at_checked(length)?;
        self.octets = rest;
        Some(part)
    }

    fn address(&mut self) -> Option<IpAddr> {
        Some(match self.family {
            Family::V4 => IpAddr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?),
            Family::V6 => IpAddr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?),
        })
    }

    fn port(&mut self) -> Option<u16> {
        let part = self.take(4)?;
        Some(u16::from_be_bytes([part[0], part[1]]))
    }
}
