//! What is written reads back, through bytes alone.

#[path = "../../tests/it/arbitrary.rs"]
mod arbitrary;

use super::Transaction;
use super::abi::*;
use super::listing::gather;
use super::rule::{FoundRule, join};
use super::{element, set};
use crate::netlink::{Attributes, Messages};
use netstate::nft::{Chain, Table};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Reads the messages of a transaction as the kernel's listing.
fn read(transaction: &Transaction, like: &Table) -> Table {
    let mut table = Table { id: like.id.clone(), sets: BTreeMap::new(), chains: BTreeMap::new() };
    let mut elements: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut rules = Vec::new();
    for message in Messages::new(transaction.batch.as_bytes()) {
        let (_, attributes) = message.split::<GENERIC>().unwrap();
        let second = || attributes.find(2).unwrap().text().unwrap().to_owned();
        match message.kind {
            NFT_MSG_NEWSET => drop(table.sets.insert(second(), set::read(&attributes).unwrap())),
            NFT_MSG_NEWCHAIN => {
                let name = attributes.find(NFTA_CHAIN_NAME).unwrap().text().unwrap().to_owned();
                let hook = like.chains[&name].hook;
                table.chains.insert(name, Chain { hook, rules: Vec::new() });
            }
            NFT_MSG_NEWSETELEM => {
                let list = attributes.find(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap();
                elements
                    .entry(second())
                    .or_default()
                    .extend(list.nested().map(|item| element::read(item).unwrap()));
            }
            NFT_MSG_NEWRULE => rules.push(FoundRule::read(like.id.family, &attributes)),
            _ => {}
        }
    }
    for (name, found) in elements {
        let set = table.sets.get_mut(&name).unwrap();
        set.elements = gather(set.interval, found);
    }
    for found in join(rules) {
        table.chains.get_mut(&found.chain).unwrap().rules.push(found.rule);
    }
    table
}

proptest! {
    #[test]
    fn tables_read_back_as_written(table in arbitrary::table()) {
        let mut transaction = Transaction::new();
        transaction.whole(&table);
        prop_assert!(transaction.problem.is_none(), "{:?}", transaction.problem);
        prop_assert_eq!(read(&transaction, &table), table);
    }

    /// Every message is in one part, in order; no part is longer than it must be, and chains are never torn apart.
    #[test]
    fn parts_tile_the_whole(tables in proptest::collection::vec(arbitrary::table(), 0..5), room in 0..4000usize) {
        let mut transaction = Transaction::new();
        for table in &tables {
            transaction.whole(table);
        }
        let parts = transaction.parts(room);
        let messages: Vec<usize> = parts.iter().cloned().flatten().collect();
        prop_assert!(messages.iter().copied().eq(0..transaction.elements.len()));
        for part in parts {
            let size = transaction.batch.start(part.end + 1) - transaction.batch.start(part.start + 1);
            let cut = |at: usize| transaction.elements[at - 1] || transaction.elements[at];
            prop_assert!(part.start == 0 || cut(part.start), "begins where nothing may be cut");
            prop_assert!(size + 40 <= room || !(part.start + 1..part.end).any(cut), "longer than it must be");
        }
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let attributes = Attributes::new(&octets);
        let _unused = set::read(&attributes);
        for family in [netstate::nft::Family::Ip, netstate::nft::Family::Ip6] {
            let _unused = join(vec![FoundRule::read(family, &attributes)]);
        }
        let elements = attributes.filter_map(element::read).collect();
        let _unused = gather(true, elements);
        let _unused = read_comment(&octets);
    }

    /// Octets that went astray in a real listing reach deeper than random ones.
    #[test]
    fn spoilt_listings_never_panic(table in arbitrary::table(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut transaction = Transaction::new();
        transaction.whole(&table);
        let mut octets = transaction.batch.as_bytes().to_vec();
        let at = at.index(octets.len());
        octets[at] = octet;
        for message in Messages::new(&octets) {
            let Some((_, attributes)) = message.split::<GENERIC>() else { continue };
            let _unused = set::read(&attributes);
            let _unused = join(vec![FoundRule::read(table.id.family, &attributes)]);
            let lists = attributes.filter(|attribute| attribute.kind == NFTA_SET_ELEM_LIST_ELEMENTS);
            let found = lists.flat_map(|list| list.nested()).filter_map(element::read).collect();
            let _unused = gather(true, found);
        }
    }
}
