//! Random rule tables that the kernel can hold.

use netstate::nft::{
    AddressSide, Chain, ChainKind, DataType, Element, ElementValue, Family, Field, Hook, HookPoint,
    Key, Rule, Set, SetData, Statement, Table, TableId, Verdict,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The chain that random verdicts lead to.
const TARGET: &str = "target";

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ip), Just(Family::Ip6)]
}

/// Any text that fits, NUL excepted.
fn comment() -> impl Strategy<Value = String> {
    let short =
        vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..50).prop_map(String::from_iter);
    prop_oneof![3 => short, 1 => Just("x".repeat(251))]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        Just(Verdict::Jump(TARGET.into())),
        Just(Verdict::Goto(TARGET.into())),
    ]
}

/// A field that may be part of a key, and the type of its part.
fn key_field(family: Family) -> impl Strategy<Value = (Field, DataType)> {
    let address = address(family);
    prop_oneof![
        Just((Field::SourceAddress, address)),
        Just((Field::DestinationAddress, address)),
        Just((Field::Protocol, DataType::Protocol)),
        Just((Field::SourcePort, DataType::Port)),
        Just((Field::DestinationPort, DataType::Port)),
        Just((Field::Mark, DataType::Number)),
        Just((Field::Priority, DataType::Number)),
        Just((Field::ConntrackOriginalDestination, address)),
        Just((Field::ConntrackOriginalPort, DataType::Port)),
        Just((Field::ConntrackStatus, DataType::Number)),
        Just((Field::ConntrackState, DataType::Number)),
        Just((Field::DestinationAddressType, DataType::Number)),
        Just((Field::InputInterface, DataType::InterfaceName)),
        Just((Field::SourceAddressType, DataType::Number)),
        numbers().prop_map(|(modulus, offset)| {
            (Field::Random { modulus, offset }, DataType::Number)
        }),
        (side(), numbers(), any::<u32>()).prop_map(|(of, (modulus, offset), seed)| {
            // A modulus of 1 is refused, and a seed of 0 stands for any.
            let (modulus, seed) = (modulus + 1, seed | 1);
            (Field::AddressHash { of, modulus, seed, offset }, DataType::Number)
        }),
        (side(), vec(any::<u8>(), address.width()))
            .prop_map(move |(of, mask)| (Field::Masked { of, mask }, address)),
        any::<[u8; 4]>().prop_map(|value| (Field::Constant(value.to_vec()), DataType::Number)),
    ]
}

fn side() -> impl Strategy<Value = AddressSide> {
    prop_oneof![Just(AddressSide::Source), Just(AddressSide::Destination)]
}

/// A modulus and an offset whose sum is a number too.
fn numbers() -> impl Strategy<Value = (u32, u32)> {
    (1..u32::MAX / 2, 0..u32::MAX / 2)
}

fn address(family: Family) -> DataType {
    match family {
        Family::Ip => DataType::Ipv4,
        Family::Ip6 => DataType::Ipv6,
    }
}

/// A key of at most five parts (more have no number) that fits.
fn key_fields(family: Family) -> impl Strategy<Value = Vec<(Field, DataType)>> {
    vec(key_field(family), 1..=5).prop_map(|mut parts| {
        let mut room = Key::CAPACITY;
        parts.retain(|(_, part)| {
            let fits = part.padded_width() <= room;
            room -= if fits { part.padded_width() } else { 0 };
            fits
        });
        parts
    })
}

fn matching(family: Family) -> impl Strategy<Value = Statement> {
    let constant =
        vec(any::<u8>(), 1..=16).prop_map(|value| (Field::Constant(value.clone()), value.len()));
    let field = prop_oneof![
        9 => key_field(family).prop_map(|(field, part)| (unmasked(field), part.width())),
        1 => constant,
    ];
    field.prop_flat_map(|(field, width)| {
        let octets = || vec(any::<u8>(), width);
        (Just(field), proptest::option::of(octets()), any::<bool>(), octets()).prop_map(
            |(field, mask, negate, value)| Statement::Match { field, mask, negate, value },
        )
    })
}

/// A comparison has a mask of its own.
fn unmasked(field: Field) -> Field {
    match field {
        Field::Masked { of, .. } => of.field(),
        other => other,
    }
}

/// A statement, and the set it needs under a name to be given.
fn statement(family: Family) -> impl Strategy<Value = (Statement, Option<Set>)> {
    let alone = prop_oneof![
        4 => matching(family),
        1 => Just(Statement::Counter),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(and, xor)| Statement::SetMark { and, xor }),
        1 => any::<u32>().prop_map(Statement::SetPriority),
        1 => Just(Statement::Masquerade),
        1 => Just(Statement::Notrack),
        1 => verdict().prop_map(Statement::Verdict),
    ];
    let data = SetData::Values(vec![address(family), DataType::Port]);
    let in_set =
        (with_set(family, SetData::None), any::<bool>()).prop_map(|((key, set), negate)| {
            (Statement::InSet { key, set: String::new(), negate }, Some(set))
        });
    let number = || SetData::Values(vec![DataType::Number]);
    let remembered =
        (with_set(family, number()), 1..1_000_000_u32).prop_map(|((key, set), seconds)| {
            let dynamic = Some(1000);
            let set =
                Set { dynamic, interval: false, counters: false, elements: BTreeMap::new(), ..set };
            let (value, map) = (vec![Field::Mark], String::new());
            (Statement::Remember { key, value, map, seconds }, Some(set))
        });
    let prioritised = with_set(family, number())
        .prop_map(|(key, set)| (Statement::SetPriorityMap { key, map: String::new() }, Some(set)));
    prop_oneof![
        1 => remembered,
        1 => prioritised,
        3 => alone.prop_map(|statement| (statement, None)),
        1 => in_set,
        1 => with_set(family, SetData::Verdict)
            .prop_map(|(key, set)| (Statement::VerdictMap { key, map: String::new() }, Some(set))),
        1 => with_set(family, data)
            .prop_map(|(key, set)| (Statement::DnatMap { key, map: String::new() }, Some(set))),
    ]
}

fn with_set(family: Family, data: SetData) -> impl Strategy<Value = (Vec<Field>, Set)> {
    key_fields(family).prop_flat_map(move |parts| {
        let (fields, types): (Vec<Field>, Vec<DataType>) = parts.into_iter().unzip();
        (Just(fields), set(types, data.clone()))
    })
}

fn set(key: Vec<DataType>, data: SetData) -> impl Strategy<Value = Set> {
    let interval = (0..10, Just(key.len())).prop_map(|(dice, parts)| dice < 3 && parts == 1);
    (interval, any::<bool>()).prop_flat_map(move |(interval, counters)| {
        let (key, data) = (key.clone(), data.clone());
        let elements = match interval {
            true => ranges(&key, &data).boxed(),
            false => btree_map(octets(&key), element(&data), 0..20).boxed(),
        };
        elements.prop_map(move |elements| Set {
            key: key.clone(),
            data: data.clone(),
            // Ranges with counters take a newer kernel than the oldest that Podway runs on.
            counters: counters && !interval,
            interval,
            dynamic: None,
            elements,
        })
    })
}

fn octets(parts: &[DataType]) -> impl Strategy<Value = Key> + use<> {
    let parts: Vec<_> = parts.iter().map(|part| vec(any::<u8>(), part.width())).collect();
    parts.prop_map(|parts| parts.iter().fold(Key::new(), |key, part| key.part(part)))
}

/// Ranges that do not overlap: every second boundary begins one, the last may be open.
fn ranges(
    key: &[DataType],
    data: &SetData,
) -> impl Strategy<Value = BTreeMap<Key, Element>> + use<> {
    (btree_set(octets(key), 0..16), vec(element(data), 8)).prop_map(|(boundaries, elements)| {
        let boundaries: Vec<Key> = boundaries.into_iter().collect();
        let ranges = boundaries.chunks(2).map(|range| (range[0], range.get(1).copied()));
        ranges
            .zip(elements)
            .map(|((first, until), element)| (first, Element { until, ..element }))
            .collect()
    })
}

fn element(data: &SetData) -> impl Strategy<Value = Element> + use<> {
    let value = match data {
        SetData::None => Just(ElementValue::None).boxed(),
        SetData::Verdict => verdict().prop_map(ElementValue::Verdict).boxed(),
        SetData::Values(parts) => octets(parts).prop_map(ElementValue::Data).boxed(),
    };
    (value, comment()).prop_map(|(value, comment)| Element {
        until: None,
        value,
        comment: comment.into(),
    })
}

type Draft = (Vec<(Statement, Option<Set>)>, bool, String);

/// Statements with their sets, whether the rule ends in a rejection, and its comment.
fn rule(family: Family) -> impl Strategy<Value = Draft> {
    (vec(statement(family), 0..5), prop::bool::weighted(0.2), comment())
}

/// A table with a base chain and a plain one, and the sets that their rules look into.
pub(crate) fn table() -> impl Strategy<Value = Table> {
    family().prop_flat_map(|family| {
        (vec(rule(family), 0..5), any::<i16>()).prop_map(move |(drafts, priority)| {
            let hook = Hook {
                kind: ChainKind::Filter,
                point: HookPoint::Forward,
                priority: priority.into(),
            };
            let mut sets = BTreeMap::new();
            let rules = drafts.into_iter().map(|draft| settle(draft, &mut sets)).collect();
            let chains = [
                ("base", Chain { hook: Some(hook), rules: Vec::new() }),
                ("plain", Chain { hook: None, rules }),
                (TARGET, Chain::default()),
            ];
            let chains = chains.map(|(name, chain)| (name.to_owned(), chain)).into();
            Table { id: TableId { family, name: "random".into() }, sets, chains }
        })
    })
}

/// Gives the sets of a rule their names.
fn settle((statements, rejects, comment): Draft, sets: &mut BTreeMap<String, Set>) -> Rule {
    let mut statements: Vec<Statement> = statements
        .into_iter()
        .map(|(mut statement, needed)| {
            let fresh = format!("set{}", sets.len());
            match &mut statement {
                Statement::InSet { set: name, .. }
                | Statement::Remember { map: name, .. }
                | Statement::SetPriorityMap { map: name, .. }
                | Statement::VerdictMap { map: name, .. }
                | Statement::DnatMap { map: name, .. } => *name = fresh.clone(),
                _ => {}
            }
            sets.extend(needed.map(|set| (fresh, set)));
            statement
        })
        .collect();
    if rejects {
        statements.push(Statement::Reject);
    }
    Rule { statements, comment }
}
