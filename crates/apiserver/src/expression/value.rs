//! JSON to values of CEL, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::Value as Cel;
use cel::objects::{Key, Map};
use serde_json::{Number, Value};
use std::sync::Arc;

pub(crate) fn from_json(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, broken) => Cel::Float(broken.unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(from_json).collect())),
        Value::Object(fields) => {
            let entry = |(name, value): (&String, &Value)| {
                (Key::String(Arc::new(name.clone())), from_json(value))
            };
            Cel::Map(Map { map: Arc::new(fields.iter().map(entry).collect()) })
        }
    }
}

/// `None`: it is nothing that JSON can say.
pub(crate) fn to_json(value: &Cel) -> Option<Value> {
    Some(match value {
        Cel::Null => Value::Null,
        Cel::Bool(flag) => (*flag).into(),
        Cel::Int(number) => (*number).into(),
        Cel::UInt(number) => (*number).into(),
        Cel::Float(number) => Value::Number(Number::from_f64(*number)?),
        Cel::String(text) => text.as_str().into(),
        Cel::Bytes(octets) => STANDARD.encode(octets.as_slice()).into(),
        Cel::List(items) => items.iter().map(to_json).collect::<Option<_>>()?,
        Cel::Map(map) => {
            let entry = |(key, value): (&Key, &Cel)| match key {
                Key::String(name) => Some((name.to_string(), to_json(value)?)),
                Key::Int(_) | Key::Uint(_) | Key::Bool(_) => None,
            };
            Value::Object(map.map.iter().map(entry).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
