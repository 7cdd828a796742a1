//! `authorizer`: expressions that ask what somebody may do.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library>. Functions know no roles: what
//! they ask and nobody has answered yet they note down, and the expression is evaluated once more with the answers.

use crate::rights::{Judgement, Question};
use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, ExecutionError, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A service account, by its user's name, or none: whoever makes the request.
type Somebody = Option<String>;

/// What was asked and answered during an evaluation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    answered: Vec<(Somebody, Question, Judgement)>,
    open: Vec<(Somebody, Question)>,
}

/// Written by functions while an expression is evaluated, and by who answers between two evaluations.
#[derive(Debug, Clone, Default)]
pub(super) struct Notebook(Arc<Mutex<Notes>>);

impl Notebook {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was anything to answer.
    pub(super) fn answer(
        &self,
        judge: &mut dyn FnMut(Option<&str>, &Question) -> Judgement,
    ) -> bool {
        let mut notes = self.notes();
        let open = std::mem::take(&mut notes.open);
        let any = !open.is_empty();
        for (who, question) in open {
            let judgement = judge(who.as_deref(), &question);
            notes.answered.push((who, question, judgement));
        }
        any
    }

    fn look(&self, who: Somebody, question: Question) -> Result<Judgement, ExecutionError> {
        let mut notes = self.notes();
        let mut known = notes.answered.iter();
        if let Some((.., found)) = known.find(|it| (&it.0, &it.1) == (&who, &question)) {
            return Ok(found.clone());
        }
        notes.open.push((who, question));
        Err(ExecutionError::function_error("check", "it is not answered yet"))
    }
}

/// What `authorizer` is: a map that grows with what is said about it.
pub(super) fn root() -> Value {
    Value::Map(Map { map: Arc::default() })
}

/// `authorizer.requestResource`
pub(super) fn about(question: &Question) -> Value {
    let fields = [
        ("group", &question.group),
        ("resource", &question.resource),
        ("subresource", &question.subresource),
        ("namespace", &question.namespace),
        ("name", &question.name),
    ];
    fields.into_iter().fold(root(), |map, (field, text)| with(&map, field, text))
}

pub(super) fn functions(context: &mut Context<'_, '_>, notebook: &Notebook) {
    let declared = declare(context, notebook.clone());
    declared.expect("no other functions have these names");
}

fn declare(context: &mut Context<'_, '_>, notebook: Notebook) -> Result<(), cel::DeclarationError> {
    // Selectors of fields and labels narrow nothing here: no role of RBAC looks at them.
    for name in ["group", "resource", "subresource", "namespace", "name", "path"] {
        context.add_function(name, move |This(about): This<Value>, text: Arc<String>| {
            with(&about, name, &text)
        })?;
    }
    for name in ["fieldSelector", "labelSelector"] {
        context.add_function(name, |This(about): This<Value>, _selector: Arc<String>| about)?;
    }
    let account = |This(about): This<Value>, namespace: Arc<String>, name: Arc<String>| {
        with(&about, "account", &format!("system:serviceaccount:{namespace}:{name}"))
    };
    context.add_function("serviceAccount", account)?;
    context.add_function("check", move |This(about): This<Value>, verb: Arc<String>| {
        let text = |field: &str| text(&about, field).unwrap_or_default();
        let question = Question {
            verb: verb.to_string(),
            path: self::text(&about, "path"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
        };
        let judgement = notebook.look(self::text(&about, "account"), question)?;
        let decision = with(&root(), "reason", &judgement.reason);
        Ok::<_, ExecutionError>(put(&decision, "allowed", judgement.allowed.into()))
    })?;
    context.add_function("allowed", |This(decision): This<Value>| field(&decision, "allowed"))?;
    context.add_function("reason", |This(decision): This<Value>| field(&decision, "reason"))?;
    context.add_function("errored", |This(_decision): This<Value>| false)?;
    context.add_function("error", |This(_decision): This<Value>| {
        Value::String(Arc::new(String::new()))
    })
}

fn with(map: &Value, field: &str, text: &str) -> Value {
    put(map, field, Value::String(Arc::new(text.to_owned())))
}

fn put(map: &Value, field: &str, value: Value) -> Value {
    let mut fields: HashMap<Key, Value> = match map {
        Value::Map(map) => (*map.map).clone(),
        _ => HashMap::new(),
    };
    fields.insert(Key::String(Arc::new(field.to_owned())), value);
    Value::Map(Map { map: Arc::new(fields) })
}

fn field(map: &Value, field: &str) -> Result<Value, ExecutionError> {
    let Value::Map(map) = map else { return Err(ExecutionError::no_such_key(field)) };
    let key = Key::String(Arc::new(field.to_owned()));
    map.map.get(&key).cloned().ok_or_else(|| ExecutionError::no_such_key(field))
}

fn text(map: &Value, name: &str) -> Option<String> {
    match field(map, name) {
        Ok(Value::String(text)) => Some(text.to_string()),
        _ => None,
    }
}
