//! Rules in the Common Expression Language (`x-kubernetes-validations`).
//!
//! How they are evaluated, `expression` knows.

use super::Verdict;
use crate::error::{Cause, Reason};
use crate::expression::{Expression, RESERVED, Scope};
use cel::Value as Cel;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Compiled rules and messages by their text.
#[derive(Debug, Default)]
pub(super) struct Rules {
    programs: BTreeMap<String, Result<Expression, String>>,
}

impl Rules {
    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    pub(super) fn add(&mut self, rules: &Value) {
        for rule in rules.as_array().into_iter().flatten() {
            for text in ["rule", "messageExpression"].iter().filter_map(|it| rule[*it].as_str()) {
                let parsed = || Expression::parse(text);
                self.programs.entry(text.to_owned()).or_insert_with(parsed);
            }
        }
    }

    /// Those that are no CEL, or call functions that are not there.
    #[cfg(test)]
    pub(super) fn broken(&self) -> Vec<String> {
        let failed = |(text, program): (&String, &Result<Expression, String>)| {
            Some(format!("{text}: {}", program.as_ref().err()?))
        };
        self.programs.iter().filter_map(failed).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.programs.len()
    }

    /// Evaluates the rules of one value; those that compare with an old value need one.
    pub(super) fn check(
        &self,
        rules: &Value,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        verdict: &mut Verdict,
    ) {
        let Some(rules) = rules.as_array().filter(|rules| !rules.is_empty()) else { return };
        let mut scope = scope(value, old);
        for rule in rules {
            let text = rule["rule"].as_str().unwrap_or_default();
            if text.contains("oldSelf") && old.is_none() {
                continue;
            }
            match self.evaluate(text, &mut scope) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => {
                    verdict.causes.push(self.cause(rule, value, path, &mut scope))
                }
                Ok(_) => verdict
                    .unchecked
                    .push(format!("the rule {text:?} has no yes or no as its result")),
                Err(error) => {
                    verdict.unchecked.push(format!("the rule {text:?} was not checked: {error}"))
                }
            }
        }
    }

    fn evaluate(&self, text: &str, scope: &mut Scope) -> Result<Cel, String> {
        let program = self.programs.get(text).ok_or("it is not compiled")?;
        let program = program.as_ref().map_err(Clone::clone)?;
        scope.evaluate(program).map_err(|fault| fault.to_string())
    }

    fn cause(&self, rule: &Value, value: &Value, path: &str, scope: &mut Scope) -> Cause {
        let text = |field: &str| rule[field].as_str().filter(|text| !text.is_empty());
        let computed = text("messageExpression").and_then(|it| match self.evaluate(it, scope) {
            Ok(Cel::String(message)) => Some(message.to_string()),
            _ => None,
        });
        let detail = computed.or_else(|| text("message").map(str::to_owned));
        let detail =
            detail.unwrap_or_else(|| format!("failed rule: {}", text("rule").unwrap_or_default()));
        let field = match text("fieldPath") {
            Some(below) => format!("{path}{below}"),
            None if path.is_empty() => "<nil>".to_owned(),
            None => path.to_owned(),
        };
        let shown = match value {
            Value::Object(_) => "\"object\"".to_owned(),
            Value::Array(_) => "\"array\"".to_owned(),
            value => value.to_string(),
        };
        match rule["reason"].as_str() {
            Some("FieldValueRequired") => Cause {
                reason: Reason::Required,
                field,
                message: format!("Required value: {detail}"),
            },
            Some("FieldValueForbidden") => {
                Cause { reason: Reason::Forbidden, field, message: format!("Forbidden: {detail}") }
            }
            Some("FieldValueDuplicate") => Cause {
                reason: Reason::Duplicate,
                field,
                message: format!("Duplicate value: {shown}"),
            },
            _ => Cause {
                reason: Reason::Invalid,
                field,
                message: match value {
                    Value::Object(_) | Value::Array(_) => format!("Invalid value: {detail}"),
                    _ => format!("Invalid value: {shown}: {detail}"),
                },
            },
        }
    }
}

fn scope(value: &Value, old: Option<&Value>) -> Scope {
    let mut scope = Scope::new();
    scope.set("self", &escaped(value));
    if let Some(old) = old {
        scope.set("oldSelf", &escaped(old));
    }
    scope
}

/// With the names of fields as CEL can write them; keys of maps that are no identifiers stay, as they are looked up
/// by text.
fn escaped(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let of = |(name, value): (&String, &Value)| (identifier(name), escaped(value));
            Value::Object(fields.iter().map(of).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(escaped).collect(),
        value => value.clone(),
    }
}

fn identifier(name: &str) -> String {
    // Fields of such a name are `__name__`.
    if RESERVED.contains(&name) { format!("__{name}__") } else { name.to_owned() }
}
