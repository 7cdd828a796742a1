//! Rule sets as the kernel has them.

use super::abi::*;
use super::listing::read_elements;
use super::rule::{FoundRule, join};
use super::set;
use super::transaction::{hook_number, kind_word};
use crate::netlink::{Attributes, Batch, Body, Message, Socket, flags};
use crate::{Error, Result};
use netstate::nft::{Chain, ChainKind, Family, Hook, HookPoint, Key, Table, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// How often a table or a set is read anew because it changed in between.
pub(super) const ATTEMPTS: usize = 64;

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
    read_settled(socket, id, None)
}

/// The same as [`read_table`], sooner where the table is much like `expected`.
///
/// The kernel lists a big set in time that grows with its square; asked for the elements one expects it answers in
/// time that grows with their number. A set that turns out to hold others, too, is then listed after all.
pub fn read_table_like(socket: &mut Socket, expected: &Table) -> Result<Option<Observed>> {
    read_settled(socket, &expected.id, Some(expected))
}

fn read_settled(
    socket: &mut Socket,
    id: &TableId,
    like: Option<&Table>,
) -> Result<Option<Observed>> {
    for _attempt in 0..ATTEMPTS {
        let before = generation(socket)?;
        let observed = read_once(socket, id, before, like);
        if generation(socket)? == before {
            return observed;
        }
    }
    Err(Error::Unsettled { operation: "read table", object: id.name.clone() })
}

fn read_once(
    socket: &mut Socket,
    id: &TableId,
    generation: u32,
    like: Option<&Table>,
) -> Result<Option<Observed>> {
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
        let like = like.and_then(|table| table.sets.get(&name));
        read_elements(socket, &mut observed, &name, count, like)?;
    }
    Ok(Some(observed))
}

/// Dumps what belongs to a table and folds the messages' attributes.
pub(super) fn dump<T: Default>(
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
