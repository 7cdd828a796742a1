//! Fields that JSON has twice: parsers take the last one and say nothing, but whoever wrote them meant something.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Paths as clients print them: `spec.ports[0].port`. Of text that is no JSON, those before its fault.
pub(super) fn fields(text: &[u8]) -> Vec<String> {
    let (mut path, mut found) = (String::new(), Vec::new());
    let mut parser = serde_json::Deserializer::from_slice(text);
    // Whoever parses the text for its sake tells its faults.
    Walk { path: &mut path, found: &mut found }.deserialize(&mut parser).ok();
    found
}

struct Walk<'a> {
    path: &'a mut String,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        let length = self.path.len();
        while let Some(name) = map.next_key::<String>()? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            if !seen.insert(name) {
                self.found.push(self.path.clone());
            }
            map.next_value_seed(Walk { path: self.path, found: self.found })?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let length = self.path.len();
        for place in 0.. {
            self.path.push_str(&format!("[{place}]"));
            let item = items.next_element_seed(Walk { path: self.path, found: self.found })?;
            self.path.truncate(length);
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
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
            (r#"{"a": 1, "a": "#, &["a"]),
            ("nothing", &[]),
        ] {
            assert_eq!(fields(text.as_bytes()), expected, "{text}");
        }
    }
}
