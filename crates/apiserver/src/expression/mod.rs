//! Expressions in the Common Expression Language: rules of custom kinds, admission policies, conditions of webhooks.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/>. *Here*: texts that were parsed once ([`Expression`]), what
//! they are evaluated in, and what that may cost ([`Scope`]), values to and fro. The functions are in `functions`.

mod authorizer;
pub(crate) mod check;
mod functions;
mod meter;
mod value;

use crate::rights::{Judgement, Question};
use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, ExecutionError, Value as Cel};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
pub(crate) use value::{from_json, to_json};

/// What one evaluation may cost, in steps of about one call (`PerCallLimit`).
const LIMIT: i64 = 1_000_000;
/// What all evaluations in a scope may cost together (`RuntimeCELCostBudget`).
const BUDGET: i64 = 10_000_000;

/// Words that CEL keeps for itself.
pub(crate) const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A text that is CEL, ready to be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    text: String,
    tree: IdedExpr,
    cost: i64,
}

impl Expression {
    /// The error is as the real server's compiler words it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let program = functions::env().compile(text).map_err(|errors| check::syntax(&errors))?;
        let mut tree = program.expression().clone();
        meter::flatten(&mut tree);
        meter::install(&mut tree);
        Ok(Self { text: text.to_owned(), cost: meter::size(&tree), tree })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The fields of a variable that it selects: `a` of `variables.a`.
    pub(crate) fn fields_of(&self, variable: &str) -> Vec<String> {
        let mut fields = Vec::new();
        meter::visit(&self.tree, &mut |tree| {
            if let Expr::Select(select) = &tree.expr
                && matches!(&select.operand.expr, Expr::Ident(name) if name == variable)
            {
                fields.push(select.field.clone());
            }
        });
        fields
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("operation cancelled: actual cost limit exceeded")]
    Limit,
    #[error(
        "validation failed due to running out of cost budget, no further validation rules will be run"
    )]
    Budget,
    #[error("{0}")]
    Error(String),
}

/// Variables and functions.
pub(crate) struct Scope {
    context: Context<'static, 'static>,
    /// What the evaluation under way may still cost: its functions count down here.
    left: Arc<AtomicI64>,
    budget: i64,
    notebook: authorizer::Notebook,
    /// Variables that have no value, and why.
    faults: BTreeMap<String, String>,
}

impl Scope {
    pub(crate) fn new() -> Self {
        let mut context = functions::context();
        let left = Arc::new(AtomicI64::new(LIMIT));
        meter::charge(&mut context, left.clone());
        let notebook = authorizer::Notebook::default();
        authorizer::functions(&mut context, &notebook);
        Self { context, left, budget: BUDGET, notebook, faults: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, name: &str, value: &Value) {
        self.put(name, from_json(value));
    }

    pub(crate) fn put(&mut self, name: &str, value: Cel) {
        self.context.add_variable_from_value(name, value);
    }

    /// Lets expressions ask what somebody may do; `question` is what the request itself wants.
    pub(crate) fn set_authorizer(&mut self, question: &Question) {
        self.put("authorizer", authorizer::root());
        self.put("authorizer.requestResource", authorizer::about(question));
    }

    /// Answers what expressions asked in vain; they are to be evaluated once more if there was anything.
    pub(crate) fn answer(
        &self,
        judge: &mut dyn FnMut(Option<&str>, &Question) -> Judgement,
    ) -> bool {
        self.notebook.answer(judge)
    }

    /// Notes that a variable has no value.
    pub(crate) fn fail(&mut self, name: &str, fault: &Fault) {
        self.faults.insert(name.to_owned(), fault.to_string());
    }

    pub(crate) fn evaluate(&mut self, expression: &Expression) -> Result<Cel, Fault> {
        if self.budget <= 0 {
            return Err(Fault::Budget);
        }
        self.left.store(LIMIT - expression.cost, Ordering::Relaxed);
        let result = Cel::resolve(&expression.tree, &self.context);
        let left = self.left.load(Ordering::Relaxed);
        self.budget -= LIMIT - left;
        if left < 0 {
            return Err(Fault::Limit);
        }
        result.map_err(|error| Fault::Error(self.in_words(&error, expression)))
    }

    /// As cel-go says it.
    fn in_words(&self, error: &ExecutionError, expression: &Expression) -> String {
        match error {
            ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
            ExecutionError::NoSuchOverload(_)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::ValuesNotComparable(..)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnsupportedIndex(..)
            | ExecutionError::UnsupportedTargetType { .. } => "no such overload".to_owned(),
            ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
            ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
            ExecutionError::Overflow(..) => "integer overflow".to_owned(),
            ExecutionError::IndexOutOfBounds(Cel::Int(index)) => {
                format!("index out of bounds: {index}")
            }
            ExecutionError::FunctionError { function, message }
                if message.starts_with("string parse error") =>
            {
                format!("type conversion error from 'string' to '{function}'")
            }
            ExecutionError::FunctionError { message, .. } => message.clone(),
            ExecutionError::UndeclaredReference(name) => {
                let failed = expression.fields_of(name).into_iter().find_map(|field| {
                    let why = self.faults.get(&format!("{name}.{field}"))?;
                    Some(format!("composited variable {field:?} fails to evaluate: {why}"))
                });
                failed.unwrap_or_else(|| format!("no such attribute(s): {name}"))
            }
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
