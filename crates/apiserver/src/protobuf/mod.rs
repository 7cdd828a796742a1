//! Kubernetes' protobuf: how built-in kinds look in `application/vnd.kubernetes.protobuf`.
//!
//! *Here*: objects read ([`decode`]) and written ([`encode`]), octets (`wire`), and the types' descriptions, which both
//! directions share (`fields`); the API's description (`openapi`). *Not here*: custom kinds, which have no protobuf.

mod encode;
mod fields;
pub(crate) mod openapi;
mod text;
mod wire;

pub use encode::encode;
pub(crate) use encode::{encode_list, frame};

use crate::base64;
use fields::{Count, Field, Message, Shape};
use serde_json::{Map, Value, json};
use wire::{Payload, Reader};

/// Messages within messages.
const DEPTH: usize = 48;
const MAGIC: &[u8] = b"k8s\0";
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

/// Why bytes are no object, in the words of the real server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    #[error("empty body")]
    Empty,
    #[error("unexpected EOF")]
    Broken,
    /// The envelope can be read, what is in it cannot.
    #[error("unexpected EOF")]
    Unreadable { api_version: String, kind: String },
    #[error(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\""
    )]
    UnknownType { api_version: String, kind: String },
}

/// What is no object at all, while it is read: small, since every value is told whether it was good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Broken;

impl From<Broken> for Fault {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

/// Whether objects of this kind have a form in protobuf.
pub(crate) fn knows(api_version: &str, kind: &str) -> bool {
    fields::of_kind(api_version, kind).is_some()
}

/// The object in an envelope (`runtime.Unknown`), as JSON.
pub fn decode(bytes: &[u8]) -> Result<Value, Fault> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Fault::Magic)?;
    if body.is_empty() {
        return Err(Fault::Empty);
    }
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut envelope = Reader::new(body);
    while let Some((number, payload)) = envelope.next()? {
        match (number, payload) {
            (1, Payload::Bytes(meta)) => {
                let mut meta = Reader::new(meta);
                while let Some((number, payload)) = meta.next()? {
                    match (number, payload) {
                        (1, Payload::Bytes(text)) => api_version = utf8(text)?,
                        (2, Payload::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(fields) = fields::of_kind(&api_version, &kind) else {
        return Err(Fault::UnknownType { api_version, kind });
    };
    let mut object = message(fields, raw, 0).map_err(|_broken| Fault::Unreadable {
        api_version: api_version.clone(),
        kind: kind.clone(),
    })?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

fn message(message: &Message, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Fault> {
    if depth > DEPTH {
        return Err(Fault::Broken);
    }
    let (mut reader, mut object) = (Reader::new(bytes), Map::new());
    while let Some((number, payload)) = reader.next()? {
        let Some(field) = message.field(number) else { continue };
        put(&mut object, field, &payload, depth)?;
    }
    Ok(object)
}

fn put(
    object: &mut Map<String, Value>,
    field: &Field,
    payload: &Payload<'_>,
    depth: usize,
) -> Result<(), Fault> {
    match field.count {
        Count::List => {
            let values = list(field.shape, payload, depth)?;
            if let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) {
                list.extend(values);
            }
        }
        Count::Map => {
            let (key, value) = entry(field.shape, payload, depth)?;
            if let Value::Object(map) = object.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        }
        Count::One { pointer } => match one(field.shape, payload, depth)? {
            Value::Object(inner) if field.name == "-" => object.extend(inner),
            // Go writes plain fields even where they hold nothing.
            value if value.is_null() || !pointer && is_zero(&value) => {}
            value => drop(object.insert(field.name.to_owned(), value)),
        },
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(flag) => !flag,
        _ => false,
    }
}

/// One value, or several packed into one payload.
fn list(shape: Shape, payload: &Payload<'_>, depth: usize) -> Result<Vec<Value>, Fault> {
    match (shape, payload) {
        (Shape::Int, Payload::Bytes(packed)) => {
            Reader::new(packed).varints().map(|all| all.into_iter().map(signed).collect())
        }
        _ => Ok(vec![one(shape, payload, depth)?]),
    }
}

fn entry(shape: Shape, payload: &Payload<'_>, depth: usize) -> Result<(String, Value), Fault> {
    let (mut key, mut value) = (String::new(), Value::Null);
    let mut reader = Reader::new(payload.bytes()?);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => key = utf8(payload.bytes()?)?,
            2 => value = one(shape, &payload, depth)?,
            _ => {}
        }
    }
    if value.is_null() && matches!(shape, Shape::Text | Shape::Bytes) {
        value = "".into();
    }
    Ok((key, value))
}

fn one(shape: Shape, payload: &Payload<'_>, depth: usize) -> Result<Value, Fault> {
    Ok(match shape {
        Shape::Int => signed(payload.number()?),
        Shape::Flag => (payload.number()? != 0).into(),
        Shape::Double => f64::from_bits(payload.number()?).into(),
        Shape::Text => utf8(payload.bytes()?)?.into(),
        Shape::Bytes => base64::encode(payload.bytes()?).into(),
        Shape::Time => moment(payload.bytes()?, false)?,
        Shape::MicroTime => moment(payload.bytes()?, true)?,
        Shape::Quantity => first_bytes(payload.bytes()?)?
            .map_or(Ok(Value::Null), |text| utf8(text).map(Value::from))?,
        Shape::Raw => match first_bytes(payload.bytes()?)? {
            Some(text) if !text.is_empty() => {
                serde_json::from_slice(text).map_err(|_no_json| Fault::Broken)?
            }
            _ => Value::Null,
        },
        Shape::IntOrString => number_or_text(payload.bytes()?)?,
        Shape::SchemaOrFlag | Shape::SchemaOrArray | Shape::SchemaOrTexts => {
            alternative(shape, payload.bytes()?, depth)?
        }
        Shape::Texts => texts(payload.bytes()?)?,
        Shape::Message(id) => message(fields::at(id), payload.bytes()?, depth + 1)?.into(),
    })
}

/// A list that is a message of its own.
fn texts(bytes: &[u8]) -> Result<Value, Fault> {
    let (mut reader, mut texts) = (Reader::new(bytes), Vec::new());
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            texts.push(utf8(payload.bytes()?)?.into());
        }
    }
    Ok(Value::Array(texts))
}

fn signed(number: u64) -> Value {
    number.cast_signed().into()
}

/// `Time`: seconds and nanoseconds; nothing at all is no time.
fn moment(bytes: &[u8], fraction: bool) -> Result<Value, Fault> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => seconds = payload.number()?.cast_signed(),
            2 => nanos = payload.number()?.cast_signed(),
            _ => {}
        }
    }
    // Go's zero time is year 1, and further away than years have four digits is no time either.
    const LAST: i64 = 253_402_300_799;
    if bytes.is_empty() || !(-62_135_596_799..=LAST).contains(&seconds) {
        return Ok(Value::Null);
    }
    let text = crate::time::rfc3339(seconds);
    Ok(if fraction {
        text.replace('Z', &format!(".{:06}Z", nanos / 1000 % 1_000_000)).into()
    } else {
        text.into()
    })
}

/// The payload of field 1, as types that write themselves have it.
fn first_bytes(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let (mut reader, mut found) = (Reader::new(bytes), None);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            found = Some(payload.bytes()?);
        }
    }
    Ok(found)
}

fn number_or_text(bytes: &[u8]) -> Result<Value, Fault> {
    let (mut is_text, mut number, mut text) = (false, Value::from(0), String::new());
    let mut reader = Reader::new(bytes);
    while let Some((at, payload)) = reader.next()? {
        match at {
            1 => is_text = payload.number()? != 0,
            2 => number = signed(payload.number()?),
            3 => text = utf8(payload.bytes()?)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number })
}

fn alternative(shape: Shape, bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let schema =
        |payload: &Payload<'_>| one(fields::shape_of(SCHEMA).ok_or(Fault::Broken)?, payload, depth);
    let (mut flag, mut whole, mut list) = (false, None, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match (shape, number) {
            (Shape::SchemaOrFlag, 1) => flag = payload.number()? != 0,
            (Shape::SchemaOrFlag, 2) | (_, 1) => whole = Some(schema(&payload)?),
            (Shape::SchemaOrTexts, 2) => list.push(utf8(payload.bytes()?)?.into()),
            (_, 2) => list.push(schema(&payload)?),
            _ => {}
        }
    }
    let otherwise = if shape == Shape::SchemaOrFlag { flag.into() } else { Value::Array(list) };
    Ok(whole.unwrap_or(otherwise))
}

fn utf8(bytes: &[u8]) -> Result<String, Fault> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_no_text| Fault::Broken)
}

#[cfg(test)]
mod tests;
