//! Deployments and the other kinds that make pods.

mod check;
mod defaults;
mod job;

pub(super) use check::selector;
pub(super) use defaults::complete;

use super::causes::Causes;
use crate::resources::Kind;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

pub(super) use check::check_status;

pub(super) fn admit(kind: Kind, workload: &mut Fields, old: Option<&Value>, causes: &mut Causes) {
    if old.is_none() {
        defaults::begin_status(kind, workload);
    }
    if kind == Kind::Job && old.is_none() {
        job::select_own_pods(workload);
    }
    let none = Fields::new();
    let spec = workload.get("spec").and_then(Value::as_object).unwrap_or(&none);
    match kind {
        Kind::Job => job::check(spec, old.map(|old| &old["spec"]), causes),
        Kind::CronJob => job::check_cron(spec, old.map(|old| &old["spec"]), causes),
        _ => check::check(kind, spec, old.map(|old| &old["spec"]), causes),
    }
}
