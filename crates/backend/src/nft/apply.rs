//! The service table kept as the program wants it.

use super::layout::{Memory, chain, set, sets, stand_in_id, table_id};
use super::lower::{self, InUse, Placed};
use super::memory::{Members, take_members};
use super::vital;
use kernel::netlink::Socket;
use kernel::nft::{
    Observed, Stats, Transaction, read_dynamic, read_table_like, remove_table, tables,
};
use model::Family;
use netstate::nft::{Chain, Element, Key, Set, Statement, Table, TableId, Verdict};
use netstate::{ElementChange, TableDelta};
use program::{Binding, Change, Frontend, Program};
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

/// What an element takes of it, beside its comment.
const ELEMENT_OCTETS: usize = 64;

/// What a change took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub chains: usize,
    pub elements: usize,
    /// Atomic steps: one, or two where chains come with elements or a table is replaced; more where an unprivileged
    /// socket cannot carry a change at once and where an empty table is filled.
    pub transactions: usize,
}

/// Which of a family's tables are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Presence {
    table: bool,
    /// Left by a process that came no further than this.
    stand_in: bool,
}

impl Presence {
    fn of(socket: &mut Socket, family: Family) -> Result<Self, Error> {
        let there = tables(socket).map_err(Error::Read)?;
        let [table, stand_in] =
            [table_id(family), stand_in_id(family)].map(|id| there.contains(&id));
        Ok(Presence { table, stand_in })
    }
}

/// How far forgetting has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    All,
    Some,
}

/// The door to the service table of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Backend {
    socket: Socket,
    transaction: Transaction,
    tables: [Kept; 2],
}

/// Elements to put into an empty table in one transaction.
#[derive(Debug, Default)]
struct Step {
    sets: BTreeMap<&'static str, BTreeMap<Key, Element>>,
    /// How large it is, roughly.
    octets: usize,
}

impl Step {
    fn take(&mut self, elements: impl IntoIterator<Item = Placed>) {
        for (set, key, element) in elements {
            self.octets += ELEMENT_OCTETS + element.comment.len();
            self.sets.entry(set).or_default().insert(key, element);
        }
    }
}

/// The sets of a family's table, empty.
pub(crate) type Sets = fn(Family) -> BTreeMap<String, Set>;

/// What is known of one family's table between changes.
#[derive(Debug)]
struct Kept {
    id: TableId,
    shapes: BTreeMap<String, Set>,
    in_use: InUse,
}

impl Kept {
    fn new(family: Family, more: Sets) -> Self {
        let mut shapes = sets(family);
        shapes.extend(more(family));
        Kept { id: table_id(family), shapes, in_use: InUse::none(family) }
    }
}

impl Backend {
    pub fn open() -> Result<Self, Error> {
        Backend::open_with(|_family| BTreeMap::new())
    }

    /// With sets besides those that every table has.
    pub(crate) fn open_with(more: Sets) -> Result<Self, Error> {
        Ok(Backend {
            socket: Socket::netfilter().map_err(Error::Open)?,
            transaction: Transaction::new(),
            tables: Family::ALL.map(|family| Kept::new(family, more)),
        })
    }

    /// The socket that the changes go through, to tell them from other people's.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads the tables, compares, and changes what differs, counters and all else left as they are.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        self.reconcile_with(program, |_table, _family| {})
    }

    /// As [`Backend::reconcile`], with tables that somebody adds to.
    pub(crate) fn reconcile_with(
        &mut self,
        program: &Program,
        complete: impl Fn(&mut Table, Family),
    ) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        for place in 0..self.tables.len() {
            applied = applied.and(self.reconcile_table(place, program, &complete)?);
        }
        Ok(applied)
    }

    fn reconcile_table(
        &mut self,
        place: usize,
        program: &Program,
        complete: &impl Fn(&mut Table, Family),
    ) -> Result<Applied, Error> {
        let family = self.tables[place].in_use.family();
        self.tables[place].in_use = InUse::of(program, family);
        let there = Presence::of(&mut self.socket, family)?;
        if there == (Presence { table: false, stand_in: false }) {
            let mut frame = lower::frame(program, &self.tables[place].in_use);
            complete(&mut frame, family);
            return self.fill(place, program, frame);
        }
        let mut wanted = lower::table(program, family);
        complete(&mut wanted, family);
        let observed = read_table_like(&mut self.socket, &wanted).map_err(Error::Read)?;
        let Some(observed) = observed.filter(|observed| fits(observed, &wanted)) else {
            return self.rebuild(family, wanted, there);
        };
        let delta = TableDelta::between(Some(&observed.table), &wanted);
        let applied = self.apply(&[(place, delta)])?;
        self.forget(place, program)?;
        if there.stand_in {
            self.remove(&stand_in_id(family))?;
        }
        Ok(applied)
    }

    /// Forgets the clients of endpoints that are in no pool any more. New ones do not come: a client is remembered
    /// with whom it got, and it gets nobody else any more.
    fn forget(&mut self, place: usize, program: &Program) -> Result<(), Error> {
        let in_use = &self.tables[place].in_use;
        let members = Members::of(program, in_use.family(), in_use.numbers());
        for memory in Memory::ALL {
            while self.forget_in(place, memory, &members)? == Forgotten::Some {}
        }
        Ok(())
    }

    fn forget_in(
        &mut self,
        place: usize,
        memory: Memory,
        members: &Members,
    ) -> Result<Forgotten, Error> {
        let Kept { id, shapes, in_use } = &self.tables[place];
        let Some(shape) = shapes.get(memory.map()) else { return Ok(Forgotten::All) };
        let held = read_dynamic(&mut self.socket, id, memory.map()).map_err(Error::Read)?;
        let family = in_use.family();
        let stale = held.iter().filter(|(key, data)| !members.holds(memory, family, key, data));
        let stale: Vec<_> = stale.map(|(key, _)| (key, None)).collect();
        if stale.is_empty() {
            return Ok(Forgotten::All);
        }
        self.transaction.clear();
        self.transaction.delete_elements(id, memory.map(), shape, stale);
        match self.commit() {
            Ok(_) => Ok(Forgotten::All),
            // One of them has come to its end by itself, and then none is deleted.
            Err(Error::Commit(error)) if error.errno() == Some(kernel::Errno::ENOENT) => {
                Ok(Forgotten::Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the changes of the program. After an error [`Backend::reconcile`] puts things right.
    pub fn change(&mut self, program: &Program, changes: &[Change]) -> Result<Applied, Error> {
        self.change_with(program, changes, |_delta, _family| {})
    }

    /// As [`Backend::change`], with changes of the tables that somebody adds to.
    pub(crate) fn change_with(
        &mut self,
        program: &Program,
        changes: &[Change],
        complete: impl Fn(&mut TableDelta, Family),
    ) -> Result<Applied, Error> {
        let deltas = self.tables.iter_mut().enumerate().map(|(place, kept)| {
            let mut delta = lower::changes(&mut kept.in_use, program, changes);
            complete(&mut delta, kept.in_use.family());
            (place, delta)
        });
        let deltas: Vec<_> = deltas.filter(|(_, delta)| !delta.is_empty()).collect();
        let applied = self.apply(&deltas)?;
        for (place, _) in deltas {
            if take_members(changes, self.tables[place].in_use.family()) {
                self.forget(place, program)?;
            }
        }
        Ok(applied)
    }

    /// Where nothing is yet: first what everybody waits for, which is little, then the rest, in small steps, each of
    /// which is right by itself.
    ///
    /// In one big step the kernel has no time to let its hash tables grow with what is put into them, and
    /// searches ever longer chains: up to five times the work.
    fn fill(&mut self, place: usize, program: &Program, frame: Table) -> Result<Applied, Error> {
        let (first, last) = without_ends(frame);
        self.transaction.clear();
        self.transaction.table(&first.id);
        let delta = TableDelta::between(None, &first);
        write_frame(&mut self.transaction, &first.id, &delta);
        write_elements(&mut self.transaction, &self.tables[place], &delta);
        let mut applied = applied(&delta, Stats::default());
        let mut step = Step::default();
        for stage in [true, false] {
            applied = applied.and(self.make(place, &mut step)?);
            let of_stage = |(frontend, binding): &(&Frontend, &Binding)| {
                vital::is_vital(frontend, binding) == stage
            };
            let family = self.tables[place].in_use.family();
            for (frontend, binding) in lower::frontends(program, family).filter(of_stage) {
                step.take(lower::elements(frontend, binding, self.tables[place].in_use.numbers()));
                step.take(lower::service_address(frontend, binding));
                if step.octets >= FILL_STEP {
                    applied = applied.and(self.make(place, &mut step)?);
                }
            }
        }
        write_rules(&mut self.transaction, &first.id, chain::DISPATCH, &last);
        Ok(applied.and(self.make(place, &mut step)?))
    }

    fn make(&mut self, place: usize, step: &mut Step) -> Result<Applied, Error> {
        let Kept { id, shapes, .. } = &self.tables[place];
        let step = std::mem::take(step);
        let mut elements = 0;
        for (name, of_set) in &step.sets {
            let Some(shape) = shapes.get(*name) else { continue };
            elements += of_set.len();
            self.transaction.elements(id, name, shape, of_set);
        }
        let transactions = self.commit()?.transactions;
        self.transaction.clear();
        Ok(Applied { chains: 0, elements, transactions })
    }

    /// In place of whatever bears our name. A stand-in serves meanwhile: a packet that is among the rules of a table
    /// while another takes its place finds neither's elements, and would be refused.
    fn rebuild(
        &mut self,
        family: Family,
        mut wanted: Table,
        there: Presence,
    ) -> Result<Applied, Error> {
        let (id, stand_in) = (table_id(family), stand_in_id(family));
        let mut applied = Applied::default();
        if there.table {
            // One that is there already may not be all there.
            if there.stand_in {
                self.remove(&stand_in)?;
            }
            wanted.id = stand_in.clone();
            applied = self.write(&wanted)?;
            self.remove(&id)?;
        }
        wanted.id = id;
        applied = applied.and(self.write(&wanted)?);
        self.remove(&stand_in)?;
        Ok(applied)
    }

    /// A table that is not there, its rules last.
    fn write(&mut self, wanted: &Table) -> Result<Applied, Error> {
        self.transaction.clear();
        self.transaction.whole(wanted);
        let elements = wanted.sets.values().map(|set| set.elements.len()).sum();
        let transactions = self.commit()?.transactions;
        Ok(Applied { chains: wanted.chains.len(), elements, transactions })
    }

    fn remove(&mut self, id: &TableId) -> Result<(), Error> {
        remove_table(&mut self.socket, id).map_err(Error::Commit)
    }

    /// New chains go ahead of the elements that lead to them: for a packet that is among the rules while
    /// the generation changes, a chain of the new generation is still empty (`nf_tables_addchain`), and it
    /// would pass untranslated.
    fn apply(&mut self, deltas: &[(usize, TableDelta)]) -> Result<Applied, Error> {
        let each = deltas.iter().map(|(_, delta)| applied(delta, Stats::default()));
        let mut applied = each.fold(Applied::default(), Applied::and);
        self.transaction.clear();
        for (place, delta) in deltas {
            write_frame(&mut self.transaction, &self.tables[*place].id, delta);
        }
        applied.transactions += self.commit()?.transactions;
        self.transaction.clear();
        for (place, delta) in deltas {
            write_elements(&mut self.transaction, &self.tables[*place], delta);
        }
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

/// Removes a family's table from the network namespace of the calling thread, where there is one.
pub fn clean(family: Family) -> Result<(), Error> {
    let mut socket = Socket::netfilter().map_err(Error::Open)?;
    let there = tables(&mut socket).map_err(Error::Read)?;
    let ours = [table_id(family), stand_in_id(family)];
    let mut ours = ours.iter().filter(|id| there.contains(id));
    ours.try_for_each(|id| remove_table(&mut socket, id)).map_err(Error::Commit)
}

impl Applied {
    fn and(self, more: Applied) -> Applied {
        Applied {
            chains: self.chains + more.chains,
            elements: self.elements + more.elements,
            transactions: self.transactions + more.transactions,
        }
    }
}

fn applied(delta: &TableDelta, stats: Stats) -> Applied {
    Applied {
        chains: delta.chains.len(),
        elements: delta.elements.values().map(BTreeMap::len).sum(),
        transactions: stats.transactions,
    }
}

/// The frame of a table in which nobody is refused or dropped for being unknown, and the chain that does so once all
/// are known: somebody else may serve them until then.
fn without_ends(mut frame: Table) -> (Table, Chain) {
    let refused = Statement::Verdict(Verdict::Goto(chain::REFUSAL.to_owned()));
    let ends = [refused, Statement::Verdict(Verdict::Drop)];
    let dispatch = frame.chains.entry(chain::DISPATCH.to_owned()).or_default();
    let whole = dispatch.clone();
    dispatch.rules.retain(|rule| rule.statements.last().is_none_or(|it| !ends.contains(it)));
    (frame, whole)
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
fn write_frame(transaction: &mut Transaction, id: &TableId, delta: &TableDelta) {
    for (name, set) in &delta.sets {
        if let Some(set) = set {
            transaction.set(id, name, set);
        }
    }
    for (name, chain) in &delta.chains {
        if let Some(chain) = chain {
            transaction.chain(id, name, chain).flush_chain(id, name);
        }
    }
    for (name, chain) in &delta.chains {
        for rule in chain.iter().flat_map(|chain| &chain.rules) {
            transaction.rule(id, name, rule);
        }
    }
}

/// Rules in place of those of a chain that is there.
fn write_rules(transaction: &mut Transaction, id: &TableId, name: &str, chain: &Chain) {
    transaction.flush_chain(id, name);
    for rule in &chain.rules {
        transaction.rule(id, name, rule);
    }
}

/// The elements, and what goes when they have gone.
///
/// In an order that is right even where the commit must be cut in parts: what a front end needs is there
/// before the element that leads to it, and goes after it; an address refuses unknown ports only while
/// all its known ones are there.
fn write_elements(transaction: &mut Transaction, table: &Kept, delta: &TableDelta) {
    let Kept { id, shapes, .. } = table;
    let mut put = |name: &str, wanted: fn(&ElementChange) -> bool| {
        let Some((shape, changes)) = shapes.get(name).zip(delta.elements.get(name)) else { return };
        let changes: Vec<_> = changes.iter().filter(|(_, change)| wanted(change)).collect();
        put(transaction, id, name, shape, &changes);
    };
    let leaves: fn(&ElementChange) -> bool = |change| change.after.is_none();
    let stays: fn(&ElementChange) -> bool = |change| change.after.is_some();
    put(set::SERVICE_ADDRESSES, leaves);
    set::DETAILS.iter().for_each(|name| put(name, stays));
    let between = |name: &&String| {
        name.as_str() != set::SERVICE_ADDRESSES && !set::DETAILS.contains(&name.as_str())
    };
    for name in delta.elements.keys().filter(between) {
        put(name, |_any| true);
    }
    put(set::SERVICE_ADDRESSES, stays);
    set::DETAILS.iter().for_each(|name| put(name, leaves));
    remove_leftovers(transaction, id, delta);
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
