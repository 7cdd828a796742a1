//! Types of values, and which of them fit where.

use crate::schema::{self, Root};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// Known when it is evaluated.
    Dyn,
    /// Of something wrong, which was told already.
    Error,
    /// Any, until something says which: what an empty list holds.
    Free,
    Bool,
    Int,
    UInt,
    Double,
    String,
    Bytes,
    Null,
    Duration,
    Timestamp,
    List(Box<Type>),
    Map(Box<(Type, Type)>),
    Optional(Box<Type>),
    /// The type of a type.
    Meta(Box<Type>),
    /// One of Kubernetes' own, or with the fields that `signatures` knows.
    Object(&'static str),
    /// An object that a mutation makes, whose fields are its kind's.
    Made(String),
    /// An object of a kind, or a part of one, whose fields its schema has.
    Schema(Schema),
    /// In signatures: the same wherever it stands.
    Any(char),
}

/// The fields of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema(Root<'static>);

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0.types, other.0.types) && self.0.id == other.0.id
    }
}

impl Eq for Schema {}

impl Type {
    /// What a schema describes.
    pub(crate) fn of_schema(root: Root<'static>) -> Self {
        match root.node() {
            _ if root.is_untyped() => Self::Dyn,
            schema::Type::Text => Self::String,
            schema::Type::Integer { .. } => Self::Int,
            schema::Type::Number => Self::Double,
            schema::Type::Flag => Self::Bool,
            schema::Type::Bytes => Self::Bytes,
            schema::Type::Time { .. } => Self::Timestamp,
            schema::Type::Any | schema::Type::IntegerOrText | schema::Type::Quantity => Self::Dyn,
            schema::Type::Map { values, .. } => {
                Self::map(Self::String, Self::of_schema(root.at(*values)))
            }
            schema::Type::List { items, .. } => Self::list(Self::of_schema(root.at(*items))),
            schema::Type::Struct(node) if node.open && node.fields.is_empty() => Self::Dyn,
            schema::Type::Struct(_) => Self::Schema(Schema(root)),
        }
    }

    pub(crate) fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    pub(crate) fn map(key: Self, value: Self) -> Self {
        Self::Map(Box::new((key, value)))
    }

    pub(crate) fn optional(inner: Self) -> Self {
        Self::Optional(Box::new(inner))
    }

    /// What a name stands for that is a type's.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = match name {
            "null_type" => Self::Null,
            "list" => Self::list(Self::Dyn),
            "map" => Self::map(Self::Dyn, Self::Dyn),
            "type" => Self::Meta(Box::new(Self::Dyn)),
            other => Self::plain(other)?,
        };
        Some(Self::Meta(Box::new(found)))
    }

    fn plain(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::UInt,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            _ => return None,
        })
    }

    /// As signatures write it.
    pub(super) fn parse(text: &'static str) -> Self {
        let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(item) = inner("list") {
            return Self::list(Self::parse(item));
        }
        if let Some(value) = inner("optional") {
            return Self::optional(Self::parse(value));
        }
        if let Some(of) = inner("type") {
            return Self::Meta(Box::new(Self::parse(of)));
        }
        if let Some((key, value)) = inner("map").and_then(|it| it.split_once(',')) {
            return Self::map(Self::parse(key), Self::parse(value));
        }
        match text {
            "dyn" => Self::Dyn,
            "null" => Self::Null,
            "duration" => Self::Duration,
            "timestamp" => Self::Timestamp,
            "A" | "B" => Self::Any(if text == "A" { 'A' } else { 'B' }),
            other => Self::plain(other).unwrap_or(Self::Object(other)),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Dyn | Self::Free => "dyn",
            Self::Error => "!error!",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::UInt => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Null => "null_type",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(item) => return write!(f, "list({item})"),
            Self::Map(parts) => return write!(f, "map({}, {})", parts.0, parts.1),
            Self::Optional(inner) => return write!(f, "optional_type({inner})"),
            Self::Meta(of) => return write!(f, "type({of})"),
            Self::Object(name) => name,
            Self::Made(name) => name,
            Self::Schema(schema) => match schema.0.node() {
                schema::Type::Struct(node) => &node.name,
                _ => "object",
            },
            Self::Any(letter) => return write!(f, "{letter}"),
        };
        f.write_str(text)
    }
}

impl Schema {
    pub(super) fn field(self, name: &str) -> Option<Type> {
        self.0.field(name).map(Type::of_schema)
    }
}

/// What the letters of a signature stand for in a call.
#[derive(Debug, Default)]
pub(super) struct Bindings(BTreeMap<char, Type>);

impl Bindings {
    /// Whether a value of a type can be given where one is wanted.
    pub(super) fn fit(&mut self, wanted: &Type, found: &Type) -> bool {
        match (wanted, found) {
            (Type::Any(letter), _) => {
                let known = self.0.get(letter).cloned();
                match known {
                    None | Some(Type::Free) => drop(self.0.insert(*letter, found.clone())),
                    Some(known) if fits(&known, found) => {
                        self.0.insert(*letter, specific(known, found.clone()));
                    }
                    Some(_) => return false,
                }
                true
            }
            (Type::List(wanted), Type::List(found)) => self.fit(wanted, found),
            (Type::Optional(wanted), Type::Optional(found)) => self.fit(wanted, found),
            (Type::Meta(wanted), Type::Meta(found)) => self.fit(wanted, found),
            (Type::Map(wanted), Type::Map(found)) => {
                self.fit(&wanted.0, &found.0) && self.fit(&wanted.1, &found.1)
            }
            _ => fits(wanted, found),
        }
    }

    pub(super) fn fill(&self, result: &Type) -> Type {
        match result {
            Type::Any(letter) => self.0.get(letter).cloned().unwrap_or(Type::Dyn),
            Type::List(item) => Type::list(self.fill(item)),
            Type::Optional(inner) => Type::optional(self.fill(inner)),
            Type::Meta(of) => Type::Meta(Box::new(self.fill(of))),
            Type::Map(parts) => Type::map(self.fill(&parts.0), self.fill(&parts.1)),
            other => other.clone(),
        }
    }
}

fn fits(one: &Type, two: &Type) -> bool {
    match (one, two) {
        (Type::Dyn | Type::Free | Type::Error, _) | (_, Type::Dyn | Type::Free | Type::Error) => {
            // What is wrong inside a list is told of the list again.
            true
        }
        (Type::List(one), Type::List(two)) | (Type::Optional(one), Type::Optional(two)) => {
            fits(one, two)
        }
        (Type::Map(one), Type::Map(two)) => fits(&one.0, &two.0) && fits(&one.1, &two.1),
        // Whatever may be missing can be compared with nothing.
        (Type::Null, other) | (other, Type::Null) => matches!(
            other,
            Type::Null
                | Type::Object(_)
                | Type::Made(_)
                | Type::Schema(_)
                | Type::Duration
                | Type::Timestamp
                | Type::Optional(_)
        ),
        (Type::Meta(_), Type::Meta(_)) => true,
        (Type::Made(_), Type::Made(_)) => true,
        _ => one == two,
    }
}

/// Of two types that fit each other, the one that says more.
fn specific(one: Type, two: Type) -> Type {
    match (one, two) {
        (Type::Free | Type::Error, two) => two,
        (Type::List(one), Type::List(two)) => Type::list(specific(*one, *two)),
        (Type::Map(one), Type::Map(two)) => {
            Type::map(specific(one.0, two.0), specific(one.1, two.1))
        }
        (_, Type::Dyn) => Type::Dyn,
        (Type::Null, two) => two,
        (one, _) => one,
    }
}

/// The type of what is of either type.
pub(super) fn join(one: Type, two: Type) -> Type {
    if fits(&one, &two) { specific(one, two) } else { Type::Dyn }
}
