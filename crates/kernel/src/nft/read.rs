//! Rule sets as the kernel has them.

use super::abi::*;
use super::element::{self, RawElement};
use super::rule::{FoundRule, join};
use super::set;
use super::transaction::{hook_number, kind_word};
use crate::netlink::{Attributes, Batch, Body, Message, Socket, flags};
use crate::{Error, Result};
use netstate::nft::{Chain, ChainKind, Element, Family, Hook, HookPoint, Key, Table, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// How often a table or a set is read anew because it changed in between.
const ATTEMPTS: usize = 64;

/// Packets and their octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub octets: u64,
}

/// A table as it is in the kernel at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub table: Table,
    /// The moment: changes with every commit of anybody in the namespace.
    pub generation: u32,
    /// By chain and place of the rule, for rules with a counter.
    pub rule_counts: BTreeMap<String, BTreeMap<usize, Count>>,
    /// By set and key, for sets with counters.
    pub element_counts: BTreeMap<String, BTreeMap<Key, Count>>,
    /// Names of sets and chains of kinds that have no value here; `table` is without them.
    pub unknown: BTreeSet<String>,
}

/// The number of the current generation of rules in this namespace.
pub fn generation(socket: &mut Socket) -> Result<u32> {
    let mut batch = Batch::default();
    batch.request(NFT_MSG_GETGEN, 0, |body| body.fixed(&[0; GENERIC]));
    let read = |value: &mut Option<u32>, message: Message<'_>| {
        *value = message
            .split::<GENERIC>()
            .and_then(|(_, attributes)| attributes.find(NFTA_GEN_ID)?.be32());
        Ok(())
    };
    let operation = "read generation";
    let generation = socket.ask(operation, "of the rules", &mut batch, read)?;
    generation.ok_or(Error::Malformed { operation, problem: "it holds no number" })
}

/// The tables of families ip and ip6.
pub fn tables(socket: &mut Socket) -> Result<Vec<TableId>> {
    let mut batch = Batch::default();
    batch.request(NFT_MSG_GETTABLE, flags(libc::NLM_F_DUMP), |body| body.fixed(&[0; GENERIC]));
    socket.dump("read tables", "", &mut batch, |tables: &mut Vec<TableId>, message| {
        tables.extend(read_table_id(message));
        Ok(())
    })
}

fn read_table_id(message: Message<'_>) -> Option<TableId> {
    let (generic, attributes) = message.split::<GENERIC>()?;
    let mut families = [Family::Ip, Family::Ip6].into_iter();
    let family = families.find(|family| family_number(*family) == generic[0])?;
    Some(TableId { family, name: attributes.find(NFTA_TABLE_NAME)?.text()?.to_owned() })
}

/// The whole table with counters, as of one moment; `None` when there is no such table.
pub fn read_table(socket: &mut Socket, id: &TableId) -> Result<Option<Observed>> {
    for _attempt in 0..ATTEMPTS {
        let before = generation(socket)?;
        let observed = read_once(socket, id, before);
        if generation(socket)? == before {
            return observed;
        }
    }
    Err(Error::Unsettled { operation: "read table", object: id.name.clone() })
}

fn read_once(socket: &mut Socket, id: &TableId, generation: u32) -> Result<Option<Observed>> {
    if !tables(socket)?.contains(id) {
        return Ok(None);
    }
    let mut observed = Observed {
        table: Table { id: id.clone(), sets: BTreeMap::new(), chains: BTreeMap::new() },
        generation,
        rule_counts: BTreeMap::new(),
        element_counts: BTreeMap::new(),
        unknown: BTreeSet::new(),
    };
    read_chains(socket, &mut observed)?;
    read_rules(socket, &mut observed)?;
    for (name, count) in read_sets(socket, &mut observed)? {
        read_elements(socket, &mut observed, &name, count)?;
    }
    Ok(Some(observed))
}

/// Dumps what belongs to a table and folds the messages' attributes.
fn dump<T: Default>(
    socket: &mut Socket,
    operation: &'static str,
    kind: u16,
    id: &TableId,
    select: impl FnOnce(&mut Body<'_>),
    mut fold: impl FnMut(&mut T, Attributes<'_>),
) -> Result<T> {
    let mut batch = Batch::default();
    batch.request(kind, flags(libc::NLM_F_DUMP), |body| {
        body.fixed(&generic(id));
        select(body);
    });
    socket.dump(operation, &id.name, &mut batch, |value, message| {
        match message.split::<GENERIC>() {
            Some((_, attributes)) => fold(value, attributes),
            None => return Err(Error::Malformed { operation, problem: "a message is too short" }),
        }
        Ok(())
    })
}

fn read_chains(socket: &mut Socket, observed: &mut Observed) -> Result<()> {
    let id = &observed.table.id;
    let chains = dump(
        socket,
        "read chains",
        NFT_MSG_GETCHAIN,
        id,
        |_all| {},
        |found: &mut Vec<_>, attributes| {
            let text = |kind| attributes.find(kind).and_then(|attribute| attribute.text());
            if text(NFTA_CHAIN_TABLE) == Some(&id.name) {
                found.extend(
                    text(NFTA_CHAIN_NAME).map(|name| (name.to_owned(), read_hook(&attributes))),
                );
            }
        },
    )?;
    for (name, hook) in chains {
        match hook {
            Ok(hook) => {
                observed.table.chains.insert(name, Chain { hook, rules: Vec::new() });
            }
            Err(UnknownHook) => {
                observed.unknown.insert(name);
            }
        }
    }
    Ok(())
}

/// A base chain of a kind, place or policy that has no value here.
struct UnknownHook;

fn read_hook(chain: &Attributes<'_>) -> Result<Option<Hook>, UnknownHook> {
    let Some(hook) = chain.find(NFTA_CHAIN_HOOK).map(|hook| hook.nested()) else { return Ok(None) };
    let number = |kind| hook.find(kind).and_then(|attribute| attribute.be32());
    let word = chain.find(NFTA_CHAIN_TYPE).and_then(|kind| kind.text());
    let policy = chain.find(NFTA_CHAIN_POLICY).and_then(|policy| policy.be32());
    let kinds = [ChainKind::Filter, ChainKind::Nat];
    let points = [
        HookPoint::Prerouting,
        HookPoint::Input,
        HookPoint::Forward,
        HookPoint::Output,
        HookPoint::Postrouting,
    ];
    let kind = kinds.into_iter().find(|kind| word == Some(kind_word(*kind)));
    let point =
        points.into_iter().find(|point| number(NFTA_HOOK_HOOKNUM) == Some(hook_number(*point)));
    match (kind, point, number(NFTA_HOOK_PRIORITY), policy) {
        (Some(kind), Some(point), Some(priority), Some(NF_ACCEPT)) => {
            Ok(Some(Hook { kind, point, priority: priority.cast_signed() }))
        }
        _ => Err(UnknownHook),
    }
}

fn read_rules(socket: &mut Socket, observed: &mut Observed) -> Result<()> {
    let id = &observed.table.id;
    let select = |body: &mut Body<'_>| body.text(NFTA_RULE_TABLE, &id.name);
    let rules = dump(
        socket,
        "read rules",
        NFT_MSG_GETRULE,
        id,
        select,
        |found: &mut Vec<_>, attributes| {
            found.push(FoundRule::read(id.family, &attributes));
        },
    )?;
    for FoundRule { chain: name, rule, count } in join(rules) {
        let Some(chain) = observed.table.chains.get_mut(&name) else { continue };
        if let Some(count) = count {
            observed.rule_counts.entry(name).or_default().insert(chain.rules.len(), count);
        }
        chain.rules.push(rule);
    }
    Ok(())
}

/// Reads the sets without elements; returns how many elements each has, where the kernel says so.
fn read_sets(socket: &mut Socket, observed: &mut Observed) -> Result<Vec<(String, Option<usize>)>> {
    let id = &observed.table.id;
    let select = |body: &mut Body<'_>| body.text(NFTA_SET_TABLE, &id.name);
    let sets =
        dump(socket, "read sets", NFT_MSG_GETSET, id, select, |found: &mut Vec<_>, attributes| {
            let name =
                attributes.find(NFTA_SET_NAME).and_then(|name| name.text()).unwrap_or_default();
            let count = attributes
                .find(NFTA_SET_COUNT)
                .and_then(|count| count.be32())
                .map(|count| count as usize);
            found.push((name.to_owned(), count, set::read(&attributes)));
        })?;
    let mut counts = Vec::new();
    for (name, count, set) in sets {
        match set {
            Some(set) => {
                counts.push((name.clone(), count));
                observed.table.sets.insert(name, set);
            }
            None => {
                observed.unknown.insert(name);
            }
        }
    }
    Ok(counts)
}

/// Reads the elements until all are there.
///
/// A hash table that grows while it is listed shows elements twice or not at all, and nothing in the listing says so:
/// the number of elements must be the set's own ([`NFTA_SET_COUNT`]) or, before Linux 6.16, that of a second look.
fn read_elements(
    socket: &mut Socket,
    observed: &mut Observed,
    name: &str,
    count: Option<usize>,
) -> Result<()> {
    let Some(set) = observed.table.sets.get_mut(name) else { return Ok(()) };
    let mut expected = count.filter(|_| !set.interval);
    for _attempt in 0..ATTEMPTS {
        let (found, unknown) = dump_elements(socket, &observed.table.id, name)?;
        let counts: BTreeMap<Key, Count> = match set.counters {
            true => {
                found.iter().filter_map(|element| Some((element.key, element.count?))).collect()
            }
            false => BTreeMap::new(),
        };
        let raw = found.len();
        set.elements = gather(set.interval, found);
        if set.interval
            || unknown
            || expected == Some(set.elements.len()) && raw == set.elements.len()
        {
            if set.counters {
                observed.element_counts.insert(name.to_owned(), counts);
            }
            observed.unknown.extend(unknown.then(|| name.to_owned()));
            return Ok(());
        }
        expected = count.or(Some(set.elements.len()));
    }
    Err(Error::Unsettled {
        operation: "read elements",
        object: format!("{} {name}", observed.table.id.name),
    })
}

/// All elements as listed, and whether there were some that have no value here.
fn dump_elements(socket: &mut Socket, id: &TableId, name: &str) -> Result<(Vec<RawElement>, bool)> {
    let select = |body: &mut Body<'_>| {
        body.text(NFTA_SET_ELEM_LIST_TABLE, &id.name);
        body.text(NFTA_SET_ELEM_LIST_SET, name);
    };
    let fold = |found: &mut (Vec<RawElement>, bool), attributes: Attributes<'_>| {
        for item in
            attributes.find(NFTA_SET_ELEM_LIST_ELEMENTS).into_iter().flat_map(|list| list.nested())
        {
            match element::read(item) {
                Some(element) => found.0.push(element),
                None => found.1 = true,
            }
        }
    };
    dump(socket, "read elements", NFT_MSG_GETSETELEM, id, select, fold)
}

/// Elements as values, of a set with ranges or without.
pub(super) fn gather(interval: bool, found: Vec<RawElement>) -> BTreeMap<Key, Element> {
    if interval {
        return ranges(found);
    }
    found.into_iter().map(|raw| (raw.key, raw.element)).collect()
}

/// Joins the two elements that the kernel keeps for each range.
fn ranges(mut found: Vec<RawElement>) -> BTreeMap<Key, Element> {
    // Where one range ends and the next begins, the end comes first.
    found.sort_by_key(|raw| (raw.key, !raw.ends_range));
    let mut elements = BTreeMap::new();
    let mut open: Option<RawElement> = None;
    for raw in found {
        if let Some(RawElement { key, element, .. }) = open.take() {
            elements.insert(key, Element { until: Some(raw.key), ..element });
        }
        if !raw.ends_range {
            open = Some(raw);
        }
    }
    elements.extend(open.map(|raw| (raw.key, raw.element)));
    elements
}
