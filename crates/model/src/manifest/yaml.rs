//! YAML text to nodes: anchors, merge keys and tags resolved, every line kept.

use super::scalar;
use super::{DEEPEST, Error, Location, Members, Node, ObjectNode, Place};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Octets that all aliases of a file may copy together: a bound on what a small file can grow to.
const MOST_COPIED: usize = 4 << 20;

/// The documents of a stream, empty ones as null.
pub(super) fn read(file: &Arc<str>, text: &str) -> Result<Vec<Node>, Error> {
    let events = Parser::new_from_str(text);
    let mut reader = Reader { file, events, anchors: BTreeMap::new(), copied: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                reader.anchors.clear();
                let (event, at) = reader.next()?;
                documents.push(reader.node(event, at, 0)?);
            }
            _ => {}
        }
    }
}

struct Reader<'t> {
    file: &'t Arc<str>,
    events: Parser<'t, StrInput<'t>>,
    /// Finished nodes of this document by the parser's anchor number, which starts at 1.
    anchors: BTreeMap<usize, Node>,
    copied: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Marker), Error> {
        match self.events.next_event() {
            None => Ok((Event::StreamEnd, Marker::default())),
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => Err(self.syntax(&error)),
        }
    }

    fn at(&self, mark: Marker) -> Location {
        Location { file: self.file.clone(), line: mark.line().max(1), column: mark.col() + 1 }
    }

    fn syntax(&self, error: &ScanError) -> Error {
        Error::Syntax { at: self.at(*error.marker()), reason: error.info().to_owned() }
    }

    /// The node that an event begins.
    fn node(&mut self, event: Event<'t>, mark: Marker, depth: usize) -> Result<Node, Error> {
        if depth > DEEPEST {
            return Err(Error::TooDeep { at: self.at(mark), limit: DEEPEST });
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, self.scalar(&text, style, tag.as_deref(), mark)?)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", "a list", mark)?;
                (anchor, self.list(mark, depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", "an object", mark)?;
                (anchor, self.object(mark, depth)?)
            }
            Event::Alias(anchor) => (0, self.copy(anchor, mark)?),
            _ => {
                let reason = "expected a value".to_owned();
                return Err(Error::Syntax { at: self.at(mark), reason });
            }
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, mark: Marker, depth: usize) -> Result<Node, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::list(mark.line(), items)),
                (event, mark) => items.push(self.node(event, mark, depth + 1)?),
            }
        }
    }

    fn object(&mut self, mark: Marker, depth: usize) -> Result<Node, Error> {
        let mut object = ObjectNode::default();
        let mut merged = None;
        loop {
            let (key, key_mark) = match self.next()? {
                (Event::MappingEnd, _) => break,
                next => next,
            };
            if is_merge(&key) {
                let (event, mark) = self.next()?;
                let node = self.node(event, mark, depth + 1)?;
                if let Some((_, first)) = merged.replace((node, mark)) {
                    let (at, key) = (self.at(key_mark), "<<".to_owned());
                    return Err(Error::DuplicateKey { at, key, first: first.line() });
                }
                continue;
            }
            let key = self.key(key, key_mark, depth)?;
            let (event, mark) = self.next()?;
            let value = self.node(event, mark, depth + 1)?;
            object
                .add(key.clone(), key_mark.line(), value)
                .map_err(|first| Error::DuplicateKey { at: self.at(key_mark), key, first })?;
        }
        if let Some((node, mark)) = merged {
            self.merge(&mut object, node, mark)?;
        }
        Ok(object.finish(mark.line()))
    }

    /// Numbers and truth values become text, as in JSON every member name is.
    fn key(&mut self, event: Event<'t>, mark: Marker, depth: usize) -> Result<String, Error> {
        match self.node(event, mark, depth + 1)?.value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            _ => Err(Error::Key { at: self.at(mark) }),
        }
    }

    /// Takes over the members that the object lacks; of several objects the first wins.
    fn merge(&self, object: &mut ObjectNode, node: Node, mark: Marker) -> Result<(), Error> {
        let Node { value, place: Place { members, .. } } = node;
        match (value, members) {
            (Value::Object(values), Members::Object(mut places)) => {
                for (key, value) in values {
                    if let Some(place) = places.remove(&key) {
                        object.add_missing(key, Node { value, place });
                    }
                }
                Ok(())
            }
            (Value::Array(values), Members::List(places)) => {
                for (value, place) in values.into_iter().zip(places) {
                    if !value.is_object() {
                        return Err(Error::Merge { at: self.at(mark) });
                    }
                    self.merge(object, Node { value, place }, mark)?;
                }
                Ok(())
            }
            _ => Err(Error::Merge { at: self.at(mark) }),
        }
    }

    fn copy(&mut self, anchor: usize, mark: Marker) -> Result<Node, Error> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Error::Alias { at: self.at(mark) });
        };
        self.copied += weight(&node.value);
        if self.copied > MOST_COPIED {
            return Err(Error::TooManyCopies { at: self.at(mark), limit: MOST_COPIED });
        }
        Ok(node.clone())
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        mark: Marker,
    ) -> Result<Node, Error> {
        let value = match tag {
            None if style == ScalarStyle::Plain => self.plain(text, mark)?,
            None => Value::String(text.to_owned()),
            Some(tag) => self.tagged(text, tag, mark)?,
        };
        Ok(Node { value, place: Place { line: mark.line(), members: Members::None } })
    }

    fn plain(&self, text: &str, mark: Marker) -> Result<Value, Error> {
        let outside = |_| Error::Number { at: self.at(mark), text: text.to_owned() };
        scalar::plain(text).map_err(outside)
    }

    fn tagged(&self, text: &str, tag: &Tag, mark: Marker) -> Result<Value, Error> {
        let suffix = if is_core(tag) { tag.suffix.as_str() } else { "unknown" };
        if ["str", "timestamp", "!"].contains(&suffix) {
            return Ok(Value::String(text.to_owned()));
        }
        let value = self.plain(text, mark)?;
        let fits = match suffix {
            "null" => value.is_null(),
            "bool" => value.is_boolean(),
            "int" => value.is_i64() || value.is_u64(),
            "float" => value.is_number(),
            _ => false,
        };
        let wrong = || {
            let (tag, text) = (tag.to_string(), text.to_owned());
            Error::Tag { at: self.at(mark), tag, text }
        };
        fits.then_some(value).ok_or_else(wrong)
    }

    /// A list or an object may carry the tag of what it is, and no other.
    fn check_tag(
        &self,
        tag: Option<&Tag>,
        right: &str,
        noun: &str,
        mark: Marker,
    ) -> Result<(), Error> {
        match tag {
            Some(tag) if !(is_core(tag) && [right, "!"].contains(&tag.suffix.as_str())) => {
                Err(Error::Tag { at: self.at(mark), tag: tag.to_string(), text: noun.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// `!!str` and its kind, or the lone `!`, which says "as it stands".
fn is_core(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() || (tag.handle.is_empty() && tag.suffix == "!")
}

/// About the octets that a copy takes.
fn weight(value: &Value) -> usize {
    const SELF: usize = 8;
    SELF + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + weight(value)).sum()
        }
        _ => 0,
    }
}
