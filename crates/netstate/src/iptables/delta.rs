//! What differs between two rule sets, as `iptables-restore --noflush` takes it.

use super::{Chain, Counters, Policy, Rule, RuleSet, Table, TableName};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// By table; each is committed in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    pub tables: BTreeMap<TableName, TableDelta>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDelta {
    pub chains: BTreeMap<String, ChainDelta>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainDelta {
    /// All its rules anew; it comes into being where it is not there.
    Rewrite(Vec<Rule>),
    /// Some rules go and some come ahead of all others; the rest stays where it is.
    Edit {
        remove: Vec<Rule>,
        insert: Vec<Rule>,
    },
    Remove,
}

/// What of a rule set is whose.
pub struct Scope<'a> {
    /// Chains that belong to the wanted rules altogether. In others only rules that lead to these are touched.
    pub owns: &'a dyn Fn(&str) -> bool,
    /// Owned chains whose rules exclude each other, so that their order means nothing; but for so many last ones.
    pub unordered: &'a dyn Fn(TableName, &str) -> Option<usize>,
}

impl Delta {
    /// What makes `wanted` out of `observed`; counters are not compared.
    pub fn between(observed: &RuleSet, wanted: &RuleSet, scope: &Scope<'_>) -> Self {
        let none = Table::default();
        let mut delta = Delta::default();
        for name in TableName::ALL {
            let table = |rules: &'_ RuleSet| rules.tables.get(&name).cloned();
            let (have, want) = (table(observed), table(wanted));
            let (have, want) = (have.as_ref().unwrap_or(&none), want.as_ref().unwrap_or(&none));
            for (chain, change) in table_delta(name, have, want, scope) {
                delta.put(name, chain, change);
            }
        }
        delta
    }

    pub fn is_empty(&self) -> bool {
        self.tables.values().all(|table| table.chains.is_empty())
    }

    pub fn put(&mut self, table: TableName, chain: &str, change: ChainDelta) {
        self.tables.entry(table).or_default().chains.insert(chain.to_owned(), change);
    }

    /// Rules that go from a chain and rules that come into it, besides those that do already; what does both stays.
    pub fn edit(&mut self, table: TableName, chain: &str, gone: &[Rule], new: &[Rule]) {
        if gone.is_empty() && new.is_empty() {
            return;
        }
        let none = ChainDelta::Edit { remove: Vec::new(), insert: Vec::new() };
        let chains = &mut self.tables.entry(table).or_default().chains;
        let change = chains.entry(chain.to_owned()).or_insert(none);
        if let ChainDelta::Edit { remove, insert } = change {
            gone.iter().for_each(|rule| take_or_add(rule, insert, remove));
            new.iter().for_each(|rule| take_or_add(rule, remove, insert));
            if remove.is_empty() && insert.is_empty() {
                chains.remove(chain);
            }
        }
    }

    /// The rule set after the change.
    pub fn apply(&self, rules: &mut RuleSet) {
        for (name, delta) in &self.tables {
            let table = rules.tables.entry(*name).or_default();
            for (name, change) in &delta.chains {
                apply(table, name, change);
            }
        }
    }
}

fn take_or_add(rule: &Rule, from: &mut Vec<Rule>, to: &mut Vec<Rule>) {
    match from.iter().position(|it| it.is_like(rule)) {
        Some(place) => drop(from.remove(place)),
        None => to.push(rule.clone()),
    }
}

fn apply(table: &mut Table, name: &str, change: &ChainDelta) {
    match change {
        ChainDelta::Rewrite(rules) => {
            let chain = table.chains.entry(name.to_owned()).or_default();
            chain.rules.clone_from(rules);
        }
        ChainDelta::Edit { remove, insert } => {
            let chain = table.chains.entry(name.to_owned()).or_default();
            for gone in remove {
                if let Some(place) = chain.rules.iter().position(|rule| rule.is_like(gone)) {
                    chain.rules.remove(place);
                }
            }
            chain.rules.splice(0..0, insert.iter().cloned());
        }
        ChainDelta::Remove => {
            table.chains.remove(name);
        }
    }
}

fn table_delta<'a>(
    table: TableName,
    have: &'a Table,
    want: &'a Table,
    scope: &Scope<'_>,
) -> Vec<(&'a str, ChainDelta)> {
    let mut changes = Vec::new();
    let none = Chain::default();
    for (name, wanted) in &want.chains {
        let observed = have.chains.get(name);
        let change = match observed {
            _ if !(scope.owns)(name) => shared(observed.unwrap_or(&none), Some(wanted), scope),
            Some(observed) => owned(observed, wanted, (scope.unordered)(table, name)),
            None => Some(ChainDelta::Rewrite(wanted.rules.clone())),
        };
        changes.extend(change.map(|change| (name.as_str(), change)));
    }
    for (name, observed) in have.chains.iter().filter(|(name, _)| !want.chains.contains_key(*name))
    {
        let change = match (scope.owns)(name) {
            true => Some(ChainDelta::Remove),
            false => shared(observed, None, scope),
        };
        changes.extend(change.map(|change| (name.as_str(), change)));
    }
    changes
}

/// In somebody else's chain only rules that lead to ours are our business.
fn shared(observed: &Chain, wanted: Option<&Chain>, scope: &Scope<'_>) -> Option<ChainDelta> {
    let wanted = wanted.map_or(&[][..], |chain| &chain.rules);
    let ours = |rule: &&Rule| {
        rule.leads_to().is_some_and(scope.owns) || wanted.iter().any(|it| it.is_like(rule))
    };
    let ours: Vec<&Rule> = observed.rules.iter().filter(ours).collect();
    edit(&ours, wanted)
}

fn owned(observed: &Chain, wanted: &Chain, tail: Option<usize>) -> Option<ChainDelta> {
    let (have, want) = (&observed.rules[..], &wanted.rules[..]);
    if are_alike(have, want) {
        return None;
    }
    if let Some(tail) = tail
        && let Some((have, have_tail)) = have.len().checked_sub(tail).map(|at| have.split_at(at))
        && let Some((want, want_tail)) = want.len().checked_sub(tail).map(|at| want.split_at(at))
        && are_alike(have_tail, want_tail)
    {
        return edit(&have.iter().collect::<Vec<_>>(), want);
    }
    Some(ChainDelta::Rewrite(want.to_vec()))
}

fn are_alike(one: &[Rule], other: &[Rule]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_like(other))
}

/// Rules by their words: the order of a rule set is none, and there may be thousands.
fn edit(have: &[&Rule], want: &[Rule]) -> Option<ChainDelta> {
    let mut missing: BTreeMap<String, Vec<&Rule>> = BTreeMap::new();
    for rule in want {
        missing.entry(rule.to_string()).or_default().push(rule);
    }
    let mut remove = Vec::new();
    for rule in have {
        if missing.get_mut(&rule.to_string()).and_then(Vec::pop).is_none() {
            remove.push(Rule { counters: None, ..(*rule).clone() });
        }
    }
    let mut insert = Vec::new();
    for rule in want {
        insert.extend(missing.get_mut(&rule.to_string()).and_then(Vec::pop).cloned());
    }
    let change = ChainDelta::Edit { remove, insert };
    (change != ChainDelta::Edit { remove: Vec::new(), insert: Vec::new() }).then_some(change)
}

/// What `iptables-restore --noflush` reads: chains before rules that lead to them, and chains go when no rule
/// leads to them any more.
impl Display for Delta {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let changed = self.tables.iter().filter(|(_, table)| !table.chains.is_empty());
        for (name, table) in changed {
            writeln!(f, "*{name}")?;
            table.fmt(f)?;
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}

impl Display for TableDelta {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, change) in &self.chains {
            // A chain that is declared is emptied.
            if matches!(change, ChainDelta::Rewrite(_) | ChainDelta::Remove) {
                writeln!(f, ":{name} - {}", Counters::default())?;
            }
        }
        for (name, change) in &self.chains {
            match change {
                ChainDelta::Rewrite(rules) => {
                    rules.iter().try_for_each(|rule| writeln!(f, "-A {name}{rule}"))?;
                }
                ChainDelta::Edit { remove, insert } => {
                    remove.iter().try_for_each(|rule| writeln!(f, "-D {name}{rule}"))?;
                    // Each goes to the top, the last one first.
                    insert.iter().rev().try_for_each(|rule| writeln!(f, "-I {name}{rule}"))?;
                }
                ChainDelta::Remove => {}
            }
        }
        for (name, change) in &self.chains {
            if *change == ChainDelta::Remove {
                writeln!(f, "-X {name}")?;
            }
        }
        Ok(())
    }
}

impl Chain {
    /// One of the kernel's own, with rules to be found in it.
    pub fn base(rules: Vec<Rule>) -> Self {
        Chain { policy: Some(Policy::Accept), counters: Counters::default(), rules }
    }

    pub fn of(rules: Vec<Rule>) -> Self {
        Chain { policy: None, counters: Counters::default(), rules }
    }
}
