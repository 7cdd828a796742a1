//! Objects written: what Go holds in itself, not behind a pointer, is always there, and fields stand in the order of
//! their numbers, so that the octets are those of the real server.
//!
//! JSON has fields in the order of their names. Each is written at the end of the output when it is met; when a message
//! is complete its fields are put in order behind it, with its length before them, and moved to where it began.

use super::fields::{self, Count, Field, Message, Part, Shape};
use super::text::Text;
use super::wire::{put_bytes, put_fixed, put_number, put_tag, size_of_varint};
use super::{Broken, Fault, MAGIC, SCHEMA};
use crate::time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;

/// An object or a list from its JSON text.
pub fn encode(json: &[u8]) -> Result<Bytes, Fault> {
    let (api_version, kind) = head(json)?;
    let Some(message) = fields::of_kind(&api_version, &kind) else {
        let (api_version, kind) = (api_version.into_owned(), kind.into_owned());
        return Err(Fault::UnknownType { api_version, kind });
    };
    let mut writer = Writer::new(&api_version, &kind);
    writer.message(&mut Text::new(json)?, message, None)?;
    Ok(writer.sealed())
}

/// A list of objects of a kind, item by item.
pub(crate) fn encode_list(
    (api_version, kind): (&str, &str),
    metadata: &[u8],
    items: impl Iterator<Item = impl AsRef<[u8]>>,
) -> Result<Bytes, Fault> {
    let list = format!("{kind}List");
    let Some([first, second]) = fields::of_kind(api_version, &list).map(|it| &it.fields[..]) else {
        let api_version = api_version.to_owned();
        return Err(Fault::UnknownType { api_version, kind: list });
    };
    let mut writer = Writer::new(api_version, &list);
    writer.value(&mut Text::new(metadata)?, first.number, first.shape)?;
    for item in items {
        writer.value(&mut Text::new(item.as_ref())?, second.number, second.shape)?;
    }
    Ok(writer.sealed())
}

/// `apiVersion` and `kind` of an object; what is behind them is not read.
fn head(json: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), Broken> {
    let (mut api_version, mut kind) = (None, None);
    let mut text = Text::new(json)?;
    let read = text.object(|text, name| {
        match name {
            "apiVersion" => api_version = Some(text.string()?),
            "kind" => kind = Some(text.string()?),
            _ => drop(text.value()?),
        }
        let complete = api_version.is_some() && kind.is_some();
        // No fault, but there is no other way to stop.
        if complete { Err(Broken) } else { Ok(()) }
    });
    match (api_version, kind, read) {
        (api_version, Some(kind), _) => Ok((api_version.unwrap_or_default(), kind)),
        _ => Err(Broken),
    }
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

/// An envelope (`runtime.Unknown`, with no encoding and no type of its own) that is being filled.
struct Writer {
    out: Vec<u8>,
    /// What is before the object; its length is known when the object is, so `out` has room for it.
    head: Vec<u8>,
    room: usize,
    /// Where in `out` the slots of the messages lie that are under way, the innermost last.
    spans: Vec<Range<usize>>,
}

impl Writer {
    fn new(api_version: &str, kind: &str) -> Self {
        const LONGEST_TAG_AND_LENGTH: usize = 20;
        let (mut meta, mut head) = (Vec::new(), MAGIC.to_vec());
        put_bytes(&mut meta, 1, api_version.as_bytes());
        put_bytes(&mut meta, 2, kind.as_bytes());
        put_bytes(&mut head, 1, &meta);
        let room = head.len() + LONGEST_TAG_AND_LENGTH;
        Self { out: vec![0; room], head, room, spans: Vec::new() }
    }

    fn sealed(mut self) -> Bytes {
        put_tag(&mut self.head, 2, self.out.len() - self.room);
        let start = self.room - self.head.len();
        self.out[start..self.room].copy_from_slice(&self.head);
        put_bytes(&mut self.out, 3, b"");
        put_bytes(&mut self.out, 4, b"");
        Bytes::from(self.out).slice(start..)
    }

    /// The fields of a message in their order, with number and length before them where it is itself a field.
    fn message(
        &mut self,
        text: &mut Text<'_>,
        message: &Message,
        number: Option<u64>,
    ) -> Result<(), Broken> {
        let (start, base) = (self.out.len(), self.spans.len());
        self.spans.resize(base + message.slots.len(), 0..0);
        let mut next = 0;
        text.object(|text, name| {
            let Some(slot) = message.slot(name, &mut next) else { return text.value().map(drop) };
            let from = self.out.len();
            self.field(text, &message.slots[slot])?;
            self.spans[base + slot] = from..self.out.len();
            Ok(())
        })?;
        let end = self.out.len();
        if let Some(number) = number {
            let length = self.size(message, &message.parts, base);
            put_tag(&mut self.out, number, length);
        }
        self.put_parts(message, &message.parts, base);
        self.out.copy_within(end.., start);
        self.out.truncate(self.out.len() - (end - start));
        self.spans.truncate(base);
        Ok(())
    }

    fn size(&self, message: &Message, parts: &[Part], base: usize) -> usize {
        let of = |part: &Part| match part {
            Part::Slot(slot) => match self.spans[base + slot].len() {
                0 => message.slots[*slot].absent.len(),
                length => length,
            },
            Part::Embedded { number, parts } => {
                let length = self.size(message, parts, base);
                size_of_varint(number << 3) + size_of_varint(length as u64) + length
            }
        };
        parts.iter().map(of).sum()
    }

    fn put_parts(&mut self, message: &Message, parts: &[Part], base: usize) {
        for part in parts {
            match part {
                Part::Slot(slot) => match self.spans[base + slot].clone() {
                    span if span.is_empty() => {
                        self.out.extend_from_slice(&message.slots[*slot].absent);
                    }
                    span => self.out.extend_from_within(span),
                },
                Part::Embedded { number, parts } => {
                    let length = self.size(message, parts, base);
                    put_tag(&mut self.out, *number, length);
                    self.put_parts(message, parts, base);
                }
            }
        }
    }

    fn field(&mut self, text: &mut Text<'_>, field: &Field) -> Result<(), Broken> {
        let Field { number, shape, .. } = *field;
        match (field.count, text.peek()?) {
            (Count::List, b'[') => text.array(|text| self.value(text, number, shape)),
            (Count::Map, b'{') => text.object(|text, key| {
                let start = self.out.len();
                put_bytes(&mut self.out, 1, key.as_bytes());
                self.value(text, 2, shape)?;
                self.wrap(start, number);
                Ok(())
            }),
            (Count::List | Count::Map, _) => text.value().map(drop),
            // Whether that is nothing or a zero is known to the message.
            (Count::One { .. }, b'n') => text.value().map(drop),
            (Count::One { .. }, _) => self.value(text, number, shape),
        }
    }

    /// Makes what was written last, from `start` on, a message.
    fn wrap(&mut self, start: usize, number: u64) {
        let end = self.out.len();
        put_tag(&mut self.out, number, end - start);
        let head = self.out.len() - end;
        self.out[start..].rotate_right(head);
    }

    /// One value, or the zero of its kind where another is there.
    fn value(&mut self, text: &mut Text<'_>, number: u64, shape: Shape) -> Result<(), Broken> {
        let first = text.peek()?;
        match (shape, first) {
            (Shape::Int, b'-' | b'0'..=b'9') => {
                let value: i64 = text.value()?.parse().unwrap_or_default();
                put_number(&mut self.out, number, value.cast_unsigned());
            }
            (Shape::Flag, b't' | b'f') => {
                put_number(&mut self.out, number, (text.value()? == "true").into());
            }
            (Shape::Double, b'-' | b'0'..=b'9') => {
                let value: f64 = text.value()?.parse().unwrap_or_default();
                put_fixed(&mut self.out, number, value.to_bits());
            }
            (Shape::Text, b'"') => put_bytes(&mut self.out, number, text.string()?.as_bytes()),
            (Shape::Bytes, b'"') => {
                let bytes = STANDARD.decode(&*text.string()?).unwrap_or_default();
                put_bytes(&mut self.out, number, &bytes);
            }
            (Shape::Message(id), b'{') => self.message(text, fields::at(id), Some(number))?,
            (_, b'n') => {
                text.value()?;
                fields::put_zero(&mut self.out, number, shape);
            }
            _ => self.own(text, number, shape)?,
        }
        Ok(())
    }

    /// A value of a type that writes itself.
    fn own(&mut self, text: &mut Text<'_>, number: u64, shape: Shape) -> Result<(), Broken> {
        let (start, first) = (self.out.len(), text.peek()?);
        match (shape, first) {
            (Shape::Time, b'"') => self.moment(&text.string()?, |_| 0),
            (Shape::MicroTime, b'"') => {
                self.moment(&text.string()?, |text| time::nanos(text) / 1000 * 1000);
            }
            (Shape::Quantity, b'"') => put_bytes(&mut self.out, 1, text.string()?.as_bytes()),
            (Shape::Quantity, _) => put_bytes(&mut self.out, 1, text.value()?.as_bytes()),
            (Shape::Raw, _) => self.raw(text.value()?),
            (Shape::IntOrString, b'"') => {
                self.out.extend_from_slice(b"\x08\x01\x10\0");
                self.value(text, 3, Shape::Text)?;
            }
            (Shape::IntOrString, b'-' | b'0'..=b'9') => {
                self.out.extend_from_slice(b"\x08\0");
                self.value(text, 2, Shape::Int)?;
                put_bytes(&mut self.out, 3, b"");
            }
            (Shape::Texts, b'[') => text.array(|text| self.value(text, 1, Shape::Text))?,
            (Shape::SchemaOrFlag | Shape::SchemaOrArray | Shape::SchemaOrTexts, _) => {
                self.alternative(text, shape)?;
            }
            _ => {
                text.value()?;
                fields::put_zero(&mut self.out, number, shape);
                return Ok(());
            }
        }
        self.wrap(start, number);
        Ok(())
    }

    /// Go's zero time is no octets at all.
    fn moment(&mut self, text: &str, nanos: fn(&str) -> u32) {
        if let Some(seconds) = time::seconds(text) {
            put_number(&mut self.out, 1, seconds.cast_unsigned());
            put_number(&mut self.out, 2, nanos(text).into());
        }
    }

    /// JSON as it stands, but for escapes that this server would not write.
    fn raw(&mut self, json: &str) {
        if is_as_written(json) {
            return put_bytes(&mut self.out, 1, json.as_bytes());
        }
        let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        put_bytes(&mut self.out, 1, value.to_string().as_bytes());
    }

    /// As the reader of [`super::alternative`] expects it.
    fn alternative(&mut self, text: &mut Text<'_>, shape: Shape) -> Result<(), Broken> {
        let schema = fields::shape_of(SCHEMA).ok_or(Broken)?;
        match (shape, text.peek()?) {
            (Shape::SchemaOrFlag, b'{') => {
                put_number(&mut self.out, 1, 1);
                self.value(text, 2, schema)
            }
            (Shape::SchemaOrFlag, _) => self.value(text, 1, Shape::Flag),
            (_, b'{') => self.value(text, 1, schema),
            (_, b'[') => {
                let item = if shape == Shape::SchemaOrTexts { Shape::Text } else { schema };
                text.array(|text| self.value(text, 2, item))
            }
            _ => text.value().map(drop),
        }
    }
}

/// Whether all escapes are the shortest that there are for their letters.
fn is_as_written(json: &str) -> bool {
    let mut escapes = json.as_bytes();
    while let Some(at) = escapes.iter().position(|octet| *octet == b'\\') {
        match escapes.get(at + 1..).and_then(<[u8]>::split_first) {
            Some((b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', rest)) => escapes = rest,
            _ => return false,
        }
    }
    true
}
