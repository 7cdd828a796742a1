//! The shape of sets: key and data types, and the numbers nft knows them by.

use super::abi::*;
use super::expression;
use crate::netlink::{Attributes, Body};
use netstate::nft::{DataType, Key, Set, SetData, TableId};
use std::collections::BTreeMap;

/// Octets of keys and values as the kernel stores them: a single part is not padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// In the kernel, and in a [`netstate::nft::Key`].
    pub(super) key: Lengths,
    /// `None` where elements have no value or a verdict.
    pub(super) value: Option<Lengths>,
    pub(super) verdicts: bool,
    pub(super) interval: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) kernel: usize,
    pub(super) padded: usize,
}

impl Lengths {
    fn of(parts: &[DataType]) -> Self {
        let padded = parts.iter().map(|part| part.padded_width()).sum();
        match parts {
            [single] => Lengths { kernel: single.width(), padded },
            _ => Lengths { kernel: padded, padded },
        }
    }
}

impl Shape {
    pub(super) fn of(set: &Set) -> Self {
        Shape {
            key: Lengths::of(&set.key),
            value: match &set.data {
                SetData::Values(parts) => Some(Lengths::of(parts)),
                SetData::None | SetData::Verdict => None,
            },
            verdicts: set.data == SetData::Verdict,
            interval: set.interval,
        }
    }
}

/// The attributes of `NFT_MSG_NEWSET`.
pub(super) fn write(body: &mut Body<'_>, table: &TableId, name: &str, set: &Set, id: u32) {
    let mut flags = if set.interval { NFT_SET_INTERVAL } else { 0 };
    body.text(NFTA_SET_TABLE, &table.name);
    body.text(NFTA_SET_NAME, name);
    body.be32(NFTA_SET_KEY_TYPE, type_number(&set.key));
    body.be32(NFTA_SET_KEY_LEN, length(&set.key));
    body.be32(NFTA_SET_ID, id);
    match &set.data {
        SetData::None => {}
        SetData::Verdict => {
            flags |= NFT_SET_MAP;
            body.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            body.be32(NFTA_SET_DATA_LEN, 0);
        }
        SetData::Values(parts) => {
            flags |= NFT_SET_MAP;
            body.be32(NFTA_SET_DATA_TYPE, type_number(parts));
            body.be32(NFTA_SET_DATA_LEN, length(parts));
        }
    }
    if let Some(size) = set.dynamic {
        flags |= NFT_SET_TIMEOUT | NFT_SET_EVAL;
        body.nest(NFTA_SET_DESC, |body| body.be32(NFTA_SET_DESC_SIZE, size));
    }
    body.be32(NFTA_SET_FLAGS, flags);
    body.bytes(NFTA_SET_USERDATA, &userdata(set));
    if set.counters {
        body.nest(NFTA_SET_EXPR, |body| expression::write_named(body, "counter", |_zero| {}));
    }
}

/// The byte order of keys (type 0) and values (type 1), without which nft prints names and marks wrongly.
fn userdata(set: &Set) -> Vec<u8> {
    let order = |kind: u8, parts: &[DataType]| {
        let [a, b, c, d] = byte_order(parts).to_ne_bytes();
        [kind, 4, a, b, c, d]
    };
    let mut userdata = order(0, &set.key).to_vec();
    if let SetData::Values(parts) = &set.data {
        userdata.extend(order(1, parts));
    }
    userdata
}

/// nft's `enum byteorder`: unknown 0 (a concatenation: each part has its own), host 1, big endian 2.
fn byte_order(parts: &[DataType]) -> u32 {
    match parts {
        [DataType::Number | DataType::InterfaceName] => 1,
        [_] => 2,
        _ => 0,
    }
}

fn length(parts: &[DataType]) -> u32 {
    u32::try_from(Lengths::of(parts).kernel).expect("a set has few parts")
}

/// A set as read, without elements; `None` where its types, flags or expressions have no value here.
pub(super) fn read(attributes: &Attributes<'_>) -> Option<Set> {
    const DYNAMIC: u32 = NFT_SET_TIMEOUT | NFT_SET_EVAL;
    const REPRESENTED: u32 = NFT_SET_ANONYMOUS
        | NFT_SET_CONSTANT
        | NFT_SET_INTERVAL
        | NFT_SET_MAP
        | NFT_SET_EXPR
        | DYNAMIC;
    let number = |kind| attributes.find(kind).and_then(|attribute| attribute.be32());
    let flags = number(NFTA_SET_FLAGS).unwrap_or(0);
    if flags & !REPRESENTED != 0 || attributes.find(NFTA_SET_EXPRESSIONS).is_some() {
        return None;
    }
    let key = types(number(NFTA_SET_KEY_TYPE)?, number(NFTA_SET_KEY_LEN)?)?;
    let data = match (flags & NFT_SET_MAP, number(NFTA_SET_DATA_TYPE)) {
        (0, _) => SetData::None,
        (_, Some(NFT_DATA_VERDICT)) => SetData::Verdict,
        (_, kind) => SetData::Values(types(kind?, number(NFTA_SET_DATA_LEN)?)?),
    };
    let counters = match attributes.find(NFTA_SET_EXPR) {
        None => false,
        Some(expression) => {
            expression.nested().find(NFTA_EXPR_NAME)?.text()? == "counter" || return None
        }
    };
    let dynamic = match flags & DYNAMIC {
        0 => None,
        DYNAMIC => {
            let size = attributes.find(NFTA_SET_DESC)?.nested().find(NFTA_SET_DESC_SIZE);
            Some(size?.be32()?)
        }
        _ => return None,
    };
    Some(Set {
        key,
        data,
        interval: flags & NFT_SET_INTERVAL != 0,
        counters,
        dynamic,
        elements: BTreeMap::new(),
    })
}

/// The number of a concatenation: six bits for each part's number.
fn type_number(parts: &[DataType]) -> u32 {
    parts.iter().fold(0, |number, part| number << 6 | part_number(*part))
}

fn types(mut number: u32, octets: u32) -> Option<Vec<DataType>> {
    let mut parts = Vec::new();
    while number != 0 {
        parts.push(part(number & 0x3f)?);
        number >>= 6;
    }
    parts.reverse();
    let fits = !parts.is_empty()
        && length(&parts) == octets
        && Lengths::of(&parts).padded <= Key::CAPACITY;
    fits.then_some(parts)
}

/// The numbers libnftables gives its data types.
const NUMBERS: [(DataType, u32); 6] = [
    (DataType::Ipv4, 7),
    (DataType::Ipv6, 8),
    (DataType::Protocol, 12),
    (DataType::Port, 13),
    (DataType::Number, 19),
    (DataType::InterfaceName, 41),
];

fn part_number(part: DataType) -> u32 {
    let found = NUMBERS.iter().find(|(known, _)| *known == part);
    found.map(|(_, number)| *number).expect("every data type is in the list")
}

fn part(number: u32) -> Option<DataType> {
    NUMBERS.iter().find(|(_, known)| *known == number).map(|(part, _)| *part)
}
