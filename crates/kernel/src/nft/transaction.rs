//! Changes of rule sets, atomic together.

use super::abi::*;
use super::commit::{BRACKET, bracket, object, operation};
use super::element::{self, LARGEST, Problem, write_comment};
use super::expression::{Answer, write_rule};
use super::set::{self, Shape};
use crate::netlink::{Batch, Body, Socket, flags};
use crate::{Error, Result};
use netstate::nft::{Chain, ChainKind, Element, HookPoint, Key, Rule, Set, Statement, TableId};

/// Where a list of elements is ended and the next message begun: an attribute's length has sixteen bits.
const LIST_CAPACITY: usize = u16::MAX as usize - LARGEST;
/// `NFT_NAME_MAXLEN` less the NUL.
const NAME_CAPACITY: usize = 255;

/// Changes in the order in which the kernel shall make them: all of them, or none.
///
/// The methods only write; what cannot be written is told by the commit, which then sends nothing.
#[derive(Debug)]
pub struct Transaction {
    pub(super) batch: Batch,
    /// By message: whether a batch may end before or after it.
    pub(super) elements: Vec<bool>,
    pub(super) problem: Option<Error>,
}

impl Default for Transaction {
    fn default() -> Self {
        Transaction::new()
    }
}

/// Removes a table that serves, its rules first: a packet that is among them while a whole table goes finds maps without
/// elements (`nft_map_deactivate`) and other sets still full, and what it would be refused for is not so.
pub fn remove_table(socket: &mut Socket, table: &TableId) -> Result<()> {
    Transaction::new().table(table).flush_rules(table).commit(socket)?;
    Transaction::new().delete_table(table).commit(socket).map(drop)
}

impl Transaction {
    pub fn new() -> Self {
        let mut transaction =
            Transaction { batch: Batch::default(), elements: Vec::new(), problem: None };
        transaction.clear();
        transaction
    }

    /// Forgets all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.elements.clear();
        self.problem = None;
        bracket(&mut self.batch, NFNL_MSG_BATCH_BEGIN);
    }

    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Octets of the one send that a commit would be; it goes where they are at most [`Socket::room`].
    ///
    /// [`Socket::room`]: crate::netlink::Socket::room
    pub fn octets(&self) -> usize {
        self.batch.as_bytes().len() + BRACKET
    }

    /// Makes the table if it is not there.
    pub fn table(&mut self, table: &TableId) -> &mut Self {
        self.message(NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, table, "", |body| {
            body.text(NFTA_TABLE_NAME, &table.name);
            Ok(())
        })
    }

    /// Deletes the table with all that is in it, if it is there.
    pub fn delete_table(&mut self, table: &TableId) -> &mut Self {
        self.table(table).message(NFT_MSG_DELTABLE, 0, table, "", |body| {
            body.text(NFTA_TABLE_NAME, &table.name);
            Ok(())
        })
    }

    /// Makes the chain if it is not there, without rules. The policy of a base chain is accept.
    pub fn chain(&mut self, table: &TableId, name: &str, chain: &Chain) -> &mut Self {
        self.message(NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, table, name, |body| {
            body.text(NFTA_CHAIN_TABLE, &table.name);
            body.text(NFTA_CHAIN_NAME, name);
            if let Some(hook) = chain.hook {
                body.nest(NFTA_CHAIN_HOOK, |body| {
                    body.be32(NFTA_HOOK_HOOKNUM, hook_number(hook.point));
                    body.be32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
                });
                body.text(NFTA_CHAIN_TYPE, kind_word(hook.kind));
                body.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
            }
            Ok(())
        })
    }

    /// Takes all rules out of a chain.
    pub fn flush_chain(&mut self, table: &TableId, name: &str) -> &mut Self {
        self.message(NFT_MSG_DELRULE, 0, table, name, |body| {
            body.text(NFTA_RULE_TABLE, &table.name);
            body.text(NFTA_RULE_CHAIN, name);
            Ok(())
        })
    }

    /// Takes all rules out of all chains of a table that is there.
    pub fn flush_rules(&mut self, table: &TableId) -> &mut Self {
        self.message(NFT_MSG_DELRULE, 0, table, "", |body| {
            body.text(NFTA_RULE_TABLE, &table.name);
            Ok(())
        })
    }

    /// Deletes a chain that is there and that nothing jumps to; its rules go first, by [`Transaction::flush_chain`].
    pub fn delete_chain(&mut self, table: &TableId, name: &str) -> &mut Self {
        self.message(NFT_MSG_DELCHAIN, 0, table, name, |body| {
            body.text(NFTA_CHAIN_TABLE, &table.name);
            body.text(NFTA_CHAIN_NAME, name);
            Ok(())
        })
    }

    /// Adds a rule at the end of a chain. Chains and sets that it names must be there.
    ///
    /// A rule that rejects becomes two in the kernel: one answers TCP, one the rest.
    pub fn rule(&mut self, table: &TableId, chain: &str, rule: &Rule) -> &mut Self {
        if rule.statements.contains(&Statement::Reject) {
            self.one_rule(table, chain, rule, Answer::TcpReset);
        }
        self.one_rule(table, chain, rule, Answer::PortUnreachable)
    }

    fn one_rule(&mut self, table: &TableId, chain: &str, rule: &Rule, answer: Answer) -> &mut Self {
        let create = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.message(NFT_MSG_NEWRULE, create, table, chain, |body| {
            body.text(NFTA_RULE_TABLE, &table.name);
            body.text(NFTA_RULE_CHAIN, chain);
            let list = body.open(NFTA_RULE_EXPRESSIONS);
            write_rule(body, table.family, &rule.statements, answer)?;
            body.close(list);
            write_comment(body, NFTA_RULE_USERDATA, &rule.comment)
        })
    }

    /// Makes the set if it is not there, without elements.
    ///
    /// The kernel refuses (`EEXIST`) where one of the same name has another shape.
    pub fn set(&mut self, table: &TableId, name: &str, set: &Set) -> &mut Self {
        let id = u32::try_from(self.elements.len()).unwrap_or(u32::MAX);
        self.message(NFT_MSG_NEWSET, libc::NLM_F_CREATE, table, name, |body| {
            set::write(body, table, name, set, id);
            Ok(())
        })
    }

    /// Deletes a set that is there and that no rule uses.
    pub fn delete_set(&mut self, table: &TableId, name: &str) -> &mut Self {
        self.message(NFT_MSG_DELSET, 0, table, name, |body| {
            body.text(NFTA_SET_TABLE, &table.name);
            body.text(NFTA_SET_NAME, name);
            Ok(())
        })
    }

    /// Takes all elements out of a set.
    pub fn flush_set(&mut self, table: &TableId, name: &str) -> &mut Self {
        self.message(NFT_MSG_DELSETELEM, 0, table, name, |body| {
            body.text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
            body.text(NFTA_SET_ELEM_LIST_SET, name);
            Ok(())
        })
    }

    /// Adds elements. `shape` is the set's; its own elements are not looked at.
    ///
    /// An element that is there with the same value stays as it is, counter included; to give it another value,
    /// delete it first in the same transaction. In sets with ranges an element without `until` reaches to the end.
    pub fn elements<'a>(
        &mut self,
        table: &TableId,
        name: &str,
        shape: &Set,
        elements: impl IntoIterator<Item = (&'a Key, &'a Element)>,
    ) -> &mut Self {
        let shape = Shape::of(shape);
        let mut elements = elements.into_iter();
        self.element_messages(NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, table, name, |body| {
            elements.next().map(|(key, element)| element::write(body, shape, key, element))
        })
    }

    /// Deletes elements that are there, each by its key and, in sets with ranges, its `until`.
    pub fn delete_elements<'a>(
        &mut self,
        table: &TableId,
        name: &str,
        shape: &Set,
        keys: impl IntoIterator<Item = (&'a Key, Option<&'a Key>)>,
    ) -> &mut Self {
        let shape = Shape::of(shape);
        let mut keys = keys.into_iter();
        self.element_messages(NFT_MSG_DELSETELEM, 0, table, name, |body| {
            keys.next().map(|(key, until)| element::write_key(body, shape, key, until))
        })
    }

    /// Makes the table, its chains and sets with all that is in them; what is already there must fit.
    pub fn whole(&mut self, table: &netstate::nft::Table) -> &mut Self {
        let id = &table.id;
        self.table(id);
        for (name, set) in &table.sets {
            self.set(id, name, set);
        }
        for (name, chain) in &table.chains {
            self.chain(id, name, chain);
        }
        for (name, set) in &table.sets {
            self.elements(id, name, set, &set.elements);
        }
        for (name, chain) in &table.chains {
            chain.rules.iter().for_each(|rule| {
                self.rule(id, name, rule);
            });
        }
        self
    }

    /// Writes messages of as many elements as fit, until `next` has no more.
    fn element_messages(
        &mut self,
        kind: u16,
        create: libc::c_int,
        table: &TableId,
        name: &str,
        mut next: impl FnMut(&mut Body<'_>) -> Option<Result<(), Problem>>,
    ) -> &mut Self {
        while self.problem.is_none() {
            let mut written = 0;
            self.message(kind, create, table, name, |body| {
                body.text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
                body.text(NFTA_SET_ELEM_LIST_SET, name);
                let list = body.open(NFTA_SET_ELEM_LIST_ELEMENTS);
                let full = body.position() + LIST_CAPACITY;
                while body.position() < full
                    && let Some(element) = next(body)
                {
                    element?;
                    written += 1;
                }
                body.close(list);
                Ok(())
            });
            if written == 0 {
                // Without elements the message would mean the whole set.
                self.take_back();
                break;
            }
            self.elements.last_mut().into_iter().for_each(|last| *last = true);
        }
        self
    }

    fn take_back(&mut self) {
        self.batch.pop();
        self.elements.pop();
    }

    fn message(
        &mut self,
        kind: u16,
        create: libc::c_int,
        table: &TableId,
        name: &str,
        write: impl FnOnce(&mut Body<'_>) -> Result<(), Problem>,
    ) -> &mut Self {
        if self.problem.is_some() {
            return self;
        }
        let fits = |name: &str| name.len() <= NAME_CAPACITY && !name.contains('\0');
        let written = if fits(&table.name) && fits(name) {
            self.batch.open(kind, flags(create));
            let mut body = self.batch.body();
            body.fixed(&generic(table));
            let written = write(&mut body);
            self.batch.close();
            self.elements.push(false);
            written
        } else {
            Err("a name has at most 255 octets and no NUL")
        };
        if let Err(problem) = written {
            let object = object(&table.name, name);
            self.problem = Some(Error::Unusable { operation: operation(kind), object, problem });
        }
        self
    }
}

/// `NF_INET_*` numbers.
pub(super) fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    }
}

pub(super) fn kind_word(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}
