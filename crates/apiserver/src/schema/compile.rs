//! From OpenAPI schemas to types.

use super::{Id, ListRule, Struct, Type, Types, zeros};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What one schema is compiled with.
pub(crate) struct Compiler<'a> {
    /// Schemas by name, which `$ref` refers to.
    pub(crate) definitions: &'a Map<String, Value>,
    /// Rules of lists and maps by type and field, where the schemas do not say them.
    pub(crate) rules: &'a BTreeMap<(&'a str, &'a str), &'a str>,
    /// Types that are replaced as a whole.
    pub(crate) atomic: &'a [&'a str],
}

/// Adds the schema's types; the named ones once each.
pub(crate) fn compile(
    types: &mut Types,
    known: &mut BTreeMap<String, Id>,
    compiler: &Compiler<'_>,
    schema: &Value,
) -> Id {
    Work { types, known, compiler }.schema(schema, None)
}

struct Work<'a, 'b> {
    types: &'a mut Types,
    known: &'a mut BTreeMap<String, Id>,
    compiler: &'a Compiler<'b>,
}

impl Work<'_, '_> {
    /// `rule`: what the field that has this schema says about it.
    fn schema(&mut self, schema: &Value, rule: Option<&str>) -> Id {
        match reference(schema) {
            Some(name) => self.named(name, rule),
            None => {
                let node = self.inline(schema, "", rule);
                self.types.add(node)
            }
        }
    }

    fn named(&mut self, name: &str, rule: Option<&str>) -> Id {
        if rule.is_none()
            && let Some(id) = self.known.get(name)
        {
            return *id;
        }
        let id = self.types.add(Type::Any);
        if rule.is_none() {
            self.known.insert(name.to_owned(), id);
        }
        let definitions = self.compiler.definitions;
        let schema = definitions.get(name).unwrap_or(&Value::Null);
        let node = self.inline(schema, name, rule);
        self.types.set(id, node);
        id
    }

    fn inline(&mut self, schema: &Value, name: &str, rule: Option<&str>) -> Type {
        let short = name.rsplit('.').next().unwrap_or_default();
        match short {
            "Quantity" => return Type::Quantity,
            "Time" | "MicroTime" => return Type::Time { micro: short == "MicroTime" },
            "RawExtension"
            | "FieldsV1"
            | "JSON"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrStringArray" => return Type::Any,
            _ => {}
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return Type::IntegerOrText;
        }
        let rule = rule.or_else(|| schema["x-kubernetes-map-type"].as_str());
        match schema["type"].as_str() {
            Some("string") if schema["format"] == "byte" => Type::Bytes,
            Some("string") => Type::Text,
            Some("integer") => Type::Integer { long: schema["format"] != "int32" },
            Some("number") => Type::Number,
            Some("boolean") => Type::Flag,
            Some("array") => self.list(schema, rule),
            Some("object") | None if schema["properties"].is_object() => {
                Type::Struct(self.structure(schema, name, short, rule))
            }
            Some("object") if schema["additionalProperties"].is_object() => {
                let values = self.schema(&schema["additionalProperties"], None);
                Type::Map { values, atomic: rule == Some("atomic") }
            }
            Some("object") if schema["x-kubernetes-preserve-unknown-fields"] == true => {
                Type::Struct(Struct {
                    open: true,
                    atomic: rule == Some("atomic"),
                    ..Struct::default()
                })
            }
            _ => Type::Any,
        }
    }

    fn list(&mut self, schema: &Value, rule: Option<&str>) -> Type {
        let items = self.schema(&schema["items"], None);
        let rule = match schema["x-kubernetes-list-type"].as_str().or(rule) {
            Some("set") => ListRule::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                ListRule::Keyed(keys.filter_map(Value::as_str).map(Into::into).collect())
            }
            Some("atomic") | None => ListRule::Atomic,
            Some(keys) => ListRule::Keyed(keys.split(',').map(Into::into).collect()),
        };
        Type::List { items, rule }
    }

    fn structure(&mut self, schema: &Value, name: &str, short: &str, rule: Option<&str>) -> Struct {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let fields = properties.map(|(field, schema)| {
            let rule = self.compiler.rules.get(&(name, field.as_str())).copied();
            (field.as_str().into(), self.schema(schema, rule))
        });
        let fields: BTreeMap<_, _> = fields.collect();
        // Types of several versions have one short name.
        let zeros = zeros::of(short).into_iter().filter(|(field, _)| fields.contains_key(*field));
        Struct {
            name: short.into(),
            zeros: zeros.collect(),
            fields,
            open: schema["x-kubernetes-preserve-unknown-fields"] == true,
            atomic: rule == Some("atomic") || self.compiler.atomic.contains(&name),
        }
    }
}

/// The name behind `$ref`, also within `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    direct.map(|path| path.rsplit('/').next().unwrap_or(path))
}
