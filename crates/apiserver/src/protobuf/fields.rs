//! Numbers and kinds of the types' fields: `cargo xtask protobuf-fields`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("fields.txt");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// In JSON; `-`: the fields within are the outer message's own.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a field holds: one value, several, or several by text. `[int]`: a message whose field 1 holds several.
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
    types().get(name)
}

/// The fields of a kind's objects, or of a list of them; what any group may use is `meta`'s.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<Cow<'static, Fields>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    // Groups of others may begin with the same word.
    let group =
        group.strip_suffix(".k8s.io").map_or(group, |it| it.split('.').next().unwrap_or(it));
    let find = |kind: &str| {
        let known = types().get_key_value(format!("{group}.{version}.{kind}").as_str());
        known.or_else(|| types().get_key_value(format!("meta.v1.{kind}").as_str()))
    };
    match find(kind) {
        Some((_, fields)) => Some(Cow::Borrowed(fields)),
        None => find(kind.strip_suffix("List")?).map(|(item, _)| Cow::Owned(list_of(item))),
    }
}

fn list_of(item: &'static str) -> Fields {
    let metadata = Kind::One { kind: "meta.v1.ListMeta", pointer: false };
    let items = Kind::List(item);
    Fields::from([
        (1, Field { name: "metadata", kind: metadata }),
        (2, Field { name: "items", kind: items }),
    ])
}

fn types() -> &'static BTreeMap<&'static str, Fields> {
    static TYPES: OnceLock<BTreeMap<&str, Fields>> = OnceLock::new();
    TYPES.get_or_init(read)
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
                let known = known || kind == "[text]";
                assert!(known || types.contains_key(kind), "{name} {field:?}");
            }
        }
    }
}
