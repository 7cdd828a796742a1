//! JSON text read in place: nothing is copied, and what nobody asks for is passed over.
//!
//! The text is this server's own or was decoded before, so what is wrong with it is told (or passed over), not explained.

use super::Broken;
use std::borrow::Cow;

/// A text, and how far it has been read.
pub(super) struct Text<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    pub(super) fn new(json: &'a [u8]) -> Result<Self, Broken> {
        let text = std::str::from_utf8(json).map_err(|_no_text| Broken)?;
        Ok(Self { text, at: 0 })
    }

    /// The first octet of the next value.
    pub(super) fn peek(&mut self) -> Result<u8, Broken> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let space = rest.iter().take_while(|octet| octet.is_ascii_whitespace()).count();
        self.at += space;
        rest.get(space).copied().ok_or(Broken)
    }

    fn expect(&mut self, octet: u8) -> Result<(), Broken> {
        if self.peek()? != octet {
            return Err(Broken);
        }
        self.at += 1;
        Ok(())
    }

    /// Each field of an object; the reader has to read its value.
    pub(super) fn object(
        &mut self,
        mut read: impl FnMut(&mut Self, &str) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.several(b'{', b'}', |text| {
            let name = text.string()?;
            text.expect(b':')?;
            read(text, &name)
        })
    }

    /// Each item of an array; the reader has to read it.
    pub(super) fn array(
        &mut self,
        read: impl FnMut(&mut Self) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.several(b'[', b']', read)
    }

    fn several(
        &mut self,
        open: u8,
        close: u8,
        mut read: impl FnMut(&mut Self) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.expect(open)?;
        if self.peek()? == close {
            self.at += 1;
            return Ok(());
        }
        loop {
            read(self)?;
            let end = self.peek()?;
            self.at += 1;
            match end {
                b',' => {}
                end if end == close => return Ok(()),
                _ => return Err(Broken),
            }
        }
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Broken> {
        self.expect(b'"')?;
        let start = self.at;
        let plain = self.pass_string()?;
        let inner = self.text.get(start..self.at - 1).ok_or(Broken)?;
        if plain {
            return Ok(Cow::Borrowed(inner));
        }
        let quoted = self.text.get(start - 1..self.at).ok_or(Broken)?;
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_no_text| Broken)
    }

    /// Goes on behind the end of a string; whether it stands for itself, without escapes.
    fn pass_string(&mut self) -> Result<bool, Broken> {
        let octets = self.text.as_bytes();
        let mut plain = true;
        loop {
            let rest = octets.get(self.at..).unwrap_or_default();
            let end = rest.iter().position(|octet| matches!(octet, b'"' | b'\\'));
            self.at += end.ok_or(Broken)?;
            if octets[self.at] == b'"' {
                self.at += 1;
                return Ok(plain);
            }
            plain = false;
            self.at += 2;
        }
    }

    /// The next value as it stands in the text.
    pub(super) fn value(&mut self) -> Result<&'a str, Broken> {
        self.peek()?;
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.pass_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Broken)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => self.pass_word()?,
            }
            if depth == 0 {
                return self.text.get(start..self.at).ok_or(Broken);
            }
        }
    }

    /// Goes on behind a number, `true`, `false` or `null`.
    fn pass_word(&mut self) -> Result<(), Broken> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let inside =
            |octet: &&u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'+' | b'.');
        let length = rest.iter().take_while(inside).count();
        self.at += length;
        if length == 0 { Err(Broken) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    /// A value read piece by piece.
    fn read(text: &mut Text<'_>) -> Result<Value, Broken> {
        Ok(match text.peek()? {
            b'{' => {
                let mut object = Map::new();
                text.object(|text, name| {
                    object.insert(name.to_owned(), read(text)?);
                    Ok(())
                })?;
                object.into()
            }
            b'[' => {
                let mut items = Vec::new();
                text.array(|text| {
                    items.push(read(text)?);
                    Ok(())
                })?;
                items.into()
            }
            b'"' => text.string()?.into(),
            _ => serde_json::from_str(text.value()?).map_err(|_no_word| Broken)?,
        })
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i16>().prop_map(|number| (f64::from(number) / 8.0).into()),
            any::<String>().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_in_a_text_is_read(value in value(), pretty in any::<bool>()) {
            let written = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let written = written.expect("it is JSON");
            let mut text = Text::new(written.as_bytes()).expect("it is text");
            prop_assert_eq!(text.value(), Ok(&*written), "as a whole");
            let mut text = Text::new(written.as_bytes()).expect("it is text");
            prop_assert_eq!(read(&mut text), Ok(value));
            prop_assert_eq!(text.peek(), Err(Broken), "nothing is left");
        }

        #[test]
        fn any_text_is_safe(text in "[\\[\\]{}\",:\\\\ü1n ]{0,12}") {
            let read_by = |read: fn(&mut Text<'_>) -> Result<(), Broken>| {
                Text::new(text.as_bytes()).and_then(|mut text| read(&mut text))
            };
            let _seen = (read_by(|text| read(text).map(drop)), read_by(|text| text.value().map(drop)));
        }
    }
}
