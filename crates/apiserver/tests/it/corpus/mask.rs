//! What differs from run to run, and the comparison of the rest.

use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) struct Mask {
    /// All requests of the file: what stands there is not made up by the server.
    text: String,
    namespace: String,
    patterns: Vec<(Regex, &'static str)>,
}

impl Mask {
    pub(super) fn new(text: &str, namespace: &str) -> Self {
        let patterns = [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
            ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
            // What addresses and node ports are made up.
            (r"\b10\.(9[6-9]|10\d|11[01])\.\d+\.\d+\b", "ADDRESS"),
            (r"\b3[0-2]\d\d\d\b", "PORT"),
            // Ages, and versions in messages about conflicts.
            (r"^(<invalid>|\d+m?s)$", "AGE"),
            (r"object meta: \d+", "object meta: VERSION"),
            (r"in record \(\d+\)", "in record (VERSION)"),
            // The end of a name that the server made up.
            (r"\b(made|MADE)-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "MADE-NAME"),
            // What it would change, in the words of Go's comparison.
            (r"(?s)previously negative\).*", "previously negative)"),
            // The whole object, in the words of either server.
            (r#"Invalid value: "\{.*\}": "#, "Invalid value: OBJECT: "),
        ];
        let patterns = patterns.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name));
        Self { text: text.to_owned(), namespace: namespace.to_owned(), patterns: patterns.into() }
    }

    pub(super) fn apply(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Number(number) if self.is_node_port(number.as_u64()) => *value = "PORT".into(),
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(fields) => {
                if let Some(prefix) = fields.get("generateName").cloned() {
                    fields.insert("name".into(), prefix);
                }
                // The recorded server had no controllers, so no accounts that it could give to pods.
                fields.retain(|name, value| {
                    !name.starts_with("serviceAccount") || value != "default"
                });
                // What a list is empty after, and what its items are, is said or not.
                fields.retain(|name, value| name != "continue" || value != "");
                if let Some(Value::Array(items)) = fields.get_mut("items") {
                    for item in items.iter_mut().filter_map(Value::as_object_mut) {
                        item.remove("apiVersion");
                        item.remove("kind");
                    }
                }
                for (name, value) in fields.iter_mut() {
                    match name.as_str() {
                        // Documentation, a page for some columns.
                        "columnDefinitions" => undescribe(value),
                        "managedFields" => {
                            self.apply(value);
                            sort_managers(value);
                        }
                        "resourceVersion" | "continue" if value != "" => *value = "VERSION".into(),
                        "remainingItemCount" => {}
                        _ => self.apply(value),
                    }
                }
            }
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.replace(&self.namespace, "NAMESPACE");
        for (pattern, name) in &self.patterns {
            let masked = pattern.replace_all(&text, |found: &regex::Captures<'_>| {
                if self.text.contains(&found[0]) { found[0].to_owned() } else { (*name).to_owned() }
            });
            text = masked.into_owned();
        }
        text
    }

    fn is_node_port(&self, number: Option<u64>) -> bool {
        number.is_some_and(|number| {
            (30_000..32_768).contains(&number) && !self.text.contains(&number.to_string())
        })
    }
}

/// They stand in the order of their times, which are whole seconds: one more or less goes by from run to run.
fn sort_managers(managers: &mut Value) {
    let key = |manager: &Value| {
        ["manager", "operation", "subresource", "apiVersion"]
            .map(|field| manager[field].to_string())
    };
    if let Some(list) = managers.as_array_mut() {
        list.sort_by_key(key);
    }
}

fn undescribe(columns: &mut Value) {
    for column in columns.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        column.remove("description");
    }
}

/// Where the real server says the causes of an error in any order, they are sorted, and the message that lists them
/// is cut.
pub(super) fn sort_causes(status: &mut Value) {
    if let Some(causes) = status.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(Value::to_string);
    }
    if let Some((start, _)) = status["message"].as_str().and_then(|text| text.split_once('[')) {
        status["message"] = start.into();
    }
}

/// Takes out what a JSON pointer leads to.
pub(super) fn remove(value: &mut Value, pointer: &str) {
    let (parent, last) = pointer.rsplit_once('/').expect("a JSON pointer");
    match value.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(last)),
        Some(Value::Array(items)) => {
            let index = last.parse().ok().filter(|index| *index < items.len());
            index.into_iter().for_each(|index: usize| items[index] = Value::Null);
        }
        _ => {}
    }
}

/// The places where two values differ, with what is there in each.
pub(super) fn differences(wanted: &Value, found: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    walk("", wanted, found, &mut lines);
    lines
}

fn walk(path: &str, wanted: &Value, found: &Value, lines: &mut Vec<(String, String)>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                let missing = Value::String("(missing)".into());
                let (a, b) = (a.get(name).unwrap_or(&missing), b.get(name).unwrap_or(&missing));
                walk(&format!("{path}/{name}"), a, b, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}/{index}"), a, b, lines);
            }
        }
        _ if wanted == found => {}
        _ => lines.push((path.to_owned(), format!("{wanted} ≠ {found}"))),
    }
}
