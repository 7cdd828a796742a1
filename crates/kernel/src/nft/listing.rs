//! The elements of a set, all of them.

use super::abi::*;
use super::element::{self, RawElement};
use super::read::{ATTEMPTS, Observed, dump};
use super::set::Shape;
use crate::netlink::{Attributes, Batch, Body, Message, Socket};
use crate::{Error, Result};
use netstate::nft::{Element, ElementValue, Key, Set, TableId};
use nix::errno::Errno;
use std::collections::BTreeMap;

/// Elements from which on asking for each is sooner done than listing all.
const MANY: usize = 2000;
/// Keys in one question: the answers, each of 8 KiB in the kernel's accounts, fit into a default receive buffer.
const KEYS: usize = 20;

/// Elements as listed, and whether there were some that have no value here.
type Listing = (Vec<RawElement>, bool);

/// Reads the elements until all are there, by asking for those of `like` where that may do.
///
/// A hash table that grows while it is listed shows elements twice or not at all, and nothing in the listing says so:
/// the number of elements must be the set's own (`count`, [`NFTA_SET_COUNT`]) or, before Linux 6.16, that of a second
/// look.
pub(super) fn read_elements(
    socket: &mut Socket,
    observed: &mut Observed,
    name: &str,
    count: Option<usize>,
    like: Option<&Set>,
) -> Result<()> {
    let id = &observed.table.id;
    let Some(set) = observed.table.sets.get_mut(name) else { return Ok(()) };
    if set.dynamic.is_some() {
        return Ok(());
    }
    let like = like.filter(|like| like.same_shape(set) && !set.interval);
    let asked = match (count, like) {
        (Some(count), Some(like)) if count >= MANY => ask_for(socket, id, name, like, count)?,
        _ => None,
    };
    let (found, unknown) = match asked {
        Some(found) => (found, false),
        None if set.interval => dump_elements(socket, id, name)?,
        None => settled(socket, id, name, count)?,
    };
    if set.counters {
        let counts = found.iter().filter_map(|element| Some((element.key, element.count?)));
        observed.element_counts.insert(name.to_owned(), counts.collect());
    }
    set.elements = gather(set.interval, found);
    observed.unknown.extend(unknown.then(|| name.to_owned()));
    Ok(())
}

/// What rules have put into a dynamic map: keys and values. Elements come and go while they are listed.
pub fn read_dynamic(socket: &mut Socket, id: &TableId, name: &str) -> Result<BTreeMap<Key, Key>> {
    let (found, _unknown) = dump_elements(socket, id, name)?;
    let data = |raw: RawElement| match raw.element.value {
        ElementValue::Data(data) => Some((raw.key, data)),
        ElementValue::None | ElementValue::Verdict(_) => None,
    };
    Ok(found.into_iter().filter_map(data).collect())
}

/// Lists the elements of a hash table until each is there once.
fn settled(socket: &mut Socket, id: &TableId, name: &str, count: Option<usize>) -> Result<Listing> {
    let mut expected = count;
    for _attempt in 0..ATTEMPTS {
        let mut listing = dump_elements(socket, id, name)?;
        let listed = listing.0.len();
        listing.0.sort_unstable_by_key(|raw| raw.key);
        listing.0.dedup_by_key(|raw| raw.key);
        if listing.1 || expected == Some(listed) && listing.0.len() == listed {
            return Ok(listing);
        }
        expected = count.or(Some(listing.0.len()));
    }
    Err(Error::Unsettled { operation: "read elements", object: format!("{} {name}", id.name) })
}

/// The elements with the keys of `like`, or `None` when these are not all `count` that the set has.
fn ask_for(
    socket: &mut Socket,
    id: &TableId,
    name: &str,
    like: &Set,
    count: usize,
) -> Result<Option<Vec<RawElement>>> {
    let shape = Shape::of(like);
    let keys: Vec<&Key> = like.elements.keys().collect();
    let mut found = Vec::with_capacity(count);
    let mut next = 0;
    // Each missing key costs a question of its own; where many are missing, a listing is better.
    let mut missing = keys.len() / KEYS;
    while next < keys.len() && found.len() + (keys.len() - next) >= count {
        let chunk = &keys[next..keys.len().min(next + KEYS)];
        let answered = ask(socket, id, name, shape, chunk, &mut found)?;
        next += answered;
        if answered < chunk.len() {
            let Some(left) = missing.checked_sub(1) else { return Ok(None) };
            (missing, next) = (left, next + 1);
        }
    }
    Ok((found.len() == count).then_some(found))
}

/// Asks for elements; returns how many are there before the first that is not.
fn ask(
    socket: &mut Socket,
    id: &TableId,
    name: &str,
    shape: Shape,
    keys: &[&Key],
    found: &mut Vec<RawElement>,
) -> Result<usize> {
    let operation = "read elements of";
    let object = || format!("{} {name}", id.name);
    let mut batch = Batch::default();
    let mut written = Ok(());
    batch.request(NFT_MSG_GETSETELEM, 0, |body| {
        body.fixed(&generic(id));
        body.text(NFTA_SET_ELEM_LIST_TABLE, &id.name);
        body.text(NFTA_SET_ELEM_LIST_SET, name);
        body.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |body| {
            written = keys.iter().try_for_each(|key| element::write_key(body, shape, key, None));
        });
    });
    written.map_err(|problem| Error::Unusable { operation, object: object(), problem })?;
    let before = found.len();
    let refusals = socket.query(operation, &mut batch, |message: Message<'_>| {
        found.extend(items(message).filter_map(element::read));
        Ok(())
    })?;
    match refusals.into_iter().next() {
        Some(refusal) if refusal.errno != Errno::ENOENT => {
            Err(refusal.into_error(operation, object()))
        }
        _ => Ok(found.len() - before),
    }
}

fn items(message: Message<'_>) -> impl Iterator<Item = crate::netlink::Attribute<'_>> {
    let attributes = message.split::<GENERIC>().map(|(_, attributes)| attributes);
    attributes
        .and_then(|attributes| attributes.find(NFTA_SET_ELEM_LIST_ELEMENTS))
        .into_iter()
        .flat_map(|list| list.nested())
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
