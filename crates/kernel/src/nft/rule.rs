//! Rules as listed, two of them joined where they are one rejecting rule.

use super::abi::*;
use super::decode::{Decoded, read_rule};
use super::read::Count;
use crate::netlink::Attributes;
use netstate::nft::{Family, Rule};

/// A rule, where it is and what its counter counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundRule<R = Rule> {
    pub(super) chain: String,
    pub(super) rule: R,
    pub(super) count: Option<Count>,
}

/// A kernel rule and its comment.
#[derive(Debug)]
pub(super) struct Listed {
    decoded: Decoded,
    comment: String,
}

impl FoundRule<Listed> {
    /// Reads the attributes of `NFT_MSG_NEWRULE`.
    pub(super) fn read(family: Family, attributes: &Attributes<'_>) -> Self {
        let chain =
            attributes.find(NFTA_RULE_CHAIN).and_then(|chain| chain.text()).unwrap_or_default();
        let comment =
            attributes.find(NFTA_RULE_USERDATA).and_then(|userdata| read_comment(userdata.value));
        let list = attributes
            .find(NFTA_RULE_EXPRESSIONS)
            .map_or(Attributes::new(&[]), |list| list.nested());
        let decoded = read_rule(family, list);
        let count = decoded.count;
        let rule = Listed { decoded, comment: comment.unwrap_or_default().to_owned() };
        FoundRule { chain: chain.to_owned(), rule, count }
    }

    fn is_half_of(&self, next: &Self) -> bool {
        self.chain == next.chain
            && self.rule.comment == next.rule.comment
            && self.rule.decoded.is_half_of(&next.rule.decoded)
    }
}

/// The rules in their order, halves joined.
pub(super) fn join(listed: Vec<FoundRule<Listed>>) -> Vec<FoundRule> {
    let mut rules = Vec::with_capacity(listed.len());
    let mut listed = listed.into_iter().peekable();
    while let Some(this) = listed.next() {
        rules.push(match listed.next_if(|next| this.is_half_of(next)) {
            Some(other) => whole(this, other),
            None => alone(this),
        });
    }
    rules
}

fn whole(tcp: FoundRule<Listed>, rest: FoundRule<Listed>) -> FoundRule {
    let count = tcp.count.zip(rest.count).map(|(first, second)| Count {
        packets: first.packets + second.packets,
        octets: first.octets + second.octets,
    });
    let rule = Rule { statements: rest.rule.decoded.statements, comment: rest.rule.comment };
    FoundRule { chain: rest.chain, rule, count }
}

fn alone(found: FoundRule<Listed>) -> FoundRule {
    let FoundRule { chain, rule: Listed { decoded, comment }, count } = found;
    FoundRule { chain, rule: Rule { statements: decoded.alone(), comment }, count }
}
