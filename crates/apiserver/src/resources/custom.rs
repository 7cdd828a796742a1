//! Kinds that CustomResourceDefinitions declare.
//!
//! A definition lives as long as the process: kinds are small values that are copied about, and definitions change
//! rarely. A changed one is a new value with the same identity.

use super::columns::{AGE, Column, NAME};
use super::{Kind, Resource, Scale, StatusRule};
use crate::schema::{Root, custom::Schema, decode};
use crate::table::Cell;
use crate::table::path::Path;
use serde_json::Value;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

/// A kind by its identity, with its definition at some moment.
#[derive(Clone, Copy)]
pub struct Custom {
    id: u32,
    definition: &'static OnceLock<Definition>,
}

#[derive(Debug)]
struct Definition {
    versions: Vec<Version>,
    /// Which of them is stored.
    stored: usize,
}

/// A version of a custom kind.
#[derive(Debug)]
pub(crate) struct Version {
    resource: Resource,
    served: bool,
    schema: Schema,
}

impl Version {
    pub(crate) fn root(&self) -> Root<'_> {
        self.schema.root()
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Drops what the schema does not know, fills in its defaults, and says what was dropped.
    pub(crate) fn complete(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        decode::prune(self.root(), object, &mut unknown);
        self.schema.complete(object);
        unknown
    }
}

impl Custom {
    /// The kind that a definition (valid, with its defaults) declares.
    pub(crate) fn declare(id: u32, definition: &Value) -> Option<Self> {
        let definition_of: &'static OnceLock<Definition> = Box::leak(Box::default());
        let custom = Self { id, definition: definition_of };
        let versions = definition["spec"]["versions"].as_array()?;
        let compiled = versions.iter().map(|version| custom.compile(&definition["spec"], version));
        let compiled: Vec<Version> = compiled.collect();
        let stored = versions.iter().position(|version| version["storage"] == true)?;
        definition_of.set(Definition { versions: compiled, stored }).ok()?;
        Some(custom)
    }

    fn compile(self, spec: &Value, version: &Value) -> Version {
        let names = &spec["names"];
        let subresources = &version["subresources"];
        let scale = &subresources["scale"];
        let pointer = |field: &str| scale[field].as_str().map(|path| keep(&path.replace('.', "/")));
        let resource = Resource {
            kind: Kind::Custom(self),
            group: text(&spec["group"]),
            version: text(&version["name"]),
            name: text(&names["kind"]),
            plural: text(&names["plural"]),
            singular: text(&names["singular"]),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            transient: false,
            status: match subresources["status"].is_object() {
                true => StatusRule::Separate,
                false => StatusRule::Absent,
            },
            scale: pointer("specReplicasPath").map(|wanted| Scale {
                wanted,
                current: pointer("statusReplicasPath").unwrap_or("/status/replicas"),
                selector: pointer("labelSelectorPath").unwrap_or("/no/selector"),
            }),
            generation: true,
            columns: columns(&version["additionalPrinterColumns"]),
            renamed: &[],
        };
        let schema = Schema::compile(&version["schema"]["openAPIV3Schema"]);
        Version { resource, served: version["served"] == true, schema }
    }

    pub(crate) fn id(self) -> u32 {
        self.id
    }

    /// In the version in which objects are stored.
    pub(super) fn stored(self) -> &'static Resource {
        let definition = self.definition.get().expect("declare() sets it");
        &definition.versions[definition.stored].resource
    }

    pub(crate) fn version(self, name: &str) -> Option<&'static Version> {
        let mut versions = self.definition.get()?.versions.iter();
        versions.find(|version| version.resource.version == name)
    }

    pub(crate) fn served(self) -> impl Iterator<Item = &'static Resource> {
        let versions = self.definition.get().into_iter().flat_map(|it| &it.versions);
        versions.filter(|version| version.served).map(|version| &version.resource)
    }
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Custom({})", self.id)
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Custom {}

impl PartialOrd for Custom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Custom {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for Custom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

fn keep(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn text(value: &Value) -> &'static str {
    keep(value.as_str().unwrap_or_default())
}

fn texts(value: &Value) -> &'static [&'static str] {
    let list = value.as_array().into_iter().flatten();
    Box::leak(list.filter_map(Value::as_str).map(keep).collect())
}

/// Name and age, where nothing else is wanted.
fn columns(wanted: &Value) -> &'static [Column] {
    let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
    let mut columns = vec![NAME];
    columns.extend(wanted.iter().map(|column| Column {
        name: text(&column["name"]),
        shape: text(&column["type"]),
        wide: column["priority"].as_i64().unwrap_or(0) > 0,
        cell: cell(column),
    }));
    if wanted.is_empty() {
        columns.push(AGE);
    }
    Box::leak(columns.into_boxed_slice())
}

fn cell(column: &Value) -> Cell {
    let path = Box::leak(Box::new(Path::parse(column["jsonPath"].as_str().unwrap_or_default())));
    if column["type"] == "date" { Cell::SincePath(path) } else { Cell::Path(path) }
}

/// Versions by preference: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then the rest by name
/// (`k8s.io/apimachinery/pkg/version`).
pub(crate) fn priority(version: &str) -> (u8, i64, i64, String) {
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let major: i64 = major.parse().ok()?;
        let minor = |text: &str| text.parse::<i64>().ok();
        match (rest, rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            ("", _, _) => Some((0, -major, 0)),
            (_, Some(beta), _) => Some((1, -major, -minor(beta)?)),
            (_, _, Some(alpha)) => Some((2, -major, -minor(alpha)?)),
            _ => None,
        }
    });
    let (stage, major, minor) = parsed.unwrap_or((3, 0, 0));
    (stage, major, minor, version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_by_preference() {
        let mut versions =
            ["foo1", "v1alpha1", "v1", "v11beta2", "v10", "v2", "v1beta1", "v3beta1"];
        versions.sort_by_key(|version| priority(version));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v11beta2", "v3beta1", "v1beta1", "v1alpha1", "foo1"]
        );
    }
}
