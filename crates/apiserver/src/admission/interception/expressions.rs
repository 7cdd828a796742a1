//! What is wrong with the expressions of a policy or of a webhook.

use super::{list, text};
use crate::admission::causes::Causes;
use crate::admission::names;
use crate::expression::RESERVED;
use crate::expression::check::{Checker, Type};
use serde_json::Value;

/// The longest text of an annotation for the audit log, in octets.
const LONGEST_ANNOTATION: usize = 5 * 1024;

/// The expressions of one object; variables are known to those that come after them.
pub(super) struct Expressions {
    params: bool,
    checker: Checker,
}

impl Expressions {
    pub(super) fn new(params: bool) -> Self {
        Self { params, checker: Checker::of_admission(params, true) }
    }

    pub(super) fn conditions(&self, conditions: &Value, path: &str, causes: &mut Causes) {
        let all = list(conditions);
        if all.len() > 64 {
            causes.too_many(path, all.len(), 64);
        }
        for (index, condition) in all.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let plain = Checker::of_admission(self.params, true);
            match text(condition, "expression").trim() {
                "" => causes.required(&format!("{path}.expression"), ""),
                it => expect(&plain, it, &[Type::Bool], &format!("{path}.expression"), causes),
            }
            let (name, field) = (text(condition, "name"), format!("{path}.name"));
            if name.is_empty() {
                causes.required(&field, "");
                continue;
            }
            causes.each(&field, &name.into(), names::qualified(name));
            if all[..index].iter().any(|other| other["name"] == condition["name"]) {
                causes.duplicate(&field, &condition["name"]);
            }
        }
    }

    pub(super) fn variable(&mut self, variable: &Value, path: &str, causes: &mut Causes) {
        let name = text(variable, "name");
        if name.trim().is_empty() {
            causes.required(&format!("{path}.name"), "name is not specified");
        } else if !is_identifier(name) {
            let detail = "must be a valid CEL identifier";
            causes.invalid(&format!("{path}.name"), &name.into(), detail);
        }
        let (made, field) = (text(variable, "expression"), format!("{path}.expression"));
        if made.trim().is_empty() {
            return causes.required(&field, "expression is not specified");
        }
        match self.checker.check(made) {
            Ok(found) => self.checker.declare(&format!("variables.{name}"), found),
            Err(detail) => {
                causes.invalid(&field, &made.into(), &detail);
                self.checker.declare(&format!("variables.{name}"), Type::Dyn);
            }
        }
    }

    pub(super) fn validation(&self, validation: &Value, path: &str, causes: &mut Causes) {
        let decides = text(validation, "expression");
        let field = format!("{path}.expression");
        match decides.trim() {
            "" => causes.required(&field, "expression is not specified"),
            _ => expect(&self.checker, decides, &[Type::Bool], &field, causes),
        }
        let (says, field) =
            (text(validation, "messageExpression"), format!("{path}.messageExpression"));
        if !says.is_empty() && says.trim().is_empty() {
            causes.invalid(&field, &says.into(), "must be non-empty if specified");
        } else if !says.is_empty() {
            let checker = self.checker.clone().without("authorizer");
            expect(&checker, says, &[Type::String], &field, causes);
        }
    }

    pub(super) fn annotation(&self, annotation: &Value, path: &str, causes: &mut Causes) {
        let (says, field) =
            (text(annotation, "valueExpression").trim(), format!("{path}.valueExpression"));
        match says.len() {
            0 => causes.required(&field, "valueExpression is not specified"),
            length if length > LONGEST_ANNOTATION => {
                let detail = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
                causes.required(&field, &detail);
            }
            _ => expect(&self.checker, says, &[Type::String, Type::Null], &field, causes),
        }
    }

    pub(super) fn mutation(&mut self, mutation: &Value, path: &str, causes: &mut Causes) {
        self.checker.makes_patches = true;
        let object = Type::Made("Object".into());
        let patches = Type::list(Type::Made("JSONPatch".into()));
        let (field, other, wanted) = match text(mutation, "patchType") {
            "" => return causes.required(&format!("{path}.patchType"), ""),
            "JSONPatch" => ("jsonPatch", "applyConfiguration", patches),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", object),
            kind => {
                let supported = ["ApplyConfiguration", "JSONPatch"];
                return causes.unsupported(&format!("{path}.patchType"), kind, &supported);
            }
        };
        let kind = text(mutation, "patchType");
        let made = text(&mutation[field], "expression").trim();
        let place = format!("{path}.{field}.expression");
        if !mutation[field].is_object() {
            let detail = format!("must be specified when patchType is {kind}");
            causes.required(&format!("{path}.{field}"), &detail);
        } else if made.is_empty() {
            causes.required(&place, "");
        } else {
            expect(&self.checker, made, &[wanted], &place, causes);
        }
        if mutation[other].is_object() {
            let detail = format!("must not be specified when patchType is {kind}");
            causes.invalid(&format!("{path}.{other}"), &format!("{{{other}}}").into(), &detail);
        }
    }
}

fn expect(checker: &Checker, made: &str, wanted: &[Type], field: &str, causes: &mut Causes) {
    if let Err(detail) = checker.expect(made, wanted) {
        causes.invalid(field, &made.into(), &detail);
    }
}

fn is_identifier(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(good)
        && !RESERVED.contains(&name)
}
