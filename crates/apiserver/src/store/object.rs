//! A stored object: its JSON text, and, while somebody looks into it, what was parsed from it.
//!
//! A tree of values takes five to ten times the room of its text, so the store keeps trees of what was written
//! lately only ([`super::Store`] cools the others), and selectors [`look`](Object::look) into the text itself.

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A stored object: never changed, only replaced.
pub(crate) struct Object {
    pub(crate) value: Tree,
}

/// The object's value, parsed when it is needed.
pub(crate) struct Tree {
    json: Bytes,
    parsed: OnceLock<Value>,
}

impl Object {
    pub(super) fn new(value: Value) -> Self {
        // A boxed slice has no room to spare.
        let json = Bytes::from(value.to_string().into_bytes().into_boxed_slice());
        Self { value: Tree { json, parsed: OnceLock::from(value) } }
    }

    /// An object as it would be: the answer to a dry run.
    #[must_use]
    pub(crate) fn unsaved(value: Value) -> Self {
        Self::new(value)
    }

    /// An object from text that [`Self::json`] gave.
    pub(super) fn cold(json: Bytes) -> Self {
        Self { value: Tree { json, parsed: OnceLock::new() } }
    }

    /// The object as JSON text, shared by all who ask.
    #[must_use]
    pub(crate) fn json(&self) -> Bytes {
        self.value.json.clone()
    }

    /// Size of the text, in bytes.
    pub(super) fn size(&self) -> usize {
        self.value.json.len()
    }

    /// `metadata.uid`
    #[must_use]
    pub(crate) fn uid(&self) -> String {
        self.look(&["metadata", "uid"]).as_str().unwrap_or_default().to_owned()
    }

    /// What is at this path, null where nothing is; parses no more than that.
    pub(crate) fn look(&self, path: &[&str]) -> Cow<'_, Value> {
        match self.value.parsed.get() {
            Some(value) => {
                let found = path.iter().try_fold(value, |value, step| value.get(*step));
                Cow::Borrowed(found.unwrap_or(&Value::Null))
            }
            None => Cow::Owned(look(&self.value.json, path)),
        }
    }

    /// For a reader: a cold object stays cold, so readers get a copy of their own to parse.
    pub(super) fn handed(self: &Arc<Self>) -> Arc<Self> {
        if self.is_warm() { self.clone() } else { Arc::new(self.cooled()) }
    }

    /// Whether its tree is there.
    pub(crate) fn is_warm(&self) -> bool {
        self.value.parsed.get().is_some()
    }

    /// The same text without a tree.
    pub(crate) fn cooled(&self) -> Self {
        Self::cold(self.json())
    }
}

impl Deref for Tree {
    type Target = Value;

    fn deref(&self) -> &Value {
        // Text of this server's own making parses; what is read from a disk is checked there.
        self.parsed.get_or_init(|| serde_json::from_slice(&self.json).unwrap_or_default())
    }
}

impl PartialEq<Tree> for Value {
    fn eq(&self, other: &Tree) -> bool {
        *self == **other
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.value.json))
    }
}

/// What is at a path of a JSON text.
fn look(json: &[u8], path: &[&str]) -> Value {
    let mut found = Value::Null;
    let mut text = serde_json::Deserializer::from_slice(json);
    // Reading stops where the value was found, which is an error to the reader of text.
    let end = Step { path, found: &mut found }.deserialize(&mut text);
    drop(end);
    found
}

/// Reads a value up to the end of the path in it.
struct Step<'a> {
    path: &'a [&'a str],
    found: &'a mut Value,
}

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.path.is_empty() {
            return deserializer.deserialize_any(self);
        }
        *self.found = serde::Deserialize::deserialize(deserializer)?;
        Err(D::Error::custom("found"))
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (first, rest) = self.path.split_first().unwrap_or((&"", &[]));
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            if field == *first {
                return map.next_value_seed(Step { path: rest, found: self.found });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab\"]", inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn looking_into_text_finds_what_is_in_the_tree(value in value(), path in prop::collection::vec("[ab\"]", 0..4)) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let warm = Object::new(value);
            let cold = warm.cooled();
            prop_assert_eq!(warm.look(&path), cold.look(&path));
            prop_assert_eq!(&*warm.value, &*cold.value);
        }
    }

    #[test]
    fn readers_leave_a_cold_object_cold() {
        let cold = Arc::new(Object::new(json!({"metadata": {"uid": "u"}})).cooled());
        let handed = cold.handed();
        assert_eq!(
            (handed.value["metadata"]["uid"].as_str(), cold.uid().as_str()),
            (Some("u"), "u")
        );
        assert!(handed.is_warm() && !cold.is_warm());
    }
}
