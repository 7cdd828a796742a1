//! What a namespace may hold at most: quotas and ranges of limits. Pure.
//!
//! *Here*: what an object uses ([`usage`]), which quotas it counts for ([`scope`]), whether there is room for it
//! ([`check`]), and what each container may want ([`limits`]). *Not here*: where usage is kept (`registry/quotas.rs`).
//!
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>; wording: `k8s.io/apiserver/pkg/admission/plugin/resourcequota`.

pub(crate) mod limits;
mod scope;
pub(crate) mod usage;

use crate::quantity::Quantity;
use crate::resources::{Kind, Resource};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Amounts by what they are of.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Names without whose amounts no pod comes in where a quota is about them.
const DEMANDED: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// An object of a kind as a quota sees it.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) object: &'a Value,
}

impl Item<'_> {
    /// What it uses of what a quota is about; nothing where it is beyond the quota's scopes.
    pub(crate) fn counted(self, quota: &Value) -> Amounts {
        if !scope::holds(self, &quota["spec"]) {
            return Amounts::new();
        }
        let used = usage::of(self).into_iter();
        used.filter(|(name, _)| !quota["spec"]["hard"][name].is_null()).collect()
    }
}

/// Whether a write needs room at all: `old` is what it replaces.
pub(crate) fn concerns(item: Item<'_>, old: Option<&Value>) -> bool {
    let Some(old) = old else { return item.resource.kind != Kind::Event };
    match item.resource.kind {
        Kind::Service | Kind::PersistentVolumeClaim => true,
        // It may come under another scope.
        Kind::Pod => {
            scope::ends(item.object) != scope::ends(old) || needs(item.object) != needs(old)
        }
        _ => false,
    }
}

/// What the containers of a pod need, which changes when it is resized.
pub(crate) fn needs(pod: &Value) -> Vec<&Value> {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array());
    lists.into_iter().flatten().flatten().map(|container| &container["resources"]).collect()
}

/// Refuses a write for which a quota has no room.
pub(crate) fn check(quota: &Value, item: Item<'_>, old: Option<&Value>) -> Result<(), String> {
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let hard = amounts(&quota["spec"]["hard"]);
    if item.resource.kind == Kind::Pod && scope::holds(item, &quota["spec"]) {
        demand(&hard, item.object).map_err(|why| format!("failed quota: {name}: {why}"))?;
    }
    let before = old.map(|object| Item { object, ..item }.counted(quota)).unwrap_or_default();
    let used = amounts(&quota["status"]["used"]);
    let of = |list: &Amounts, name: &str| list.get(name).copied().unwrap_or_default();
    let mut exceeded: [Vec<String>; 3] = Default::default();
    for (resource, amount) in item.counted(quota) {
        let wanted = amount.minus(of(&before, &resource));
        let (used, most) = (of(&used, &resource), of(&hard, &resource));
        if wanted > Quantity::ZERO && used.plus(wanted) > most {
            for (list, amount) in exceeded.iter_mut().zip([wanted, used, most]) {
                list.push(format!("{resource}={amount}"));
            }
        }
    }
    let [wanted, used, most] = exceeded.map(|list| list.join(","));
    if wanted.is_empty() {
        return Ok(());
    }
    Err(format!("exceeded quota: {name}, requested: {wanted}, used: {used}, limited: {most}"))
}

/// Each container says how much it needs of what a quota is about.
fn demand(hard: &Amounts, pod: &Value) -> Result<(), String> {
    let spec = &pod["spec"];
    if usage::is_said_for_pod(spec) {
        return Ok(());
    }
    let demanded = DEMANDED.iter().filter(|name| hard.contains_key(**name));
    let missing = demanded.filter_map(|name| {
        let lacks = |container: &&Value| !usage::of_container(container).contains_key(*name);
        let mut names: Vec<&str> =
            containers(spec).filter(lacks).filter_map(|it| it["name"].as_str()).collect();
        names.sort_unstable();
        (!names.is_empty()).then(|| format!("{name} for: {}", names.join(",")))
    });
    match missing.collect::<Vec<_>>() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!("must specify {}", missing.join("; "))),
    }
}

/// All containers of a pod, but those that are there to look into it.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["containers", "initContainers"].into_iter();
    lists.flat_map(|list| spec[list].as_array().into_iter().flatten())
}

/// A list of amounts in an object.
pub(crate) fn amounts(list: &Value) -> Amounts {
    let list = list.as_object().into_iter().flatten();
    list.filter_map(|(name, amount)| Some((name.clone(), Quantity::of(amount)?))).collect()
}

pub(crate) fn written(amounts: &Amounts) -> Value {
    let written = amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
    Value::Object(written.collect::<Map<_, _>>())
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let place = sum.entry(name.clone()).or_default();
        *place = place.plus(*amount);
    }
}

#[cfg(test)]
mod tests;
