//! JSON with what parsers pass over: of a field that is there twice they take the last one and say nothing, but whoever
//! wrote it meant something.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The value, and the paths of fields that are there twice as clients print them: `spec.ports[0].port`.
pub(super) fn read(text: &[u8]) -> serde_json::Result<(Value, Vec<String>)> {
    let mut twice = Vec::new();
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Read { twice: &mut twice }.deserialize(&mut parser)?;
    parser.end()?;
    let bare = |path: String| path.strip_prefix('.').map(str::to_owned).unwrap_or(path);
    Ok((value, twice.into_iter().map(bare).collect()))
}

/// What is found in a value has its path from there; whoever the value belongs to puts his own before it.
struct Read<'a> {
    twice: &'a mut Vec<String>,
}

impl Read<'_> {
    fn lies_below(&mut self, found: usize, step: impl fmt::Display) {
        for path in &mut self.twice[found..] {
            path.insert_str(0, &step.to_string());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if object.contains_key(&name) {
                self.twice.push(format!(".{name}"));
            }
            let found = self.twice.len();
            let value = map.next_value_seed(Read { twice: self.twice })?;
            self.lies_below(found, format_args!(".{name}"));
            object.insert(name, value);
        }
        Ok(object.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let found = self.twice.len();
            let Some(item) = items.next_element_seed(Read { twice: self.twice })? else {
                return Ok(list.into());
            };
            self.lies_below(found, format_args!("[{}]", list.len()));
            list.push(item);
        }
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_twice_is_named_by_its_path() {
        for (text, expected) in [
            (r#"{"a": 1, "b": {"a": 1}}"#, &[][..]),
            (r#"{"a": 1, "a": 2}"#, &["a"]),
            (r#"{"a": [{"b": 1}, {"b": null, "c": true, "b": "x"}]}"#, &["a[1].b"]),
            (r#"{"a": {"b": 1, "b": 1, "b": 1}, "a": {"b": 1.5}}"#, &["a.b", "a.b", "a"]),
            (r#"[[{"a": 1, "a": -1}]]"#, &["[0][0].a"]),
        ] {
            let (value, twice) = read(text.as_bytes()).unwrap();
            assert_eq!(twice, expected, "{text}");
            assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn what_is_no_json_is_told_as_by_its_parser() {
        for text in ["", "nothing", "{\"a\": 1, \"a\": ", "[1,]", "{} {}", "\"\\q\"", "1e999"] {
            let expected = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), expected.to_string());
        }
    }
}
