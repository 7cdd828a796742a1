//! Objects written: what Go holds in itself, not behind a pointer, is always there, and fields stand in the order of
//! their numbers, so that the octets are those of the real server.

use super::fields::{self, Field, Fields, Kind};
use super::wire::{put_bytes, put_fixed, put_number};
use super::{Fault, MAGIC, SCHEMA};
use crate::time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// An object or a list from its JSON text. Of a list one item at a time is looked into.
pub fn encode(json: &[u8]) -> Result<Vec<u8>, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        #[serde(borrow, default)]
        api_version: Cow<'a, str>,
        #[serde(borrow)]
        kind: Cow<'a, str>,
    }
    let head: Head<'_> = serde_json::from_slice(json).map_err(|_no_object| Fault::Broken)?;
    let Some(fields) = fields::of_kind(&head.api_version, &head.kind) else {
        let (api_version, kind) = (head.api_version.into_owned(), head.kind.into_owned());
        return Err(Fault::UnknownType { api_version, kind });
    };
    let mut text = serde_json::Deserializer::from_slice(json);
    let raw = Whole(&fields).deserialize(&mut text).map_err(|_no_object| Fault::Broken)?;
    Ok(envelope(&head.api_version, &head.kind, &raw))
}

/// `runtime.Unknown`, with no encoding and no type of its own.
fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// A watch event around an encoded object, with its length before it.
pub(crate) fn frame(action: &str, object: &[u8]) -> Vec<u8> {
    let (mut raw, mut event) = (Vec::new(), Vec::new());
    put_bytes(&mut raw, 1, object);
    put_bytes(&mut event, 1, action.as_bytes());
    put_bytes(&mut event, 2, &raw);
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &event].concat()
}

/// Reads the outermost object of a text, and lists in it item by item.
struct Whole<'a>(&'a Fields);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<u8>, A::Error> {
        let mut written = BTreeMap::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let out = match self.0.iter().find(|(_, field)| field.name == name) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Some((number, Field { kind: Kind::List(kind), .. })) => {
                    (*number, map.next_value_seed(Items { number: *number, kind })?)
                }
                Some((number, field)) => (*number, part(*number, field, &map.next_value()?)),
            };
            written.extend([out]);
        }
        for (number, field) in self.0 {
            written.entry(*number).or_insert_with(|| part(*number, field, &Value::Null));
        }
        Ok(written.into_values().collect::<Vec<_>>().concat())
    }
}

/// Reads the items of a list.
struct Items {
    number: u64,
    kind: &'static str,
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or null")
    }

    fn visit_unit<E>(self) -> Result<Vec<u8>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element::<Value>()? {
            put(&mut out, self.number, self.kind, &item);
        }
        Ok(out)
    }
}

fn part(number: u64, field: &Field, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_field(&mut out, number, field, value);
    out
}

fn message(out: &mut Vec<u8>, fields: &Fields, value: &Value) {
    for (number, field) in fields {
        let inner = if field.name == "-" { value } else { &value[field.name] };
        put_field(out, *number, field, inner);
    }
}

fn put_field(out: &mut Vec<u8>, number: u64, field: &Field, value: &Value) {
    match field.kind {
        Kind::List(kind) => {
            value.as_array().into_iter().flatten().for_each(|item| put(out, number, kind, item));
        }
        Kind::Map(kind) => entries(value).for_each(|(key, value)| {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put(&mut entry, 2, kind, value);
            put_bytes(out, number, &entry);
        }),
        Kind::One { kind, pointer } if value.is_null() && (pointer || kind == "bytes") => {}
        Kind::One { kind, .. } => put(out, number, kind, value),
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// One value, or the zero of its kind where none is there.
fn put(out: &mut Vec<u8>, number: u64, kind: &str, value: &Value) {
    let text = value.as_str().unwrap_or_default();
    match kind {
        "int" => put_number(out, number, value.as_i64().unwrap_or_default().cast_unsigned()),
        "bool" => put_number(out, number, value.as_bool().unwrap_or_default().into()),
        "double" => put_fixed(out, number, value.as_f64().unwrap_or_default().to_bits()),
        "text" => put_bytes(out, number, text.as_bytes()),
        "bytes" => put_bytes(out, number, &STANDARD.decode(text).unwrap_or_default()),
        _ => {
            let mut inner = Vec::new();
            put_within(&mut inner, kind, value);
            put_bytes(out, number, &inner);
        }
    }
}

/// What is in a message of this kind.
fn put_within(out: &mut Vec<u8>, kind: &str, value: &Value) {
    match kind {
        "Time" => put_moment(out, value, |_| 0),
        "MicroTime" => put_moment(out, value, |text| time::nanos(text) / 1000 * 1000),
        "Quantity" => match value {
            Value::Null => put_bytes(out, 1, b"0"),
            Value::String(text) => put_bytes(out, 1, text.as_bytes()),
            number => put_bytes(out, 1, number.to_string().as_bytes()),
        },
        "RawExtension" | "FieldsV1" | "JSON" if value.is_null() => {}
        "RawExtension" | "FieldsV1" | "JSON" => put_bytes(out, 1, value.to_string().as_bytes()),
        "IntOrString" => {
            put_number(out, 1, value.is_string().into());
            put(out, 2, "int", value);
            put(out, 3, "text", value);
        }
        kind if kind.starts_with("JSONSchemaPropsOr") => put_alternative(out, kind, value),
        kind => match kind.strip_prefix('[') {
            Some(item) => {
                let item = item.trim_end_matches(']');
                value.as_array().into_iter().flatten().for_each(|it| put(out, 1, item, it));
            }
            None => fields::of(kind).into_iter().for_each(|fields| message(out, fields, value)),
        },
    }
}

/// Go's zero time is no octets at all.
fn put_moment(out: &mut Vec<u8>, value: &Value, nanos: fn(&str) -> u32) {
    let Some(text) = value.as_str() else { return };
    if let Some(seconds) = time::seconds(text) {
        put_number(out, 1, seconds.cast_unsigned());
        put_number(out, 2, nanos(text).into());
    }
}

/// As the reader of [`super::alternative`] expects it.
fn put_alternative(out: &mut Vec<u8>, kind: &str, value: &Value) {
    match (kind, value) {
        ("JSONSchemaPropsOrBool", Value::Object(_)) => {
            put_number(out, 1, 1);
            put(out, 2, SCHEMA, value);
        }
        ("JSONSchemaPropsOrBool", _) => put(out, 1, "bool", value),
        (_, Value::Object(_)) => put(out, 1, SCHEMA, value),
        (_, Value::Array(items)) => {
            let item = if kind == "JSONSchemaPropsOrStringArray" { "text" } else { SCHEMA };
            items.iter().for_each(|it| put(out, 2, item, it));
        }
        _ => {}
    }
}
