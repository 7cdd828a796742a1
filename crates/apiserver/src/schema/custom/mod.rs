//! The structural schemas of custom kinds: pruning by types, defaults, and the rules that values have to keep.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

mod rules;
mod validate;

use super::compile::{Compiler, compile};
use super::{Id, Root, Struct, Type, Types, builtin};
use crate::error::{Cause, Reason};
use crate::resources::Kind;
use regex::Regex;
use rules::Rules;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A version's schema, with everything that is worth compiling once.
#[derive(Debug)]
pub(crate) struct Schema {
    source: Value,
    types: Types,
    root: Id,
    /// By their text; those that are no regular expressions are left out.
    patterns: BTreeMap<String, Regex>,
    rules: Rules,
    fills: bool,
}

/// What validation found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) causes: Vec<Cause>,
    /// Rules that could not be evaluated here, a sentence each.
    pub(crate) unchecked: Vec<String>,
}

impl Schema {
    pub(crate) fn compile(source: &Value) -> Self {
        let mut types = Types::default();
        let whole = with_metadata(source);
        let definitions = builtin::definitions(&mut std::iter::empty());
        let rules = builtin::rules();
        let compiler =
            Compiler { definitions: &definitions, rules: &rules, atomic: &builtin::ATOMIC };
        let root = match whole["properties"].is_object() {
            true => compile(&mut types, &mut BTreeMap::new(), &compiler, &whole),
            false => types.add(Type::Struct(Struct { open: true, ..Struct::default() })),
        };
        let (mut patterns, mut rules) = (BTreeMap::new(), Rules::default());
        gather(source, &mut patterns, &mut rules);
        Self { source: source.clone(), types, root, patterns, rules, fills: fills(source) }
    }

    pub(crate) fn root(&self) -> Root<'_> {
        Root { types: &self.types, id: self.root }
    }

    /// As the OpenAPI document shows it.
    pub(crate) fn document(&self) -> Value {
        with_metadata(&self.source)
    }

    /// Whether it has defaults.
    pub(crate) fn fills(&self) -> bool {
        self.fills
    }

    /// Fills in the defaults.
    pub(crate) fn complete(&self, object: &mut Value) {
        complete(&self.source, object);
    }

    /// Checks an object; `old` is what it replaces.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Verdict {
        let mut verdict = Verdict::default();
        let pass = |verdict: &mut Verdict, with_rules| {
            let mut work = validate::Work { schema: self, verdict, with_rules };
            work.check(&self.source, object, old, "");
        };
        pass(&mut verdict, false);
        // Rules rely on values that are there and of the right type.
        if !verdict.causes.iter().any(|cause| cause.reason.blocks_rules()) {
            let mut ruled = Verdict::default();
            pass(&mut ruled, true);
            verdict.unchecked.append(&mut ruled.unchecked);
            let new = ruled.causes.into_iter().filter(|cause| !verdict.causes.contains(cause));
            let new: Vec<Cause> = new.collect();
            verdict.causes.extend(new);
        } else if !self.rules.is_empty() {
            let message = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            let (reason, field) = (Reason::Invalid, "<nil>".to_owned());
            verdict.causes.push(Cause { reason, field, message: message.to_owned() });
        }
        verdict
    }
}

/// The fields that every object has, as built-in kinds describe them.
static COMMON: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let example = Kind::ConfigMap.resource();
    let mut definitions = builtin::definitions(&mut std::iter::once(example));
    let fields = definitions.remove(&builtin::name(example)).map(|mut it| it["properties"].take());
    let mut fields = fields.unwrap_or_default();
    ["apiVersion", "kind", "metadata"]
        .map(|name| (name.to_owned(), fields[name].take()))
        .into_iter()
        .collect()
});

fn with_metadata(source: &Value) -> Value {
    let mut whole = if source.is_object() { source.clone() } else { json!({"type": "object"}) };
    let Some(Value::Object(properties)) = whole.get_mut("properties") else { return whole };
    properties.extend(COMMON.clone());
    whole
}

fn gather(schema: &Value, patterns: &mut BTreeMap<String, Regex>, rules: &mut Rules) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(pattern)) = fields.get("pattern")
                && let Ok(compiled) = Regex::new(pattern)
            {
                patterns.insert(pattern.clone(), compiled);
            }
            rules.add(fields.get("x-kubernetes-validations").unwrap_or(&Value::Null));
            fields.values().for_each(|schema| gather(schema, patterns, rules));
        }
        Value::Array(items) => items.iter().for_each(|schema| gather(schema, patterns, rules)),
        _ => {}
    }
}

fn fills(schema: &Value) -> bool {
    let Some(parts) = schema.as_object() else { return false };
    let fields = parts.get("properties").and_then(Value::as_object).into_iter().flatten();
    let inner = ["items", "additionalProperties"].into_iter().filter_map(|name| parts.get(name));
    parts.contains_key("default") || fields.map(|(_, field)| field).chain(inner).any(fills)
}

fn complete(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => complete_fields(schema, fields),
        Value::Array(items) => items.iter_mut().for_each(|item| complete(&schema["items"], item)),
        _ => {}
    }
}

fn complete_fields(schema: &Value, fields: &mut Map<String, Value>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let missing = match fields.get(name) {
            None => true,
            Some(value) => value.is_null() && schema["nullable"] != true,
        };
        if missing && let Some(default) = schema.get("default") {
            fields.insert(name.clone(), default.clone());
        }
        if let Some(value) = fields.get_mut(name) {
            complete(schema, value);
        }
    }
    let more = &schema["additionalProperties"];
    if more.is_object() {
        fields.values_mut().for_each(|value| complete(more, value));
    }
}

#[cfg(test)]
mod tests;
