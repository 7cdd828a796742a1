//! Sending a transaction, and saying which part of it the kernel refused.

use super::abi::*;
use super::transaction::Transaction;
use crate::netlink::{Attributes, Batch, Messages, Refusal, Socket};
use crate::{Error, Result};
use std::ops::Range;

/// What a commit took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions that the kernel saw: one, but for [`Transaction::commit_in_parts`].
    pub transactions: usize,
    pub messages: usize,
    pub octets: usize,
}

impl Transaction {
    /// Makes all changes in one atomic step.
    ///
    /// [`Error::TooLarge`] where they exceed what one send of this socket carries ([`Socket::room`]): that is the
    /// moment to decide about [`Transaction::commit_in_parts`]. The changes stay, for another attempt.
    pub fn commit(&mut self, socket: &mut Socket) -> Result<Stats> {
        self.check()?;
        if self.is_empty() {
            return Ok(Stats::default());
        }
        let octets = self.octets();
        bracket(&mut self.batch, NFNL_MSG_BATCH_END);
        let outcome = send(socket, &mut self.batch);
        self.batch.pop();
        outcome.map(|()| Stats { transactions: 1, messages: self.elements.len(), octets })
    }

    /// Makes all changes in order, in atomic steps of at most `most` octets and what one send of the socket carries.
    ///
    /// A step begins and ends only beside messages of elements (of some hundred each): chains, rules, sets and
    /// tables that follow each other change together. So that no moment is wrong, add elements before the rules or
    /// elements that lead to them, and delete them after. When a step is refused, those before it stay made.
    pub fn commit_in_parts(&mut self, socket: &mut Socket, most: usize) -> Result<Stats> {
        self.check()?;
        let mut stats = Stats::default();
        for part in self.parts(socket.room().min(most)) {
            let mut batch = Batch::default();
            bracket(&mut batch, NFNL_MSG_BATCH_BEGIN);
            // Message 0 is the begin of the whole.
            batch.append(&self.batch, part.start + 1..part.end + 1);
            bracket(&mut batch, NFNL_MSG_BATCH_END);
            send(socket, &mut batch)?;
            stats.transactions += 1;
            stats.messages += part.len();
            stats.octets += batch.as_bytes().len();
        }
        Ok(stats)
    }

    /// Runs of changes that go together, each within `room` where cuts allow it.
    pub(super) fn parts(&self, room: usize) -> Vec<Range<usize>> {
        let size = |range: Range<usize>| {
            self.batch.start(range.end + 1) - self.batch.start(range.start + 1)
        };
        let mut parts = Vec::new();
        let mut start = 0;
        let mut cut = None;
        for end in 1..=self.elements.len() {
            if let Some(at) = cut.filter(|_| size(start..end) + 2 * BRACKET > room) {
                parts.push(start..at);
                (start, cut) = (at, None);
            }
            let free = self.elements[end - 1] || self.elements.get(end).copied().unwrap_or(true);
            cut = if free { Some(end) } else { cut };
        }
        if start < self.elements.len() {
            parts.push(start..self.elements.len());
        }
        parts
    }

    fn check(&mut self) -> Result<()> {
        let Some(problem) = self.problem.take() else { return Ok(()) };
        self.clear();
        Err(problem)
    }
}

fn send(socket: &mut Socket, batch: &mut Batch) -> Result<()> {
    // The end of a batch is never acknowledged; the last change in it is, after everything is committed.
    let last = batch.len() - 2;
    let refusals = socket.execute_until("change rules", batch, last)?;
    match refusals.into_iter().next() {
        Some(refusal) => Err(explain(batch, refusal)),
        None => Ok(()),
    }
}

fn explain(batch: &Batch, refusal: Refusal) -> Error {
    let message =
        Messages::new(batch.message(refusal.index)).next().expect("it was sent as a message");
    let names = message
        .split::<GENERIC>()
        .map_or_else(String::new, |(_, attributes)| names(message.kind, &attributes));
    refusal.into_error(operation(message.kind), names)
}

/// Table and chain or set of a message that was refused.
fn names(kind: u16, attributes: &Attributes<'_>) -> String {
    let text =
        |kind| attributes.find(kind).and_then(|attribute| attribute.text()).unwrap_or_default();
    let second = match kind {
        NFT_MSG_NEWTABLE | NFT_MSG_DELTABLE => "",
        NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => text(NFTA_CHAIN_NAME),
        // Chain of a rule, set, set of elements.
        _ => text(2),
    };
    object(text(1), second)
}

pub(super) fn object(table: &str, name: &str) -> String {
    if name.is_empty() { table.to_owned() } else { format!("{table} {name}") }
}

pub(super) fn operation(kind: u16) -> &'static str {
    match kind {
        NFT_MSG_NEWTABLE => "add table",
        NFT_MSG_DELTABLE => "delete table",
        NFT_MSG_NEWCHAIN => "add chain",
        NFT_MSG_DELCHAIN => "delete chain",
        NFT_MSG_NEWRULE => "add rule to",
        NFT_MSG_DELRULE => "flush chain",
        NFT_MSG_NEWSET => "add set",
        NFT_MSG_DELSET => "delete set",
        NFT_MSG_NEWSETELEM => "add elements to",
        NFT_MSG_DELSETELEM => "delete elements of",
        _ => "commit rules",
    }
}

/// Octets of the message that begins or ends a batch.
pub(super) const BRACKET: usize = 20;

/// Begin or end of a batch: `struct nfgenmsg` with the subsystem's number in network byte order.
pub(super) fn bracket(batch: &mut Batch, kind: u16) {
    batch.request(kind, 0, |body| body.fixed(&[0, 0, 0, 10]));
}
