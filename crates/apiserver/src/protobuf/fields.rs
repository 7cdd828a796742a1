//! Numbers and kinds of the types' fields: `cargo xtask protobuf-fields`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("fields.txt");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// In JSON; `-`: the fields within are the outer message's own.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a field holds: one value, several, or several by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `pointer`: zero is not the same as nothing.
    One {
        kind: &'static str,
        pointer: bool,
    },
    List(&'static str),
    Map(&'static str),
}

pub(super) type Fields = BTreeMap<u64, Field>;

pub(super) fn of(name: &str) -> Option<&'static Fields> {
    static TYPES: OnceLock<BTreeMap<&str, Fields>> = OnceLock::new();
    TYPES.get_or_init(read).get(name)
}

fn read() -> BTreeMap<&'static str, Fields> {
    let (mut types, mut current) = (BTreeMap::new(), "");
    for line in TABLE.lines() {
        match line.strip_prefix(' ') {
            None => {
                current = line;
                types.insert(current, Fields::new());
            }
            Some(field) => {
                let mut words = field.split(' ');
                let (name, number) = (words.next(), words.next().and_then(|it| it.parse().ok()));
                let kind = words.next().map(kind);
                if let (Some(name), Some(number), Some(kind)) = (name, number, kind) {
                    types.entry(current).or_default().insert(number, Field { name, kind });
                }
            }
        }
    }
    types
}

fn kind(word: &'static str) -> Kind {
    if let Some(kind) = word.strip_prefix("[]") {
        return Kind::List(kind);
    }
    match word.strip_prefix("{}") {
        Some(kind) => Kind::Map(kind),
        None => match word.strip_prefix('*') {
            Some(kind) => Kind::One { kind, pointer: true },
            None => Kind::One { kind: word, pointer: false },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_is_there() {
        let own = [
            "int",
            "bool",
            "double",
            "text",
            "bytes",
            "Time",
            "MicroTime",
            "Quantity",
            "IntOrString",
            "RawExtension",
            "FieldsV1",
            "JSON",
        ];
        let types = read();
        assert!(types.len() > 300);
        for (name, fields) in &types {
            for field in fields.values() {
                let (Kind::One { kind, .. } | Kind::List(kind) | Kind::Map(kind)) = field.kind;
                let known = own.contains(&kind) || kind.starts_with("JSONSchemaPropsOr");
                // What other authenticators say of a user, which no client of ours sends.
                let odd = field.name == "extra" && kind.starts_with("[]");
                assert!(known || odd || types.contains_key(kind), "{name} {field:?}");
            }
        }
    }
}
