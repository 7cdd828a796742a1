//! Policies that change what is written.
//!
//! Wording: `k8s.io/apiserver/pkg/admission/plugin/policy/{generic,mutating}`.

use super::evaluation::{Evaluation, told};
use super::{Attributes, Bound, Policy, params};
use crate::error::Error;
use crate::expression::{Expression, to_json};
use crate::managed::{self, typed};
use crate::registry::Registry;
use crate::resources::Resource;
use crate::schema::decode;
use json_patch::{AddOperation, PatchOperation};
use serde_json::{Map, Value};

#[derive(Debug)]
pub(super) enum Mutation {
    /// An object whose fields are merged into the one that is written.
    Apply(Expression),
    /// A list of operations.
    Patch(Expression),
}

impl Mutation {
    pub(super) fn new(mutation: &Value) -> Option<Self> {
        let of = |field: &str| super::expression(&mutation[field]["expression"]);
        match mutation["patchType"].as_str()? {
            "JSONPatch" => of("jsonPatch").map(Self::Patch),
            _ => of("applyConfiguration").map(Self::Apply),
        }
    }
}

/// Who changed something in a request, so that others may be asked once more.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Those that want to be asked again when others changed something after them.
    asked: Vec<String>,
    /// Those of them for which that is so.
    due: Vec<String>,
    /// The second time has come.
    is_second: bool,
    /// There is to be a second time.
    pub(crate) wants_second: bool,
    /// What was left behind the first time.
    pub(crate) left: Value,
}

impl Turns {
    /// Whether somebody is asked now.
    pub(crate) fn asks(&self, who: &str) -> bool {
        !self.is_second || self.due.iter().any(|it| it == who)
    }

    /// Somebody was asked.
    pub(crate) fn asked(&mut self, who: String, has_changed: bool, wants_again: bool) {
        if has_changed {
            self.others_changed();
            self.wants_second = true;
        }
        if wants_again {
            self.asked.push(who);
        }
    }

    /// Begins the second time: whoever was asked is asked again if others changed what they left behind.
    pub(crate) fn again(&mut self, has_changed: bool) {
        self.is_second = true;
        if has_changed {
            self.others_changed();
        }
    }

    /// All who were asked before want to know.
    fn others_changed(&mut self) {
        self.due.append(&mut self.asked);
    }
}

/// What a request looks like after all mutating policies.
pub(crate) fn mutate(
    registry: &Registry,
    request: &Attributes<'_>,
    turns: &mut Turns,
) -> Result<Value, Error> {
    let mut object = request.object.cloned().unwrap_or_default();
    if request.object.is_none() {
        return Ok(object);
    }
    let mut faults = Vec::new();
    for bound in registry.policies.mutating.about(registry, request) {
        let Bound { name, policy, binding_name, binding, form } = bound;
        let mut fault = |why: String| {
            if !policy.ignores_failures {
                faults.push(format!(
                    "policy '{name}' with binding '{binding_name}' denied request: {why}"
                ));
            }
        };
        let (kind, reference) = (policy.params.as_ref(), binding.param_ref.as_ref());
        let params = match params::collect(registry, kind, reference, request) {
            Ok(params) => params,
            Err(why) => {
                fault(why.to_string());
                continue;
            }
        };
        for param in params {
            let of =
                param.as_ref().map(|it| &it["metadata"]).map(|it| (&it["namespace"], &it["name"]));
            let who = format!("{name} {binding_name} {of:?}");
            if !turns.asks(&who) {
                continue;
            }
            let before = object.clone();
            let work = Work { registry, policy, request, form, param: param.as_ref() };
            work.run(&mut object, &mut fault)?;
            turns.asked(who, object != before, policy.wants_again);
        }
    }
    match faults.first() {
        None => Ok(object),
        Some(_) => {
            Err(Error::Unmutated { resource: request.resource, name: request.shown_name(), faults })
        }
    }
}

/// One policy with one parameter.
struct Work<'a> {
    registry: &'a Registry,
    policy: &'a Policy,
    request: &'a Attributes<'a>,
    form: &'static Resource,
    param: Option<&'a Value>,
}

impl Work<'_> {
    fn evaluation<'e>(&'e self, object: &Value) -> Evaluation<'e> {
        let request = Attributes { object: Some(object), ..self.request.clone() };
        let request = (&request, self.request.user);
        Evaluation::new(self.registry, self.policy, request, self.form, self.param)
    }

    fn run(&self, object: &mut Value, fault: &mut dyn FnMut(String)) -> Result<(), Error> {
        match self.evaluation(object).holds() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(why) => {
                fault(why);
                return Ok(());
            }
        }
        for mutation in &self.policy.mutations {
            let mut evaluation = self.evaluation(object);
            let (Mutation::Apply(expression) | Mutation::Patch(expression)) = mutation;
            let made = evaluation.evaluate(expression).map_err(|why| told(expression, &why));
            let made = match made.and_then(|made| to_json(&made).ok_or("it is no object".into())) {
                Ok(made) => made,
                Err(why) => {
                    fault(why);
                    continue;
                }
            };
            let shown = match std::ptr::eq(self.form, self.request.resource) {
                true => object.clone(),
                false => {
                    let stored = self.request.resource.stored(object.clone());
                    self.form.shown(&stored).into_owned()
                }
            };
            let changed = match mutation {
                Mutation::Apply(_) => merged(self.form, &shown, made),
                Mutation::Patch(_) => patched(&shown, &made),
            };
            match changed {
                Ok(changed) => *object = self.accepted(changed)?,
                Err(why) => fault(why),
            }
        }
        Ok(())
    }

    /// In the form of the request, with the types of its kind.
    fn accepted(&self, mut changed: Value) -> Result<Value, Error> {
        let mut unknown = Vec::new();
        if let Some(root) = self.form.root()
            && !self.form.is_custom()
        {
            let wrong = |message: String| Error::Internal { message };
            decode::decode(root, &mut changed, &mut unknown).map_err(wrong)?;
            if !unknown.is_empty() {
                let unknown = unknown.join(", ");
                return Err(wrong(format!("strict decoding error: {unknown}")));
            }
        }
        if std::ptr::eq(self.form, self.request.resource) {
            return Ok(changed);
        }
        Ok(self.request.resource.shown(&self.form.stored(changed)).into_owned())
    }
}

fn merged(form: &Resource, object: &Value, config: Value) -> Result<Value, String> {
    let root = form.root().ok_or("the kind has no types")?;
    let failed = |why: String| format!("error applying patch: {why}");
    let faults = typed::check(root, &config);
    if !faults.is_empty() {
        let why = match &faults[..] {
            [one] => one.clone(),
            several => format!("errors:\n  {}", several.join("\n  ")),
        };
        return Err(failed(format!("failed to convert patch object to typed object: {why}")));
    }
    let atomics = managed::atomics(root, &config);
    if !atomics.is_empty() {
        let why = format!("may not mutate atomic arrays, maps or structs: {}", atomics.join(", "));
        return Err(failed(format!("invalid ApplyConfiguration: {why}")));
    }
    Ok(managed::merge(root, object, &config))
}

/// All operations, or none where a test among them fails.
fn patched(object: &Value, operations: &Value) -> Result<Value, String> {
    let mut changed = object.clone();
    for operation in operations.as_array().into_iter().flatten() {
        let kind = operation["op"].as_str().unwrap_or_default();
        let parsed = serde_json::from_value(complete(operation));
        let parsed = parsed.map_err(|_unknown| format!("JSON Patch: Unexpected kind: {kind}"))?;
        // To replace what is not there is to add it.
        let parsed = match parsed {
            PatchOperation::Replace(it) if changed.pointer(it.path.as_str()).is_none() => {
                PatchOperation::Add(AddOperation { path: it.path, value: it.value })
            }
            other => other,
        };
        match json_patch::patch(&mut changed, std::slice::from_ref(&parsed)) {
            Ok(()) => {}
            Err(_failed) if matches!(parsed, PatchOperation::Test(_)) => return Ok(object.clone()),
            Err(error) => return Err(format!("JSON Patch: {error}")),
        }
        crate::patch::check_depth(&changed).map_err(|error| error.to_string())?;
    }
    Ok(changed)
}

/// An operation without a value has null.
fn complete(operation: &Value) -> Value {
    let mut fields: Map<String, Value> = operation.as_object().cloned().unwrap_or_default();
    fields.entry("value").or_insert(Value::Null);
    Value::Object(fields)
}
