//! The rules as the kernel has them, in the words of the program: for `podway show`.

use super::names::{self, prefix};
use super::tool::{Error, Tool, Variant, exists};
use crate::served::{Fate, Served};
use ipnet::IpNet;
use kernel::nft::Count;
use model::{Family, Kind, Origin};
use netstate::iptables::{Chain, Match, RecentAction, Rule, RuleSet, Side, TableName, Target};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What there is of Podway's in this network namespace, in the variant in which it keeps its rules.
#[derive(Debug, Default)]
pub struct Podways {
    /// Front ends of both families, address by address, then node ports.
    pub served: Vec<Served>,
    /// How many rules its chains hold.
    pub rules: BTreeMap<(Family, TableName), usize>,
}

pub fn podways() -> Result<Podways, Error> {
    let mut found = Podways::default();
    for variant in Variant::ALL {
        for family in Family::ALL.into_iter().filter(|family| exists(*family)) {
            match (Tool { variant, family }).save_counted() {
                Ok(rules) if rules.chain(TableName::Nat, names::CANARY).is_some() => {
                    found.served.extend(services(&rules, family));
                    found.rules.extend(counts(&rules, family));
                }
                // A variant that is not installed, or not in the kernel, keeps nothing.
                Ok(_) | Err(Error::NotInstalled(_) | Error::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

fn counts(rules: &RuleSet, family: Family) -> impl Iterator<Item = ((Family, TableName), usize)> {
    rules.tables.iter().map(move |(name, table)| {
        let own = table.chains.iter().filter(|(chain, _)| names::is_own(chain));
        ((family, *name), own.map(|(_, chain)| chain.rules.len()).sum())
    })
}

/// All front ends of a rule set.
pub fn services(rules: &RuleSet, family: Family) -> Vec<Served> {
    let reader = Reader { rules, family };
    let mut served = Vec::new();
    for (table, chain) in [
        (TableName::Nat, names::SERVICES),
        (TableName::Filter, names::SERVICES),
        (TableName::Filter, names::EXTERNAL_SERVICES),
        (TableName::Nat, names::NODE_PORTS),
        (TableName::Filter, names::REFUSED_NODE_PORTS),
    ] {
        let Some(chain) = rules.chain(table, chain) else { continue };
        let found = chain.rules.iter().filter_map(|rule| reader.served(table, rule));
        // What is both served to some and dropped for others stands in both tables.
        for found in found {
            let same = |have: &Served| {
                (have.address, have.protocol, have.port)
                    == (found.address, found.protocol, found.port)
            };
            if !served.iter().any(same) {
                served.push(found);
            }
        }
    }
    served.sort_by_key(|it| (it.address.is_none(), it.address, it.protocol, it.port));
    served
}

struct Reader<'a> {
    rules: &'a RuleSet,
    family: Family,
}

impl<'a> Reader<'a> {
    /// `None` for rules that are of no front end.
    fn served(&self, table: TableName, rule: &Rule) -> Option<Served> {
        let (protocol, port) = rule.matches.iter().find_map(|it| match it {
            Match::Port { protocol, side: Side::Destination, ports, negate: false } => {
                Some((protocol.0, *ports.start()))
            }
            _ => None,
        })?;
        let fate = match (table, &rule.target) {
            (TableName::Filter, Some(Target::Reject { .. })) => Fate::Refused,
            (TableName::Filter, Some(Target::Drop)) => Fate::NotHere,
            (TableName::Filter, Some(Target::Jump(chain)))
                if chain.starts_with(prefix::FIREWALL) =>
            {
                Fate::Refused
            }
            (TableName::Nat, _) => self.fate(self.chain(self.behind_firewall(rule.leads_to()?)?)?),
            _ => return None,
        };
        let count = rule.counters.map(|it| Count { packets: it.packets, octets: it.octets });
        Some(Served {
            family: self.family,
            address: destination(rule),
            protocol,
            port,
            origin: origin(rule.comment()?),
            fate,
            sources: self.sources(table, rule),
            affinity: self.affinity(rule.leads_to()),
            relayed: None,
            connections: count.filter(|_| table == TableName::Nat),
        })
    }

    fn chain(&self, name: &str) -> Option<&'a Chain> {
        self.rules.chain(TableName::Nat, name)
    }

    fn behind_firewall(&self, chain: &'a str) -> Option<&'a str> {
        if !chain.starts_with(prefix::FIREWALL) {
            return Some(chain);
        }
        self.chain(chain)?.rules.iter().find_map(Rule::leads_to)
    }

    /// A chain with conditions on the source leads to one pool for those within, then to another.
    fn fate(&self, chain: &Chain) -> Fate {
        let pools = |rule: &&Rule| rule.leads_to().is_some_and(is_pool);
        let mut pools = chain.rules.iter().filter(pools).peekable();
        let Some(first) = pools.peek().and_then(|rule| rule.leads_to()) else {
            return Fate::Balanced { endpoints: self.endpoints(chain) };
        };
        let by_source =
            |rule: &Rule| rule.matches.iter().any(|it| !matches!(it, Match::Comment(_)));
        let outside = chain.rules.iter().filter(pools_of(first)).all(by_source);
        let inside = self.chain(first).map(|chain| self.endpoints(chain)).unwrap_or_default();
        if !outside {
            return Fate::Balanced { endpoints: inside };
        }
        let outside = pools.find(|rule| !by_source(rule)).and_then(Rule::leads_to);
        let outside = outside.and_then(|name| self.chain(name));
        let outside = outside.map(|chain| self.endpoints(chain)).unwrap_or_default();
        Fate::BySource { inside, outside }
    }

    /// Each once, in the order of the rules.
    fn endpoints(&self, chain: &Chain) -> Vec<SocketAddr> {
        let mut endpoints = Vec::new();
        let chains = chain.rules.iter().filter_map(Rule::leads_to);
        for chain in chains.filter_map(|name| self.chain(name)) {
            let to = chain.rules.iter().find_map(|rule| match &rule.target {
                Some(Target::Dnat(to)) => Some(SocketAddr::new(to.address, to.port?)),
                _ => None,
            });
            endpoints.extend(to.filter(|to| !endpoints.contains(to)));
        }
        endpoints
    }

    fn sources(&self, table: TableName, rule: &Rule) -> Vec<IpNet> {
        let name = rule.leads_to().filter(|name| name.starts_with(prefix::FIREWALL));
        let chain = name.and_then(|name| self.rules.chain(table, name));
        let rules = chain.into_iter().flat_map(|chain| &chain.rules);
        let sources = rules.flat_map(|rule| &rule.matches).filter_map(|it| match it {
            Match::Address { side: Side::Source, net, negate: false } => Some(*net),
            _ => None,
        });
        sources.collect()
    }

    fn affinity(&self, chain: Option<&'a str>) -> Option<u32> {
        let mut chain = self.chain(chain?)?;
        for _level in 0..3 {
            let seconds =
                chain.rules.iter().flat_map(|rule| &rule.matches).find_map(|it| match it {
                    Match::Recent(recent) if recent.action == RecentAction::Check => recent.seconds,
                    _ => None,
                });
            if seconds.is_some() {
                return seconds;
            }
            let mut next = chain.rules.iter().filter_map(Rule::leads_to);
            chain = self.chain(next.rfind(|name| *name != names::MARK_MASQUERADE)?)?;
        }
        None
    }
}

fn pools_of(pool: &str) -> impl Fn(&&Rule) -> bool {
    move |rule| rule.leads_to() == Some(pool)
}

fn is_pool(chain: &str) -> bool {
    chain.starts_with(prefix::CLUSTER) || chain.starts_with(prefix::LOCAL)
}

fn destination(rule: &Rule) -> Option<IpAddr> {
    rule.matches.iter().find_map(|it| match it {
        Match::Address { side: Side::Destination, net, negate: false } => Some(net.addr()),
        _ => None,
    })
}

/// kube-proxy's comments begin with `namespace/service:port`.
fn origin(comment: &str) -> Option<Origin> {
    let name = comment.split(' ').next()?;
    let (namespace, rest) = name.split_once('/')?;
    let service = rest.split(':').next()?;
    Some(Origin::new(Kind::Service, &namespace.into(), &service.into(), "spec.ports"))
}
