//! What is wrong with a text before it is evaluated: whether it is CEL, and which types its values have.
//!
//! Wording and places: cel-go's checker, as `k8s.io/apiserver/pkg/cel` calls it.

mod signatures;
mod types;

use super::functions;
use cel::ParseErrors;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo,
};
use std::collections::BTreeMap;
pub(crate) use types::Type;
use types::{Bindings, join};

/// As the real server's compiler words it.
pub(super) fn syntax(errors: &ParseErrors) -> String {
    let line = |error: &cel::ParseError| error.to_string().replace("\n| ", "\n | ");
    let lines: Vec<String> = errors.errors.iter().map(line).collect();
    format!("compilation failed: {}", lines.join("\n"))
}

/// The variables that an expression may use, with their types.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checker {
    names: BTreeMap<String, Type>,
    /// Objects to apply and JSON patches can be made.
    pub(crate) makes_patches: bool,
}

impl Checker {
    /// What policies and conditions of webhooks see.
    pub(crate) fn of_admission(params: bool, authorizer: bool) -> Self {
        let mut checker = Self::default();
        for name in ["object", "oldObject"] {
            checker.declare(name, Type::Dyn);
        }
        checker.declare("request", Type::Object("kubernetes.AdmissionRequest"));
        checker.declare("namespaceObject", Type::Object("kubernetes.Namespace"));
        if params {
            checker.declare("params", Type::Dyn);
        }
        if authorizer {
            checker.declare("authorizer", Type::Object("kubernetes.authorization.Authorizer"));
            let request = Type::Object("kubernetes.authorization.ResourceCheck");
            checker.declare("authorizer.requestResource", request);
        }
        checker
    }

    /// `a.b` is a field of a variable that has no others.
    pub(crate) fn declare(&mut self, name: &str, kind: Type) {
        self.names.insert(name.to_owned(), kind);
    }

    /// The same without a variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let below = format!("{name}.");
        self.names.retain(|it, _| it != name && !it.starts_with(&below));
        self
    }

    /// The type of what a text evaluates to, or all that is wrong with it.
    pub(crate) fn check(&self, text: &str) -> Result<Type, String> {
        let program = functions::env().compile(text).map_err(|errors| syntax(&errors))?;
        let mut work = Work { checker: self, locals: Vec::new(), faults: Vec::new() };
        let found = work.look(program.expression());
        if work.faults.is_empty() {
            return Ok(found);
        }
        let mut lines: Vec<(usize, usize, String)> = Vec::new();
        for (id, message) in work.faults {
            let (line, column) = place(program.source_info(), text, id);
            if !lines.iter().any(|it| (it.0, it.1) == (line, column)) {
                lines.push((line, column, message));
            }
        }
        lines.sort();
        let shown = lines.into_iter().map(|(line, column, message)| {
            let source = text.lines().nth(line - 1).unwrap_or_default();
            format!("ERROR: <input>:{line}:{column}: {message}\n | {source}\n | {:.>column$}", "^")
        });
        Err(format!("compilation failed: {}", shown.collect::<Vec<_>>().join("\n")))
    }

    /// As [`Self::check`], of a text that has to have one of these types.
    pub(crate) fn expect(&self, text: &str, wanted: &[Type]) -> Result<Type, String> {
        let found = self.check(text)?;
        match wanted {
            _ if wanted.contains(&found) => Ok(found),
            [one] => Err(format!("must evaluate to {one} but got {found}")),
            several => {
                let several: Vec<String> = several.iter().map(Type::to_string).collect();
                Err(format!("must evaluate to one of [{}] but got {found}", several.join(" ")))
            }
        }
    }
}

/// Line and column, both from one.
fn place(source: &SourceInfo, text: &str, id: u64) -> (usize, usize) {
    let start = source.offset_for(id).map_or(0, |(start, _)| start as usize);
    let before: String = text.chars().take(start).collect();
    let line = before.matches('\n').count() + 1;
    (line, before.chars().rev().take_while(|it| *it != '\n').count() + 1)
}

struct Work<'c> {
    checker: &'c Checker,
    /// Variables of comprehensions, the innermost last.
    locals: Vec<(String, Type)>,
    faults: Vec<(u64, String)>,
}

impl Work<'_> {
    fn fault(&mut self, id: u64, message: String) -> Type {
        self.faults.push((id, message));
        Type::Error
    }

    fn look(&mut self, tree: &IdedExpr) -> Type {
        match &tree.expr {
            Expr::Unspecified => Type::Dyn,
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.name(name).unwrap_or_else(|| {
                self.fault(tree.id, format!("undeclared reference to '{name}' (in container '')"))
            }),
            Expr::Select(select) => {
                if let Some(found) = self.qualified(tree) {
                    return found;
                }
                let operand = self.look(&select.operand);
                let found = self.field(tree.id, &operand, &select.field);
                if select.test && found != Type::Error { Type::Bool } else { found }
            }
            Expr::List(list) => {
                let items: Vec<Type> = list.elements.iter().map(|it| self.look(it)).collect();
                Type::list(items.into_iter().reduce(join).unwrap_or(Type::Free))
            }
            Expr::Map(map) => {
                let mut entries = Vec::new();
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        entries.push((self.look(&entry.key), self.look(&entry.value)));
                    }
                }
                let both = |a: (Type, Type), b: (Type, Type)| (join(a.0, b.0), join(a.1, b.1));
                let (key, value) =
                    entries.into_iter().reduce(both).unwrap_or((Type::Free, Type::Free));
                Type::map(key, value)
            }
            Expr::Struct(made) => {
                let name = made.type_name.as_str();
                for entry in &made.entries {
                    let EntryExpr::StructField(field) = &entry.expr else { continue };
                    let found = self.look(&field.value);
                    let known = ["op", "path", "from", "value"].contains(&field.field.as_str());
                    if name == "JSONPatch" && !known {
                        let field = &field.field;
                        let message = format!(
                            "expected type of field '{field}' is '' but provided type is '{found}'"
                        );
                        self.fault(entry.id, message);
                    }
                }
                self.made(tree.id, name)
            }
            Expr::Call(call) => self.call(tree.id, call),
            Expr::Comprehension(it) => self.comprehension(it),
        }
    }

    fn made(&mut self, id: u64, name: &str) -> Type {
        let root = name.split('.').next().unwrap_or_default();
        match root {
            "Object" | "JSONPatch" if self.checker.makes_patches => Type::Made(name.to_owned()),
            _ => self.fault(id, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn name(&self, name: &str) -> Option<Type> {
        let local = self.locals.iter().rev().find(|(local, _)| local == name);
        if let Some((_, found)) = local {
            return Some(found.clone());
        }
        self.checker.names.get(name).cloned().or_else(|| Type::named(name))
    }

    /// A name with dots in it.
    fn qualified(&self, tree: &IdedExpr) -> Option<Type> {
        let Expr::Select(select) = &tree.expr else { return None };
        let Expr::Ident(root) = &select.operand.expr else { return None };
        self.checker.names.get(&format!("{root}.{}", select.field)).cloned()
    }

    fn field(&mut self, id: u64, operand: &Type, field: &str) -> Type {
        match operand {
            Type::Error => Type::Error,
            Type::Dyn | Type::Free | Type::Made(_) => Type::Dyn,
            Type::Map(parts) => parts.1.clone(),
            Type::Optional(inner) => Type::optional(self.field(id, &inner.clone(), field)),
            Type::Schema(schema) => schema
                .field(field)
                .unwrap_or_else(|| self.fault(id, format!("undefined field '{field}'"))),
            Type::Object(name) => signatures::field(name, field)
                .unwrap_or_else(|| self.fault(id, format!("undefined field '{field}'"))),
            other => {
                let message = format!("type '{other}' does not support field selection");
                self.fault(id, message)
            }
        }
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Type {
        let name = call.func_name.as_str();
        if let (
            "_?._",
            [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }],
        ) = (name, &call.args[..])
        {
            let operand = self.look(operand);
            let inner = match self.field(id, &operand, field.inner()) {
                Type::Optional(inner) => *inner,
                other => other,
            };
            return Type::optional(inner);
        }
        if let Some(target) = &call.target
            && let Some(space) = space(target)
            && let Some(overloads) = signatures::of(&format!("{space}.{name}"))
        {
            let arguments: Vec<Type> = call.args.iter().map(|it| self.look(it)).collect();
            return self.resolve(id, &format!("{space}.{name}"), overloads, &arguments, false);
        }
        let target = call.target.as_deref().map(|target| self.look(target));
        let is_member = target.is_some();
        let mut arguments: Vec<Type> = target.into_iter().collect();
        arguments.extend(call.args.iter().map(|it| self.look(it)).collect::<Vec<_>>());
        let literal = call.args.first().map(|it| &it.expr);
        if let ("matches", Some(Expr::Literal(LiteralValue::String(pattern)))) = (name, literal)
            && is_member
            && regex::Regex::new(pattern.inner()).is_err()
        {
            return self.fault(call.args[0].id, "invalid matches argument".to_owned());
        }
        if let ("_&&_" | "_||_", false) = (name, is_member) {
            return self.junction(&call.args, &arguments);
        }
        match signatures::of(name) {
            Some(overloads) => self.resolve(id, name, overloads, &arguments, is_member),
            None if name.starts_with('@') => Type::Dyn,
            None => self.fault(id, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    /// Each side is to be a truth.
    fn junction(&mut self, sides: &[IdedExpr], found: &[Type]) -> Type {
        for (side, found) in sides.iter().zip(found) {
            if !matches!(found, Type::Bool | Type::Dyn | Type::Error | Type::Free) {
                self.fault(side.id, format!("expected type 'bool' but found '{found}'"));
            }
        }
        Type::Bool
    }

    fn resolve(
        &mut self,
        id: u64,
        name: &str,
        overloads: &[signatures::Overload],
        arguments: &[Type],
        is_member: bool,
    ) -> Type {
        let fit = overloads.iter().filter(|it| it.is_member == is_member).filter_map(|it| {
            if it.arguments.len() != arguments.len() {
                return None;
            }
            let mut bindings = Bindings::default();
            let mut pairs = it.arguments.iter().zip(arguments);
            let fits = pairs.all(|(wanted, found)| bindings.fit(wanted, found));
            fits.then(|| bindings.fill(&it.result))
        });
        let common = |a: Type, b: Type| if a == b { a } else { Type::Dyn };
        let fit = fit.reduce(common);
        fit.unwrap_or_else(|| {
            let shown: Vec<String> = arguments.iter().map(Type::to_string).collect();
            let shown = match (is_member, shown.split_first()) {
                (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            let message = format!("found no matching overload for '{name}' applied to '{shown}'");
            self.fault(id, message)
        })
    }

    fn comprehension(&mut self, it: &ComprehensionExpr) -> Type {
        let range = self.look(&it.iter_range);
        let (first, second) = match &range {
            Type::List(item) if it.iter_var2.is_some() => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Dyn),
            Type::Map(parts) => (parts.0.clone(), parts.1.clone()),
            Type::Dyn | Type::Error | Type::Free => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.fault(it.iter_range.id, message), Type::Dyn)
            }
        };
        let accumulated = self.look(&it.accu_init);
        let depth = self.locals.len();
        self.locals.push((it.accu_var.clone(), accumulated));
        self.locals.push((it.iter_var.clone(), first));
        self.locals.extend(it.iter_var2.iter().map(|name| (name.clone(), second.clone())));
        self.look(&it.loop_cond);
        let step = self.look(&it.loop_step);
        self.locals.truncate(depth);
        self.locals.push((it.accu_var.clone(), step));
        let result = self.look(&it.result);
        self.locals.truncate(depth);
        result
    }
}

/// The name before a function's, where it can be one.
fn space(target: &IdedExpr) -> Option<&str> {
    match &target.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::UInt,
    }
}

#[cfg(test)]
mod tests;
