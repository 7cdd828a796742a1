//! Manifests: multi-document YAML and JSON text, read the way `kubectl` reads it, with the line of
//! every field kept.
//!
//! Text in, values out; reading files and standard input is a door's work. [`parse`] makes
//! [`Document`]s of one file's text, [`load`] makes objects of the documents of all files and collects
//! every fault, so that nothing is applied before everything is right.

mod json;
mod load;
mod scalar;
mod yaml;

pub use load::{LoadError, load};

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One object of a manifest and where its text stands.
#[derive(Debug, Clone)]
pub struct Document {
    /// A JSON object with `apiVersion` and `kind`, both text.
    pub value: Value,
    /// File name, or `-` for standard input.
    pub source: Arc<str>,
    place: Place,
}

impl Document {
    /// The line, counted from 1, of a field such as `spec.ports[0].nodePort`, or of its nearest
    /// ancestor where the field is not written; `None` for text that is no path.
    ///
    /// Member names that hold dots (labels, annotations) are found too. What came through an alias or
    /// a merge key has the line of its anchor.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        self.place.find(path)
    }

    /// The line the object begins at.
    pub fn line(&self) -> usize {
        self.place.line
    }
}

/// A position in a manifest, written `file:line:column`, both counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub file: Arc<str>,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why text is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{at}: {reason}")]
    Syntax { at: Location, reason: String },
    #[error("{at}: `{key}` is here twice in one object, first in line {first}")]
    DuplicateKey { at: Location, key: String, first: usize },
    #[error("{at}: a member name must be text, a number, true or false")]
    Key { at: Location },
    #[error("{at}: `<<` merges an object or a list of objects, and this is neither")]
    Merge { at: Location },
    #[error("{at}: `{text}` is not of the type its tag {tag} says")]
    Tag { at: Location, tag: String, text: String },
    #[error("{at}: {text} is a number that JSON, and so Kubernetes, cannot hold")]
    Number { at: Location, text: String },
    #[error("{at}: alias to an anchor that this document has not finished before it")]
    Alias { at: Location },
    #[error("{at}: the aliases of this file copy more than {limit} octets; write them out")]
    TooManyCopies { at: Location, limit: usize },
    #[error("{at}: nested more than {limit} deep")]
    TooDeep { at: Location, limit: usize },
    #[error("{file}:{line}: expected an object with apiVersion and kind, found {found}")]
    NotAnObject { file: Arc<str>, line: usize, found: &'static str },
    #[error("{file}:{line}: {field}: expected text such as {example}, found {found}")]
    NoKind {
        file: Arc<str>,
        line: usize,
        field: &'static str,
        example: &'static str,
        found: &'static str,
    },
}

/// Deepest nesting of lists and objects; real manifests stay below 20.
const DEEPEST: usize = 100;

/// The line of a value and of everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    members: Members,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Members {
    None,
    List(Vec<Place>),
    Object(BTreeMap<String, Place>),
}

/// A value together with its lines, while it is being read.
#[derive(Debug, Clone)]
struct Node {
    value: Value,
    place: Place,
}

/// An object under construction.
#[derive(Default)]
struct ObjectNode {
    values: Map<String, Value>,
    places: BTreeMap<String, Place>,
}

impl ObjectNode {
    /// Adds a member that begins at `line`; `Err` with the first one's line when the name is taken.
    fn add(&mut self, key: String, line: usize, member: Node) -> Result<(), usize> {
        if let Some(first) = self.places.get(&key) {
            return Err(first.line);
        }
        self.places.insert(key.clone(), Place { line, members: member.place.members });
        self.values.insert(key, member.value);
        Ok(())
    }

    /// Adds a member unless the name is taken.
    fn add_missing(&mut self, key: String, member: Node) {
        if !self.places.contains_key(&key) {
            self.places.insert(key.clone(), member.place);
            self.values.insert(key, member.value);
        }
    }

    fn finish(self, line: usize) -> Node {
        let place = Place { line, members: Members::Object(self.places) };
        Node { value: Value::Object(self.values), place }
    }
}

impl Node {
    fn list(line: usize, items: Vec<Node>) -> Node {
        let (values, places) = items.into_iter().map(|item| (item.value, item.place)).unzip();
        Node { value: Value::Array(values), place: Place { line, members: Members::List(places) } }
    }
}

impl Place {
    fn find(&self, path: &str) -> Option<usize> {
        if path.is_empty() {
            return Some(self.line);
        }
        let below = match &self.members {
            Members::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                items.get(index.parse::<usize>().ok()?).map(|place| (place, rest))
            }
            Members::Object(members) => members
                .iter()
                .filter_map(|(name, place)| Some((place, after_name(path, name)?)))
                .min_by_key(|(_, rest)| rest.len()),
            Members::None => None,
        };
        below.map_or(Some(self.line), |(place, rest)| {
            place.find(rest.strip_prefix('.').unwrap_or(rest))
        })
    }
}

/// What follows the member `name` at the head of a path, when it is there.
fn after_name<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// Reads the text of one file; `source` names it in errors.
///
/// Empty documents are left out and lists (`kind: List` or `…List` with `items`) are taken apart.
pub fn parse(source: &str, text: &str) -> Result<Vec<Document>, Error> {
    let file: Arc<str> = source.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    for node in read(&file, text)? {
        add(&file, node, &mut documents)?;
    }
    Ok(documents)
}

/// JSON where the text looks like it and is it, else YAML, as `kubectl` decides.
fn read(file: &Arc<str>, text: &str) -> Result<Vec<Node>, Error> {
    if !text.trim_start().starts_with('{') {
        return yaml::read(file, text);
    }
    json::read(file, text).or_else(|json_error| match yaml::read(file, text) {
        Err(_) if file.ends_with(".json") => Err(json_error),
        result => result,
    })
}

/// Adds the objects of one document.
fn add(file: &Arc<str>, node: Node, documents: &mut Vec<Document>) -> Result<(), Error> {
    if node.value.is_null() {
        return Ok(());
    }
    let api_version = named(file, &node, "apiVersion", "v1 or apps/v1")?.to_owned();
    let kind = named(file, &node, "kind", "Service")?.to_owned();
    match (kind.strip_suffix("List"), node.value.get("items")) {
        (Some(item_kind), Some(Value::Array(_))) => {
            for item in items(node) {
                add(file, with_kind(item, &api_version, item_kind), documents)?;
            }
        }
        _ => {
            let Node { value, place } = node;
            documents.push(Document { value, source: file.clone(), place });
        }
    }
    Ok(())
}

/// A member that every object must have, as text.
fn named<'n>(
    file: &Arc<str>,
    node: &'n Node,
    field: &'static str,
    example: &'static str,
) -> Result<&'n str, Error> {
    let Value::Object(members) = &node.value else {
        let (file, found) = (file.clone(), shape(Some(&node.value)));
        return Err(Error::NotAnObject { file, line: node.place.line, found });
    };
    match members.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        other => {
            let (file, line) = (file.clone(), node.place.find(field).unwrap_or(node.place.line));
            Err(Error::NoKind { file, line, field, example, found: shape(other) })
        }
    }
}

fn shape(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "nothing",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(text)) if text.is_empty() => "empty text",
        Some(Value::String(_)) => "text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

/// The items of a list object.
fn items(list: Node) -> Vec<Node> {
    let Node { mut value, place: Place { members, .. } } = list;
    let Members::Object(mut places) = members else { return Vec::new() };
    match (value.get_mut("items").map(Value::take), places.remove("items").map(|p| p.members)) {
        (Some(Value::Array(values)), Some(Members::List(places))) => {
            let pairs = values.into_iter().zip(places);
            pairs.map(|(value, place)| Node { value, place }).collect()
        }
        _ => Vec::new(),
    }
}

/// Items of a typed list (`PodList`) as the API sends them carry no kind of their own.
fn with_kind(mut item: Node, api_version: &str, kind: &str) -> Node {
    if let Value::Object(members) = &mut item.value
        && !kind.is_empty()
    {
        members.entry("apiVersion").or_insert_with(|| api_version.into());
        members.entry("kind").or_insert_with(|| kind.into());
    }
    item
}

#[cfg(test)]
mod tests;
