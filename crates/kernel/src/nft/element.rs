//! Elements of sets and maps, to attributes and back.

use super::abi::*;
use super::expression::{read_count, read_verdict, write_verdict};
use super::read::Count;
use super::set::{Lengths, Shape};
use crate::netlink::{Attribute, Body};
use netstate::nft::{Element, ElementValue, Key, Verdict};

/// Octets that no single element exceeds: key, value, end key, comment, verdict with its chain, and heads.
pub(super) const LARGEST: usize = 3 * Key::CAPACITY + 256 + 256 + 128;

/// Why an element cannot be written.
pub(super) type Problem = &'static str;

/// Adds one element, and the end of its range where it has one.
#[inline]
pub(super) fn write(
    body: &mut Body<'_>,
    shape: Shape,
    key: &Key,
    element: &Element,
) -> Result<(), Problem> {
    let key = cut(key, shape.key).ok_or("the key has not the set's length")?;
    let item = body.open(NFTA_LIST_ELEM);
    write_data(body, NFTA_SET_ELEM_KEY, key);
    match (&element.value, shape.value) {
        (ElementValue::None, None) if !shape.verdicts => {}
        (ElementValue::Data(value), Some(lengths)) => {
            let value = cut(value, lengths).ok_or("the value has not the map's length")?;
            write_data(body, NFTA_SET_ELEM_DATA, value);
        }
        (ElementValue::Verdict(verdict), None) if shape.verdicts => {
            check_verdict(verdict)?;
            body.nest(NFTA_SET_ELEM_DATA, |body| write_verdict(body, verdict));
        }
        _ => return Err("the value is not of the set's kind"),
    }
    write_comment(body, NFTA_SET_ELEM_USERDATA, &element.comment)?;
    body.close(item);
    write_end(body, shape, element.until.as_ref())
}

/// Adds the key of an element to delete, and the end of its range where it has one.
pub(super) fn write_key(
    body: &mut Body<'_>,
    shape: Shape,
    key: &Key,
    until: Option<&Key>,
) -> Result<(), Problem> {
    let key = cut(key, shape.key).ok_or("the key has not the set's length")?;
    body.nest(NFTA_LIST_ELEM, |body| write_data(body, NFTA_SET_ELEM_KEY, key));
    write_end(body, shape, until)
}

/// The kernel keeps a range as two elements; without the second it reaches to the end of the space.
fn write_end(body: &mut Body<'_>, shape: Shape, until: Option<&Key>) -> Result<(), Problem> {
    let Some(until) = until else { return Ok(()) };
    if !shape.interval {
        return Err("a range in a set without ranges");
    }
    let until = cut(until, shape.key).ok_or("the range's end has not the set's length")?;
    body.nest(NFTA_LIST_ELEM, |body| {
        write_data(body, NFTA_SET_ELEM_KEY, until);
        body.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
    });
    Ok(())
}

#[inline]
fn write_data(body: &mut Body<'_>, kind: u16, value: &[u8]) {
    let data = body.open(kind);
    body.bytes(NFTA_DATA_VALUE, value);
    body.close(data);
}

/// User data with a comment, as nft reads it; nothing for an empty one.
pub(super) fn write_comment(body: &mut Body<'_>, kind: u16, comment: &str) -> Result<(), Problem> {
    if comment.is_empty() {
        return Ok(());
    }
    if comment.len() > COMMENT_CAPACITY {
        return Err("a comment has at most 251 octets");
    }
    if comment.contains('\0') {
        return Err("a comment holds no NUL");
    }
    let mut userdata = [0; 2 + COMMENT_CAPACITY + 1];
    userdata[1] = u8::try_from(comment.len() + 1).expect("bounded above");
    userdata[2..2 + comment.len()].copy_from_slice(comment.as_bytes());
    body.bytes(kind, &userdata[..comment.len() + 3]);
    Ok(())
}

pub(super) fn check_verdict(verdict: &Verdict) -> Result<(), Problem> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) if chain.len() > 255 => {
            Err("a chain's name has at most 255 octets")
        }
        _ => Ok(()),
    }
}

#[inline]
fn cut(key: &Key, lengths: Lengths) -> Option<&[u8]> {
    let bytes = key.as_bytes();
    (bytes.len() == lengths.padded).then(|| &bytes[..lengths.kernel])
}

/// An element as the kernel lists it: half a range, in sets with ranges.
#[derive(Debug, Clone)]
pub(super) struct RawElement {
    pub(super) key: Key,
    pub(super) element: Element,
    pub(super) ends_range: bool,
    pub(super) count: Option<Count>,
}

/// Reads one `NFTA_LIST_ELEM`; `None` for what has no value here, as a catch-all element.
#[inline]
pub(super) fn read(item: Attribute<'_>) -> Option<RawElement> {
    let mut key = None;
    let mut value = ElementValue::None;
    let mut comment = "";
    let mut flags = 0;
    let mut count = None;
    for attribute in item.nested() {
        match attribute.kind {
            NFTA_SET_ELEM_KEY => key = Some(read_key(attribute)?),
            NFTA_SET_ELEM_DATA => value = read_value(attribute)?,
            NFTA_SET_ELEM_FLAGS => flags = attribute.be32()?,
            NFTA_SET_ELEM_USERDATA => comment = read_comment(attribute.value).unwrap_or_default(),
            NFTA_SET_ELEM_EXPR => count = read_count(attribute.nested()),
            NFTA_SET_ELEM_EXPRESSIONS => {
                count = attribute.nested().find_map(|expression| read_count(expression.nested()));
            }
            _ => {}
        }
    }
    if flags & NFT_SET_ELEM_CATCHALL != 0 {
        return None;
    }
    let element = Element { until: None, value, comment: comment.into() };
    Some(RawElement {
        key: key?,
        element,
        ends_range: flags & NFT_SET_ELEM_INTERVAL_END != 0,
        count,
    })
}

#[inline]
fn read_key(attribute: Attribute<'_>) -> Option<Key> {
    let value = attribute.nested().find(NFTA_DATA_VALUE)?.value;
    (value.len() <= Key::CAPACITY).then(|| Key::new().part(value))
}

#[inline]
fn read_value(attribute: Attribute<'_>) -> Option<ElementValue> {
    match attribute.nested().find(NFTA_DATA_VERDICT) {
        Some(verdict) => read_verdict(verdict).map(ElementValue::Verdict),
        None => read_key(attribute).map(ElementValue::Data),
    }
}
