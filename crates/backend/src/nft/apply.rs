//! The service table kept as the program wants it.

use super::layout::{set, sets, table_id};
use super::lower::{self, InUse};
use kernel::netlink::Socket;
use kernel::nft::{Observed, Stats, Transaction, read_table_like};
use netstate::nft::{Chain, Key, Set, Table, TableId};
use netstate::{ElementChange, TableDelta};
use program::{Change, Program};
use std::collections::BTreeMap;

/// Elements that are replaced together.
const BLOCK: usize = 512;

/// Why the service table is not as it should be. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reaching the kernel's rules")]
    Open(#[source] kernel::Error),
    #[error("reading the service table")]
    Read(#[source] kernel::Error),
    #[error("changing the service table")]
    Commit(#[source] kernel::Error),
}

/// Octets of a step in which an empty table is filled: about one message of elements.
const FILL_STEP: usize = 64 << 10;

/// What a change took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub chains: usize,
    pub elements: usize,
    /// Atomic steps: one, or two where chains come with elements; more where an unprivileged socket cannot
    /// carry a change at once and where an empty table is filled.
    pub transactions: usize,
}

/// The door to the service table of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Backend {
    socket: Socket,
    transaction: Transaction,
    shapes: BTreeMap<String, Set>,
    in_use: InUse,
}

impl Backend {
    pub fn open() -> Result<Self, Error> {
        Ok(Backend {
            socket: Socket::netfilter().map_err(Error::Open)?,
            transaction: Transaction::new(),
            shapes: sets(),
            in_use: InUse::default(),
        })
    }

    /// The socket that the changes go through, to tell them from other people's.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads the table, compares, and changes what differs, counters and all else left as they are.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        let wanted = lower::table(program);
        let observed = read_table_like(&mut self.socket, &wanted).map_err(Error::Read)?;
        self.in_use = InUse::of(program);
        match observed {
            Some(observed) if fits(&observed, &wanted) => {
                self.apply(&TableDelta::between(Some(&observed.table), &wanted))
            }
            Some(_) => self.rebuild(&wanted),
            None => self.fill(&wanted),
        }
    }

    /// Makes the changes of the program. After an error [`Backend::reconcile`] puts things right.
    pub fn change(&mut self, program: &Program, changes: &[Change]) -> Result<Applied, Error> {
        let delta = lower::changes(&mut self.in_use, program.network.as_ref(), changes);
        self.apply(&delta)
    }

    /// Where nothing is yet: in small steps, each of which is right by itself.
    ///
    /// In one big step the kernel has no time to let its hash tables grow with what is put into them, and
    /// searches ever longer chains: up to five times the work.
    fn fill(&mut self, wanted: &Table) -> Result<Applied, Error> {
        let delta = TableDelta::between(None, wanted);
        self.transaction.clear();
        self.transaction.table(&wanted.id);
        write_frame(&mut self.transaction, &delta);
        write_elements(&mut self.transaction, &self.shapes, &delta);
        let outcome = self.transaction.commit_in_parts(&mut self.socket, FILL_STEP);
        Ok(applied(&delta, outcome.map_err(Error::Commit)?))
    }

    /// In place of whatever bears our name, in one step.
    fn rebuild(&mut self, wanted: &Table) -> Result<Applied, Error> {
        self.transaction.clear();
        self.transaction.delete_table(&wanted.id).whole(wanted);
        let elements = wanted.sets.values().map(|set| set.elements.len()).sum();
        let transactions = self.commit()?.transactions;
        Ok(Applied { chains: wanted.chains.len(), elements, transactions })
    }

    /// New chains go ahead of the elements that lead to them: for a packet that is among the rules while
    /// the generation changes, a chain of the new generation is still empty (`nf_tables_addchain`), and it
    /// would pass untranslated.
    fn apply(&mut self, delta: &TableDelta) -> Result<Applied, Error> {
        let mut applied = applied(delta, Stats::default());
        self.transaction.clear();
        write_frame(&mut self.transaction, delta);
        applied.transactions += self.commit()?.transactions;
        self.transaction.clear();
        write_elements(&mut self.transaction, &self.shapes, delta);
        applied.transactions += self.commit()?.transactions;
        Ok(applied)
    }

    fn commit(&mut self) -> Result<Stats, Error> {
        let outcome = match self.transaction.octets() <= self.socket.room() {
            true => self.transaction.commit(&mut self.socket),
            false => self.transaction.commit_in_parts(&mut self.socket, usize::MAX),
        };
        outcome.map_err(Error::Commit)
    }
}

fn applied(delta: &TableDelta, stats: Stats) -> Applied {
    Applied {
        chains: delta.chains.len(),
        elements: delta.elements.values().map(BTreeMap::len).sum(),
        transactions: stats.transactions,
    }
}

/// Whether the difference can be made by changing chains' rules and elements alone.
fn fits(observed: &Observed, wanted: &Table) -> bool {
    let sets = observed.table.sets.iter();
    let mut sets = sets.filter_map(|(name, set)| Some((set, wanted.sets.get(name)?)));
    let chains = observed.table.chains.iter();
    let mut chains = chains.filter_map(|(name, chain)| Some((chain, wanted.chains.get(name)?)));
    observed.unknown.is_empty()
        && sets.all(|(have, want)| have.same_shape(want))
        && chains.all(|(have, want): (&Chain, &Chain)| have.hook == want.hook)
}

/// What elements refer to: sets, and chains with their rules.
fn write_frame(transaction: &mut Transaction, delta: &TableDelta) {
    let id = table_id();
    for (name, set) in &delta.sets {
        if let Some(set) = set {
            transaction.set(&id, name, set);
        }
    }
    for (name, chain) in &delta.chains {
        if let Some(chain) = chain {
            transaction.chain(&id, name, chain).flush_chain(&id, name);
        }
    }
    for (name, chain) in &delta.chains {
        for rule in chain.iter().flat_map(|chain| &chain.rules) {
            transaction.rule(&id, name, rule);
        }
    }
}

/// The elements, and what goes when they have gone.
///
/// In an order that is right even where the commit must be cut in parts: an endpoint's slot is there
/// before the front end that leads to it, and goes after it; an address refuses unknown ports only while
/// all its known ones are there.
fn write_elements(
    transaction: &mut Transaction,
    shapes: &BTreeMap<String, Set>,
    delta: &TableDelta,
) {
    let id = table_id();
    let mut put = |name: &str, wanted: fn(&ElementChange) -> bool| {
        let Some((shape, changes)) = shapes.get(name).zip(delta.elements.get(name)) else { return };
        let changes: Vec<_> = changes.iter().filter(|(_, change)| wanted(change)).collect();
        put(transaction, &id, name, shape, &changes);
    };
    let leaves: fn(&ElementChange) -> bool = |change| change.after.is_none();
    let stays: fn(&ElementChange) -> bool = |change| change.after.is_some();
    put(set::SERVICE_ADDRESSES, leaves);
    put(set::SLOTS, stays);
    let between = |name: &&String| ![set::SERVICE_ADDRESSES, set::SLOTS].contains(&name.as_str());
    for name in delta.elements.keys().filter(between) {
        put(name, |_any| true);
    }
    put(set::SERVICE_ADDRESSES, stays);
    put(set::SLOTS, leaves);
    remove_leftovers(transaction, &id, delta);
}

/// Deletes what is there and not wanted so, then adds what is wanted: block by block, so that where
/// the commit is cut in parts little is missing in between.
fn put(
    transaction: &mut Transaction,
    id: &TableId,
    name: &str,
    shape: &Set,
    changes: &[(&Key, &ElementChange)],
) {
    for block in changes.chunks(BLOCK) {
        let old = block.iter().filter_map(|(key, change)| {
            let until = change.before.as_ref()?.until.as_ref();
            Some((*key, until))
        });
        let new = block.iter().filter_map(|(key, change)| Some((*key, change.after.as_ref()?)));
        transaction.delete_elements(id, name, shape, old).elements(id, name, shape, new);
    }
}

fn remove_leftovers(transaction: &mut Transaction, id: &TableId, delta: &TableDelta) {
    let gone = || delta.chains.iter().filter(|(_, chain)| chain.is_none()).map(|(name, _)| name);
    for name in gone() {
        transaction.flush_chain(id, name);
    }
    for name in gone() {
        transaction.delete_chain(id, name);
    }
    for (name, set) in &delta.sets {
        if set.is_none() {
            transaction.delete_set(id, name);
        }
    }
}
