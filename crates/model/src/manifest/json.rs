//! JSON text to nodes, with the line of every value: the structure is read here, numbers and strings
//! are serde_json's.

use super::{DEEPEST, Error, Location, Members, Node, ObjectNode, Place};
use serde_json::Value;
use std::sync::Arc;

/// The values of a stream, one after the other as `kubectl` allows.
pub(super) fn read(file: &Arc<str>, text: &str) -> Result<Vec<Node>, Error> {
    let mut reader = Reader { file, text, at: 0, line: 1, line_start: 0 };
    let mut documents = Vec::new();
    while reader.peek().is_some() {
        documents.push(reader.value(0)?);
    }
    Ok(documents)
}

struct Reader<'t> {
    file: &'t Arc<str>,
    text: &'t str,
    /// Octets read.
    at: usize,
    line: usize,
    /// Where the line begins, in octets.
    line_start: usize,
}

impl<'t> Reader<'t> {
    /// The next octet that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let octet = *self.text.as_bytes().get(self.at)?;
            match octet {
                b'\n' => {
                    self.line += 1;
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(octet),
            }
            self.at += 1;
        }
    }

    fn location(&self) -> Location {
        let column = self.text[self.line_start..self.at].chars().count() + 1;
        Location { file: self.file.clone(), line: self.line, column }
    }

    fn expected(&self, what: &str) -> Error {
        Error::Syntax { at: self.location(), reason: format!("expected {what}") }
    }

    /// Steps over the octet when it is next.
    fn take(&mut self, octet: u8) -> bool {
        let there = self.peek() == Some(octet);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Result<Node, Error> {
        if depth > DEEPEST {
            return Err(Error::TooDeep { at: self.location(), limit: DEEPEST });
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => {
                let text = Value::String(self.string()?);
                Ok(self.leaf(text))
            }
            _ => self.word(),
        }
    }

    fn leaf(&self, value: Value) -> Node {
        Node { value, place: Place { line: self.line, members: Members::None } }
    }

    fn object(&mut self, depth: usize) -> Result<Node, Error> {
        let first_line = self.line;
        let mut object = ObjectNode::default();
        self.take(b'{');
        let mut more = !self.take(b'}');
        while more {
            if self.peek() != Some(b'"') {
                return Err(self.expected("a member name in double quotes"));
            }
            let (at, line) = (self.location(), self.line);
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.expected("`:`"));
            }
            let value = self.value(depth + 1)?;
            let twice = |first| Error::DuplicateKey { at, key: key.clone(), first };
            object.add(key.clone(), line, value).map_err(twice)?;
            more = self.goes_on(b'}', "`,` or `}`")?;
        }
        Ok(object.finish(first_line))
    }

    fn list(&mut self, depth: usize) -> Result<Node, Error> {
        let first_line = self.line;
        let mut items = Vec::new();
        self.take(b'[');
        let mut more = !self.take(b']');
        while more {
            items.push(self.value(depth + 1)?);
            more = self.goes_on(b']', "`,` or `]`")?;
        }
        Ok(Node::list(first_line, items))
    }

    /// After an element: a comma and so another one, or the end.
    fn goes_on(&mut self, end: u8, what: &str) -> Result<bool, Error> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(end) { Ok(false) } else { Err(self.expected(what)) }
    }

    /// A string; the opening quote is next.
    fn string(&mut self) -> Result<String, Error> {
        let rest = &self.text[self.at..];
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|octet| {
            let ends = octet == b'"' && !escaped;
            escaped = octet == b'\\' && !escaped;
            ends
        });
        let token = end.map(|end| &rest[..end + 2]);
        let text = token.and_then(|token| serde_json::from_str(token).ok());
        let text = text.ok_or_else(|| self.expected("a string, closed in its line"))?;
        self.at += token.map_or(0, str::len);
        Ok(text)
    }

    /// A number, true, false or null.
    fn word(&mut self) -> Result<Node, Error> {
        let rest = &self.text[self.at..];
        let is_end = |c: char| c.is_ascii_whitespace() || ",:]}[{\"".contains(c);
        let token = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let value =
            serde_json::from_str(token).ok().ok_or_else(|| self.expected("a JSON value"))?;
        self.at += token.len();
        Ok(self.leaf(value))
    }
}
