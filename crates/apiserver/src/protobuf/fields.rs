//! The types' descriptions: numbers and kinds of their fields (`cargo xtask protobuf-fields`), ready for reading and
//! writing.

use super::wire::{put_bytes, put_fixed, put_number};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const TABLE: &str = include_str!("fields.txt");

/// What one value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Int,
    Flag,
    Double,
    Text,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON in octets: `RawExtension`, `FieldsV1`, `JSON`.
    Raw,
    /// `JSONSchemaPropsOrBool {1: bool, 2: schema}`
    SchemaOrFlag,
    /// `JSONSchemaPropsOrArray {1: schema, 2: schemas}`
    SchemaOrArray,
    /// `JSONSchemaPropsOrStringArray {1: schema, 2: texts}`
    SchemaOrTexts,
    /// Texts that are a message of their own.
    Texts,
    Message(Id),
}

/// How many values a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// `pointer`: zero is not the same as nothing.
    One {
        pointer: bool,
    },
    List,
    /// By text.
    Map,
}

/// Place of a [`Message`] in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(usize);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    /// In JSON; `-`: the fields within are the outer message's own.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) count: Count,
    /// What is written where JSON has nothing.
    pub(super) absent: Box<[u8]>,
}

/// A type of objects.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// In the order of their numbers.
    pub(super) fields: Vec<Field>,
    /// The fields that JSON knows, those of embedded messages too, in the order in which they are written.
    pub(super) slots: Vec<Field>,
    /// How slots are put together.
    pub(super) parts: Vec<Part>,
    /// Names of the slots in the order of JSON text.
    names: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
pub(super) enum Part {
    Slot(usize),
    Embedded { number: u64, parts: Vec<Part> },
}

impl Message {
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        let place = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        self.fields.get(place)
    }

    /// The slot of a name. Names come in their order, so each is looked for from behind the last.
    pub(super) fn slot(&self, name: &str, next: &mut usize) -> Option<usize> {
        let (before, behind) = self.names.split_at_checked(*next)?;
        let found = behind.iter().chain(before).position(|(known, _)| *known == name)?;
        let place = (*next + found) % self.names.len();
        *next = place + 1;
        self.names.get(place).map(|(_, slot)| *slot)
    }

    /// Takes in slots for fields, and for those of messages among them.
    fn lay_out(&mut self, all: &Table, fields: &[Field]) -> Vec<Part> {
        let mut parts = Vec::new();
        for field in fields {
            parts.push(match field.shape {
                Shape::Message(id) if field.name == "-" => {
                    let inner = all.messages.get(id.0).map_or(&[][..], |it| &it.fields);
                    Part::Embedded { number: field.number, parts: self.lay_out(all, inner) }
                }
                _ => {
                    self.names.push((field.name, self.slots.len()));
                    let absent = absent(all, field).into();
                    self.slots.push(Field { absent, ..field.clone() });
                    Part::Slot(self.slots.len() - 1)
                }
            });
        }
        parts
    }
}

#[derive(Debug, Default)]
struct Table {
    ids: BTreeMap<String, Id>,
    messages: Vec<Message>,
}

static TYPES: LazyLock<Table> = LazyLock::new(|| {
    let mut all = read();
    all.messages = all.messages.iter().map(|message| compiled(&all, message)).collect();
    all
});

/// What is known of every message by its place.
pub(super) fn at(id: Id) -> &'static Message {
    &TYPES.messages[id.0]
}

pub(super) fn of(name: &str) -> Option<&'static Message> {
    TYPES.ids.get(name).map(|id| at(*id))
}

pub(super) fn shape_of(name: &str) -> Option<Shape> {
    TYPES.ids.get(name).map(|id| Shape::Message(*id))
}

/// A kind's objects, or a list of them; what any group may use is `meta`'s.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    // Groups of others may begin with the same word.
    let group =
        group.strip_suffix(".k8s.io").map_or(group, |it| it.split('.').next().unwrap_or(it));
    of(&format!("{group}.{version}.{kind}")).or_else(|| of(&format!("meta.v1.{kind}")))
}

/// Writes what stands for no value of this shape.
pub(super) fn put_zero(out: &mut Vec<u8>, number: u64, shape: Shape) {
    put_zero_of(&TYPES, out, number, shape);
}

fn put_zero_of(all: &Table, out: &mut Vec<u8>, number: u64, shape: Shape) {
    match shape {
        Shape::Int | Shape::Flag => put_number(out, number, 0),
        Shape::Double => put_fixed(out, number, 0),
        Shape::Quantity => put_bytes(out, number, b"\x0a\x010"),
        Shape::IntOrString => put_bytes(out, number, b"\x08\0\x10\0\x1a\0"),
        Shape::SchemaOrFlag => put_bytes(out, number, b"\x08\0"),
        Shape::Message(id) => {
            let fields = all.messages.get(id.0).into_iter().flat_map(|it| &it.fields);
            put_bytes(out, number, &fields.flat_map(|it| absent(all, it)).collect::<Vec<_>>());
        }
        _ => put_bytes(out, number, b""),
    }
}

fn absent(all: &Table, field: &Field) -> Vec<u8> {
    let mut out = Vec::new();
    let is_nothing = field.shape == Shape::Bytes || field.count != Count::One { pointer: false };
    if !is_nothing {
        put_zero_of(all, &mut out, field.number, field.shape);
    }
    out
}

fn compiled(all: &Table, message: &Message) -> Message {
    let mut compiled = Message { fields: message.fields.clone(), ..Message::default() };
    compiled.parts = compiled.lay_out(all, &message.fields);
    compiled.names.sort_unstable();
    compiled
}

fn read() -> Table {
    let types = || TABLE.lines().filter(|line| !line.starts_with(' '));
    let ids = types().enumerate().map(|(place, name)| (name.to_owned(), Id(place)));
    let mut all = Table { ids: ids.collect(), messages: Vec::new() };
    for line in TABLE.lines() {
        match line.strip_prefix(' ') {
            None => all.messages.push(Message::default()),
            Some(line) => {
                let field = field(&all.ids, line);
                all.messages.last_mut().into_iter().for_each(|it| it.fields.extend(field.clone()));
            }
        }
    }
    all.messages.iter_mut().for_each(|it| it.fields.sort_by_key(|field| field.number));
    for name in types() {
        if has_metadata(&all, name) {
            add_list(&mut all, name);
        }
    }
    all
}

/// Name, number and kind; `[]` before the kind: several of them, `{}`: several by text, `*`: behind a pointer.
fn field(ids: &BTreeMap<String, Id>, line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let (name, number, kind) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let list = kind.strip_prefix("[]").map(|kind| (Count::List, kind));
    let map = || kind.strip_prefix("{}").map(|kind| (Count::Map, kind));
    let pointer = || kind.strip_prefix('*').map(|kind| (Count::One { pointer: true }, kind));
    let one = (Count::One { pointer: false }, kind);
    let (count, kind) = list.or_else(map).or_else(pointer).unwrap_or(one);
    Some(Field { number, name, shape: shape(ids, kind)?, count, absent: Box::default() })
}

fn shape(ids: &BTreeMap<String, Id>, kind: &str) -> Option<Shape> {
    Some(match kind {
        "int" => Shape::Int,
        "bool" => Shape::Flag,
        "double" => Shape::Double,
        "text" => Shape::Text,
        "bytes" => Shape::Bytes,
        "Time" => Shape::Time,
        "MicroTime" => Shape::MicroTime,
        "Quantity" => Shape::Quantity,
        "IntOrString" => Shape::IntOrString,
        "RawExtension" | "FieldsV1" | "JSON" => Shape::Raw,
        "JSONSchemaPropsOrBool" => Shape::SchemaOrFlag,
        "JSONSchemaPropsOrArray" => Shape::SchemaOrArray,
        "JSONSchemaPropsOrStringArray" => Shape::SchemaOrTexts,
        "[text]" => Shape::Texts,
        name => Shape::Message(*ids.get(name)?),
    })
}

/// Whether it is a type of whole objects.
fn has_metadata(all: &Table, name: &str) -> bool {
    let message = all.ids.get(name).and_then(|id| all.messages.get(id.0));
    let metadata = all.ids.get("meta.v1.ObjectMeta").map(|id| Shape::Message(*id));
    let first = message.and_then(|it| it.fields.first());
    first.is_some_and(|it| it.name == "metadata" && Some(it.shape) == metadata)
}

fn add_list(all: &mut Table, item: &str) {
    let of = |name: &str| all.ids.get(name).map(|id| Shape::Message(*id));
    let (Some(metadata), Some(item_shape)) = (of("meta.v1.ListMeta"), of(item)) else { return };
    let field =
        |number, name, shape, count| Field { number, name, shape, count, absent: Box::default() };
    let fields = vec![
        field(1, "metadata", metadata, Count::One { pointer: false }),
        field(2, "items", item_shape, Count::List),
    ];
    all.ids.insert(format!("{item}List"), Id(all.messages.len()));
    all.messages.push(Message { fields, ..Message::default() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_field_of_a_type_that_is_there() {
        let all = read();
        assert!(all.messages.len() > 300);
        for line in TABLE.lines().filter_map(|line| line.strip_prefix(' ')) {
            assert!(field(&all.ids, line).is_some(), "{line}");
        }
    }

    #[test]
    fn names_are_found_in_any_order() {
        let container = of("core.v1.Container").expect("a type");
        let mut next = 0;
        for name in ["args", "image", "name", "name", "command", "volumeMounts", "args"] {
            let slot = container.slot(name, &mut next).map(|slot| container.slots[slot].name);
            assert_eq!(slot, Some(name));
            assert_eq!(container.slot("zebra", &mut next), None);
        }
    }
}
