//! Version 2 of OpenAPI in protobuf: `openapi.v2.Document` of
//! <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>, as far as this server's documents go.

use super::wire::{put_bytes, put_fixed, put_number};
use crate::yaml;
use serde_json::Value;

/// What a JSON object is written as.
pub(crate) struct Message {
    fields: &'static [Field],
    /// The number of what begins with `x-`.
    extensions: u64,
}

struct Field {
    name: &'static str,
    /// The messages around all values together, outermost first.
    once: &'static [u64],
    /// Those around each one, down to its own number.
    each: &'static [u64],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Double,
    Flag,
    /// `Any`: whatever it is, as YAML.
    Yaml,
    Message(&'static Message),
    /// Values by name, and the numbers around each value.
    Named(&'static [u64], &'static Message),
}

impl Message {
    pub(crate) fn knows(&self, name: &str) -> bool {
        name.starts_with("x-") || self.fields.iter().any(|field| field.name == name)
    }
}

const fn one(name: &'static str, each: &'static [u64], kind: Kind) -> Field {
    many(name, &[], each, kind)
}

const fn many(name: &'static str, once: &'static [u64], each: &'static [u64], kind: Kind) -> Field {
    Field { name, once, each, kind }
}

static DOCUMENT: Message = Message {
    fields: &[
        one("swagger", &[1], Kind::Text),
        one("info", &[2], Kind::Message(&INFO)),
        many("paths", &[8], &[2], Kind::Named(&[2], &PATH)),
        many("definitions", &[9], &[1], Kind::Named(&[2], &SCHEMA)),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[one("title", &[1], Kind::Text), one("version", &[2], Kind::Text)],
    extensions: 7,
};

static PATH: Message = Message {
    fields: &[
        one("get", &[2], Kind::Message(&OPERATION)),
        one("put", &[3], Kind::Message(&OPERATION)),
        one("post", &[4], Kind::Message(&OPERATION)),
        one("delete", &[5], Kind::Message(&OPERATION)),
        one("patch", &[8], Kind::Message(&OPERATION)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        one("operationId", &[5], Kind::Text),
        // ParametersItem, Parameter, NonBodyParameter
        one("parameters", &[8, 1, 2, 3], Kind::Message(&PARAMETER)),
        many("responses", &[9], &[1], Kind::Named(&[2, 1], &RESPONSE)),
    ],
    extensions: 13,
};

/// In the query of an address.
static PARAMETER: Message = Message {
    fields: &[
        one("in", &[2], Kind::Text),
        one("name", &[4], Kind::Text),
        one("type", &[6], Kind::Text),
        one("uniqueItems", &[20], Kind::Flag),
    ],
    extensions: 23,
};

static RESPONSE: Message = Message {
    fields: &[one("description", &[1], Kind::Text), one("schema", &[2, 1], Kind::Message(&SCHEMA))],
    extensions: 5,
};

/// The real server tells no defaults in this version.
pub(crate) static SCHEMA: Message = Message {
    fields: &[
        one("$ref", &[1], Kind::Text),
        one("format", &[2], Kind::Text),
        one("title", &[3], Kind::Text),
        one("description", &[4], Kind::Text),
        one("multipleOf", &[6], Kind::Double),
        one("maximum", &[7], Kind::Double),
        one("exclusiveMaximum", &[8], Kind::Flag),
        one("minimum", &[9], Kind::Double),
        one("exclusiveMinimum", &[10], Kind::Flag),
        one("maxLength", &[11], Kind::Whole),
        one("minLength", &[12], Kind::Whole),
        one("pattern", &[13], Kind::Text),
        one("maxItems", &[14], Kind::Whole),
        one("minItems", &[15], Kind::Whole),
        one("uniqueItems", &[16], Kind::Flag),
        one("maxProperties", &[17], Kind::Whole),
        one("minProperties", &[18], Kind::Whole),
        one("required", &[19], Kind::Text),
        one("enum", &[20], Kind::Yaml),
        many("additionalProperties", &[21], &[1], Kind::Message(&SCHEMA)),
        many("additionalProperties", &[21], &[2], Kind::Flag),
        many("type", &[22], &[1], Kind::Text),
        many("items", &[23], &[1], Kind::Message(&SCHEMA)),
        many("properties", &[25], &[1], Kind::Named(&[2], &SCHEMA)),
    ],
    extensions: 31,
};

/// A document from what it is in JSON.
pub(crate) fn document(json: &Value) -> Vec<u8> {
    octets(&DOCUMENT, json)
}

fn octets(message: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for field in message.fields {
        let mut all = Vec::new();
        put_all(&mut all, field, &value[field.name]);
        if !all.is_empty() {
            put_within(&mut out, field.once, &all);
        }
    }
    let fields = value.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| name.starts_with("x-")) {
        put_bytes(&mut out, message.extensions, &named(name, &[2], &any(value)));
    }
    out
}

fn put_all(out: &mut Vec<u8>, field: &Field, value: &Value) {
    match (field.kind, value) {
        (Kind::Named(path, message), Value::Object(all)) => {
            for (name, value) in all {
                let entry = named(name, path, &octets(message, value));
                put_within(out, field.each, &entry);
            }
        }
        (_, Value::Array(items)) => items.iter().for_each(|item| put(out, field, item)),
        _ => put(out, field, value),
    }
}

/// One value, where it is of the field's kind.
fn put(out: &mut Vec<u8>, field: &Field, value: &Value) {
    let Some((&number, around)) = field.each.split_last() else { return };
    let mut own = Vec::new();
    match (field.kind, value) {
        (Kind::Text, Value::String(text)) => put_bytes(&mut own, number, text.as_bytes()),
        (Kind::Flag, Value::Bool(flag)) => put_number(&mut own, number, (*flag).into()),
        (Kind::Whole, Value::Number(it)) => {
            put_number(&mut own, number, it.as_i64().unwrap_or_default().cast_unsigned());
        }
        (Kind::Double, Value::Number(it)) => {
            put_fixed(&mut own, number, it.as_f64().unwrap_or_default().to_bits());
        }
        (Kind::Yaml, value) if !value.is_null() => put_bytes(&mut own, number, &any(value)),
        (Kind::Message(message), Value::Object(_)) => {
            put_bytes(&mut own, number, &octets(message, value));
        }
        _ => return,
    }
    put_within(out, around, &own);
}

/// A name, and the octets of what is called so.
fn named(name: &str, path: &[u64], value: &[u8]) -> Vec<u8> {
    let mut entry = Vec::new();
    put_bytes(&mut entry, 1, name.as_bytes());
    put_within(&mut entry, path, value);
    entry
}

fn any(value: &Value) -> Vec<u8> {
    let mut any = Vec::new();
    put_bytes(&mut any, 2, yaml::text(value).as_bytes());
    any
}

/// Octets in messages one in the other, the outermost first.
fn put_within(out: &mut Vec<u8>, path: &[u64], octets: &[u8]) {
    match path {
        [] => out.extend_from_slice(octets),
        [number, inner @ ..] => {
            let mut message = Vec::new();
            put_within(&mut message, inner, octets);
            put_bytes(out, *number, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_stand_in_the_messages_around_them() {
        for (schema, expected) in [
            (json!({"type": "object"}), &b"\xb2\x01\x08\x0a\x06object"[..]),
            (json!({"required": ["a", "b"]}), b"\x9a\x01\x01a\x9a\x01\x01b"),
            (json!({"additionalProperties": false}), b"\xaa\x01\x02\x10\x00"),
            (json!({"additionalProperties": {}}), b"\xaa\x01\x02\x0a\x00"),
            (
                json!({"properties": {"p": {"format": "f"}}}),
                b"\xca\x01\x0a\x0a\x08\x0a\x01p\x12\x03\x12\x01f",
            ),
            (json!({"x-y": [1]}), b"\xfa\x01\x0d\x0a\x03x-y\x12\x06\x12\x04- 1\n"),
        ] {
            let found = octets(&SCHEMA, &schema);
            assert_eq!(found, expected, "{schema}: {}", found.escape_ascii());
        }
    }
}
