//! What the fields of objects are: types compiled from OpenAPI schemas, of the built-in kinds and of custom ones.
//!
//! *Here*: the types ([`Types`]), compiling them (`compile`), the built-in kinds' ([`builtin`]), and decoding what
//! comes in by them ([`decode`]).

pub(crate) mod builtin;
mod compile;
pub(crate) mod custom;
pub(crate) mod decode;
pub(crate) mod document;
pub(crate) mod version2;
mod virtual_ip;
pub(crate) mod zeros;

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A type within [`Types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u32);

/// Types that refer to each other, and may do so in circles.
#[derive(Debug, Default)]
pub(crate) struct Types {
    nodes: Vec<Type>,
}

#[derive(Debug, Clone)]
pub(crate) enum Type {
    Text,
    Integer {
        long: bool,
    },
    Number,
    Flag,
    IntegerOrText,
    /// A number or text that stands for one (`resource.Quantity`).
    Quantity,
    /// Base64.
    Bytes,
    /// RFC 3339, with microseconds (`MicroTime`) or without.
    Time {
        micro: bool,
    },
    /// Anything; nobody looks into it.
    Any,
    Map {
        values: Id,
        atomic: bool,
    },
    List {
        items: Id,
        rule: ListRule,
    },
    Struct(Struct),
}

/// An object with named fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Struct {
    /// The last part of its name: `ServicePort`.
    pub(crate) name: Box<str>,
    pub(crate) fields: BTreeMap<Box<str>, Id>,
    /// Fields that are not named here are kept.
    pub(crate) open: bool,
    /// Replaced as a whole, never in part.
    pub(crate) atomic: bool,
    /// Fields that are always there.
    pub(crate) zeros: Vec<(&'static str, Value)>,
}

/// How lists are merged and who owns their items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListRule {
    Atomic,
    Set,
    /// Items are known by the values of these fields.
    Keyed(Vec<Box<str>>),
}

impl Types {
    pub(crate) fn of(&self, id: Id) -> &Type {
        self.nodes.get(usize::try_from(id.0).unwrap_or(usize::MAX)).unwrap_or(&Type::Any)
    }

    fn add(&mut self, node: Type) -> Id {
        let id = Id(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    fn set(&mut self, id: Id, node: Type) {
        if let Some(place) = self.nodes.get_mut(usize::try_from(id.0).unwrap_or(usize::MAX)) {
            *place = node;
        }
    }
}

static UNTYPED: LazyLock<Types> =
    LazyLock::new(|| Types { nodes: vec![Type::Map { values: Id(0), atomic: false }] });

/// The root of one kind's types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root<'a> {
    pub(crate) types: &'a Types,
    pub(crate) id: Id,
}

impl<'a> Root<'a> {
    pub(crate) fn node(self) -> &'a Type {
        self.types.of(self.id)
    }

    /// The type of what no schema describes: maps have parts, and these are of the same type.
    pub(crate) fn untyped() -> Root<'static> {
        Root { types: &UNTYPED, id: Id(0) }
    }

    /// Whether anything may stand here.
    pub(crate) fn is_untyped(self) -> bool {
        std::ptr::eq(self.types, &raw const *UNTYPED)
    }

    /// What even an empty object has in this field, since Go's type has it in itself, not behind a pointer.
    pub(crate) fn zero(self, field: &str) -> Option<Value> {
        let inline = || self.field(field).is_some_and(Self::is_inline);
        let Type::Struct(node) = self.node() else { return None };
        if (&*node.name, field) == ("ReplicationControllerSpec", "template") {
            return None;
        }
        let zero = node.zeros.iter().find(|(name, _)| *name == field);
        zero.map(|(_, zero)| zero.clone()).or_else(|| inline().then(|| Map::new().into()))
    }

    fn is_inline(self) -> bool {
        const OTHERS: [&str; 11] = [
            "ObjectMeta",
            "DeploymentStrategy",
            "DaemonSetUpdateStrategy",
            "StatefulSetUpdateStrategy",
            "CustomResourceDefinitionNames",
            "CrossVersionObjectReference",
            "NodeSystemInfo",
            "NodeDaemonEndpoints",
            "ObjectReference",
            "EventSource",
            "VolumeAttachmentSource",
        ];
        let Type::Struct(node) = self.node() else { return false };
        let name = &*node.name;
        name.ends_with("Spec") || name.ends_with("Status") || OTHERS.contains(&name)
    }

    pub(crate) fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// The type of a field of this struct or of the values of this map.
    pub(crate) fn field(self, name: &str) -> Option<Self> {
        match self.node() {
            Type::Struct(node) => match node.fields.get(name) {
                None if node.open => Some(Root::untyped()),
                id => id.map(|id| self.at(*id)),
            },
            Type::Map { values, .. } => Some(self.at(*values)),
            _ => None,
        }
    }
}
