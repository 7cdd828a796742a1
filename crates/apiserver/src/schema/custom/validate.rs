//! Values against a schema; wording of `k8s.io/kube-openapi/pkg/validation` and `k8s.io/apiextensions-apiserver`.

use super::{Schema, Verdict};
use crate::error::{Cause, Reason};
use serde_json::{Map, Value};

pub(super) struct Work<'a> {
    pub(super) schema: &'a Schema,
    pub(super) verdict: &'a mut Verdict,
    pub(super) with_rules: bool,
}

impl Work<'_> {
    pub(super) fn check(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(wanted) = wrong_type(schema, value) {
            let (name, found) = (type_name(value), path);
            let detail = format!("{found} in body must be of type {wanted}: {name:?}");
            self.push(
                Reason::TypeInvalid,
                path,
                format!("Invalid value: {}: {detail}", &format!("{name:?}")),
            );
            return;
        }
        self.check_enum(schema, value, path);
        match value {
            Value::String(text) => self.check_text(schema, text, path),
            Value::Number(_) => self.check_number(schema, value, path),
            Value::Array(items) => self.check_list(schema, items, old, path),
            Value::Object(fields) => self.check_fields(schema, fields, old, path),
            _ => {}
        }
        self.check_junctors(schema, value, path);
        if self.with_rules {
            let rules = &schema["x-kubernetes-validations"];
            self.schema.rules.check(rules, value, old, path, self.verdict);
        }
    }

    fn check_enum(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(allowed) = schema["enum"].as_array().filter(|all| !all.contains(value)) else {
            return;
        };
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let message =
            format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        self.push(Reason::NotSupported, path, message);
    }

    fn check_text(&mut self, schema: &Value, text: &str, path: &str) {
        let value = format!("{text:?}");
        let length = text.chars().count() as u64;
        // The first fault is the only one that is told.
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            let message = format!("Too long: may not be more than {most} bytes");
            self.push(Reason::TooLong, path, message);
        } else if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
            let detail = format!("{} in body should be at least {least} chars long", path);
            self.invalid(path, &value, &detail);
        } else if let Some(pattern) = schema["pattern"].as_str()
            && let Some(compiled) = self.schema.patterns.get(pattern)
            && !compiled.is_match(text)
        {
            let detail = format!("{} in body should match '{pattern}'", path);
            self.invalid(path, &value, &detail);
        }
    }

    fn check_number(&mut self, schema: &Value, value: &Value, path: &str) {
        let number = value.as_f64().unwrap_or(0.0);
        let over = schema["maximum"].as_f64().map(|limit| number.total_cmp(&limit));
        let under = schema["minimum"].as_f64().map(|limit| limit.total_cmp(&number));
        for (beyond, bound, exclusive, words) in [
            (under, "minimum", "exclusiveMinimum", "greater than"),
            (over, "maximum", "exclusiveMaximum", "less than"),
        ] {
            let excluded = schema[exclusive] == true;
            if beyond.is_some_and(|it| it.is_gt() || excluded && it.is_eq()) {
                let words =
                    if excluded { words.to_owned() } else { format!("{words} or equal to") };
                let detail = format!("{path} in body should be {words} {}", schema[bound]);
                self.invalid(path, &value.to_string(), &detail);
            }
        }
        if let Some(unit) = schema["multipleOf"].as_f64().filter(|unit| *unit > 0.0)
            && (number / unit).fract() != 0.0
        {
            let detail =
                format!("{} in body should be a multiple of {}", path, schema["multipleOf"]);
            self.invalid(path, &value.to_string(), &detail);
        }
    }

    fn check_list(&mut self, schema: &Value, items: &[Value], old: Option<&Value>, path: &str) {
        let count = items.len() as u64;
        if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
            let detail = format!("{} in body should have at least {least} items", path);
            self.invalid(path, &count.to_string(), &detail);
        }
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
            let message = format!("Too many: {count}: must have at most {most} items");
            self.push(Reason::TooMany, path, message);
        }
        let key = list_key(schema);
        for (index, item) in items.iter().enumerate() {
            let own = key(item);
            let place = format!("{path}[{index}]");
            if let Some(own) = &own
                && items[..index].iter().any(|other| key(other).as_ref() == Some(own))
            {
                self.push(Reason::Duplicate, &place, format!("Duplicate value: {own}"));
            }
            let before = old.and_then(Value::as_array).into_iter().flatten();
            let before = own
                .as_ref()
                .and_then(|own| before.clone().find(|it| key(it).as_ref() == Some(own)));
            self.check(&schema["items"], item, before, &place);
        }
    }

    fn check_fields(
        &mut self,
        schema: &Value,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
    ) {
        let count = fields.len() as u64;
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                self.push(Reason::Required, &join(path, name), "Required value".into());
            }
        }
        if let Some(least) = schema["minProperties"].as_u64().filter(|least| count < *least) {
            let detail = format!("{} in body should have at least {least} properties", path);
            self.invalid(path, &count.to_string(), &detail);
        }
        if let Some(most) = schema["maxProperties"].as_u64().filter(|most| count > *most) {
            let message = format!("Too many: {count}: must have at most {most} items");
            self.push(Reason::TooMany, path, message);
        }
        for (name, value) in fields {
            let more = &schema["additionalProperties"];
            let schema = schema["properties"].get(name).unwrap_or(more);
            // The server's own fields were checked before.
            if !schema.is_object() || path.is_empty() && name == "metadata" {
                continue;
            }
            self.check(schema, value, old.and_then(|old| old.get(name)), &join(path, name));
        }
    }

    fn check_junctors(&mut self, schema: &Value, value: &Value, path: &str) {
        let fits = |schema: &Value| {
            let mut verdict = Verdict::default();
            Work { schema: self.schema, verdict: &mut verdict, with_rules: false }
                .check(schema, value, None, path);
            verdict.causes.is_empty()
        };
        let list = |name: &str| schema[name].as_array().map_or(&[][..], Vec::as_slice);
        let count = |name: &str| list(name).iter().filter(|schema| fits(schema)).count();
        let subject = path;
        let mut faults = Vec::new();
        if !list("oneOf").is_empty() && count("oneOf") != 1 {
            let found = count("oneOf");
            let found = if found == 0 {
                "none valid".to_owned()
            } else {
                format!("{found} valid alternatives")
            };
            faults.push(format!(
                "{subject:?} must validate one and only one schema (oneOf). Found {found}"
            ));
        }
        if !list("anyOf").is_empty() && count("anyOf") == 0 {
            faults.push(format!("{subject:?} must validate at least one schema (anyOf)"));
        }
        if count("allOf") < list("allOf").len() {
            faults.push(format!("{subject:?} must validate all the schemas (allOf)"));
        }
        if schema["not"].is_object() && fits(&schema["not"]) {
            faults.push(format!("{subject:?} must not validate the schema (not)"));
        }
        for fault in faults {
            self.invalid(path, "", &fault);
        }
    }

    fn invalid(&mut self, path: &str, value: &str, detail: &str) {
        let value = if value.is_empty() { "\"\"" } else { value };
        self.push(Reason::Invalid, path, format!("Invalid value: {value}: {detail}"));
    }

    fn push(&mut self, reason: Reason, path: &str, message: String) {
        let field = if path.is_empty() { "<nil>" } else { path }.to_owned();
        self.verdict.causes.push(Cause { reason, field, message });
    }
}

/// The type that is wanted instead.
fn wrong_type<'s>(schema: &'s Value, value: &Value) -> Option<&'s str> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then_some("integer,string");
    }
    let wanted = schema["type"].as_str()?;
    let fits = match wanted {
        "string" => value.is_string(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|it| it.fract() == 0.0)
        }
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    (!fits).then_some(wanted)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// By what items of a list must differ.
fn list_key(schema: &Value) -> impl Fn(&Value) -> Option<Value> {
    let kind = schema["x-kubernetes-list-type"].as_str().unwrap_or_default().to_owned();
    let keys = schema["x-kubernetes-list-map-keys"].as_array().cloned().unwrap_or_default();
    move |item| match kind.as_str() {
        "set" => Some(item.clone()),
        "map" => {
            let of = |key: &Value| {
                let name = key.as_str()?;
                Some((name.to_owned(), item.get(name)?.clone()))
            };
            Some(Value::Object(keys.iter().filter_map(of).collect()))
        }
        _ => None,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
