//! Server-side apply: merging a manifest into an object, field by field and owner by owner.

use super::entries::{Managers, Owner};
use super::set::Set;
use super::walk::{self, compare, extract, parts};
use crate::schema::{Root, Type};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A manifest that was merged.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) object: Value,
    pub(crate) managers: Managers,
}

/// Fields that another one owns and this manifest wants otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Collision {
    pub(crate) owner: Owner,
    pub(crate) paths: Vec<String>,
}

/// Merges `config` into `live` for `owner`. What the owner applied before and does not mention now goes, unless
/// others own it too. `scope` is what this request may own of a set.
///
/// # Errors
/// Every conflict, unless `force` takes the fields over.
pub(crate) fn apply(
    root: Root<'_>,
    live: &Value,
    config: &Value,
    managers: &Managers,
    owner: &Owner,
    force: bool,
    scope: impl Fn(&Set) -> Set,
) -> Result<Applied, Vec<Collision>> {
    let wanted = scope(&extract(root, config));
    let merged = merge(root, live, config);
    let changed = scope(&compare(root, live, &merged).written);
    let mut managers = managers.clone();
    let collisions = collisions(&managers, owner, &changed);
    if !collisions.is_empty() && !force {
        return Err(collisions);
    }
    managers.take_away(owner, &changed);
    let before = managers.set(owner).cloned().unwrap_or_default();
    let others = managers.of_others(owner);
    let mut object = merged;
    prune(root, &mut object, &before, &wanted, &others);
    managers.give(owner.clone(), wanted);
    Ok(Applied { object, managers })
}

fn collisions(managers: &Managers, owner: &Owner, changed: &Set) -> Vec<Collision> {
    let others = managers.iter().filter(|(other, _)| *other != owner);
    let with = |(other, set): (&Owner, &Set)| {
        let paths = set.intersection(changed).paths();
        (!paths.is_empty()).then(|| Collision { owner: other.clone(), paths })
    };
    others.filter_map(with).collect()
}

/// An object with what a manifest says about it.
pub(crate) fn merge(root: Root<'_>, live: &Value, config: &Value) -> Value {
    let (Some(_), Some(_)) = (parts(root, live), parts(root, config)) else {
        return config.clone();
    };
    match (root.node(), live, config) {
        (Type::List { .. }, Value::Array(live), Value::Array(config)) => {
            Value::Array(merge_lists(root, live, config))
        }
        (_, Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (name, wanted) in config.iter().filter(|(_, wanted)| !wanted.is_null()) {
                let value = match (live.get(name), root.field(name)) {
                    (Some(present), Some(root)) => merge(root, present, wanted),
                    _ => wanted.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        _ => config.clone(),
    }
}

/// In the order of the manifest. What only the object has comes before what the manifest brings, up to the next item
/// that both have.
fn merge_lists(root: Root<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let Type::List { items, rule } = root.node() else { return config.to_vec() };
    let keys = |list: &[Value]| list.iter().map(|item| walk::step(rule, item)).collect::<Vec<_>>();
    let (there, asked) = (keys(live), keys(config));
    let places: BTreeMap<_, _> = there.iter().zip(live).collect();
    let wanted: BTreeSet<_> = asked.iter().collect();
    let (mut merged, mut at) = (Vec::new(), 0);
    for (index, (item, key)) in config.iter().zip(&asked).enumerate() {
        let shared = asked[index..].iter().find(|key| places.contains_key(key));
        while let Some(own) = there.get(at) {
            let is_next = shared == Some(own);
            if is_next && own != key {
                break;
            }
            if !wanted.contains(own) {
                merged.push(live[at].clone());
            } else if is_next || shared.is_none() {
                at += 1;
                break;
            }
            at += 1;
        }
        merged.push(match places.get(key) {
            Some(present) => merge(root.at(*items), present, item),
            None => item.clone(),
        });
    }
    let rest = there.iter().zip(live).skip(at).filter(|(key, _)| !wanted.contains(key));
    merged.extend(rest.map(|(_, item)| item.clone()));
    merged
}

/// Removes what is in `before` and in neither of the other two sets.
fn prune(root: Root<'_>, value: &mut Value, before: &Set, wanted: &Set, others: &Set) {
    let none = Set::default();
    let mut gone = Vec::new();
    for step in before.steps() {
        let kept = wanted.touches(step) || others.touches(step);
        if before.has(step) && !kept {
            gone.push(step.to_owned());
            continue;
        }
        let Some(below) = before.below(step).filter(|below| !below.is_empty()) else { continue };
        let Some((root, part)) = part_mut(root, value, step) else { continue };
        let was_empty = is_empty(part);
        let of = |set: &Set| set.below(step).unwrap_or(&none).clone();
        prune(root, part, below, &of(wanted), &of(others));
        if is_empty(part) && !was_empty && !kept {
            gone.push(step.to_owned());
        }
    }
    for step in gone {
        remove(root, value, &step);
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

fn part_mut<'a, 'v>(
    root: Root<'a>,
    value: &'v mut Value,
    step: &str,
) -> Option<(Root<'a>, &'v mut Value)> {
    match (root.node(), value) {
        (Type::List { items, rule }, Value::Array(list)) => {
            let item = list.iter_mut().find(|item| walk::step(rule, item).as_deref() == Some(step));
            item.map(|item| (root.at(*items), item))
        }
        (_, Value::Object(fields)) => {
            let name = step.strip_prefix("f:")?;
            Some((root.field(name)?, fields.get_mut(name)?))
        }
        _ => None,
    }
}

fn remove(root: Root<'_>, value: &mut Value, step: &str) {
    match (root.node(), value) {
        (Type::List { rule, .. }, Value::Array(list)) => {
            list.retain(|item| walk::step(rule, item).as_deref() != Some(step));
        }
        (_, Value::Object(fields)) => {
            fields.remove(step.strip_prefix("f:").unwrap_or(step));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use crate::schema::builtin;
    use serde_json::json;

    fn owner(name: &str) -> Owner {
        Owner::apply(name, "v1", "")
    }

    fn root() -> Root<'static> {
        builtin::root(Kind::Pod.resource()).expect("a root")
    }

    fn run(
        live: &Applied,
        name: &str,
        config: Value,
        force: bool,
    ) -> Result<Applied, Vec<Collision>> {
        apply(root(), &live.object, &config, &live.managers, &owner(name), force, Set::clone)
    }

    fn containers(names: &[&str]) -> Value {
        let all: Vec<Value> =
            names.iter().map(|name| json!({"name": name, "image": *name})).collect();
        json!({"spec": {"containers": all}})
    }

    #[test]
    fn what_is_no_longer_applied_goes_unless_others_own_it() {
        let empty = Applied { object: json!({}), managers: Managers::default() };
        let first = run(&empty, "a", containers(&["x", "y"]), false).unwrap();
        let second = run(&first, "b", containers(&["y", "z"]), false).unwrap();
        assert_eq!(second.object, containers(&["x", "y", "z"]));
        let third = run(&second, "a", containers(&["x"]), false).unwrap();
        assert_eq!(third.object, containers(&["x", "y", "z"]), "y is still b's");
        let fourth = run(&third, "b", json!({}), false).unwrap();
        assert_eq!(fourth.object, containers(&["x"]));
    }

    #[test]
    fn conflicts_are_told_and_can_be_forced() {
        let empty = Applied { object: json!({}), managers: Managers::default() };
        let first = run(&empty, "a", containers(&["x"]), false).unwrap();
        let other = json!({"spec": {"containers": [{"name": "x", "image": "new"}]}});
        let told = run(&first, "b", other.clone(), false).unwrap_err();
        let paths = vec![".spec.containers[name=\"x\"].image".to_owned()];
        assert_eq!(told, [Collision { owner: owner("a"), paths }]);
        let forced = run(&first, "b", other.clone(), true).unwrap();
        assert_eq!(forced.object, other);
        let again = run(&forced, "a", containers(&["x"]), false).unwrap_err();
        assert_eq!(again[0].owner, owner("b"));
        assert!(
            run(&first, "b", containers(&["x"]), false).is_ok(),
            "the same value is no conflict"
        );
    }

    #[test]
    fn what_the_manifest_brings_comes_last() {
        let list = |names: &[&str]| containers(names)["spec"]["containers"].clone();
        let spec =
            root().field("spec").and_then(|spec| spec.field("containers")).expect("containers");
        for (live, config, merged) in [
            (&["a", "b", "c"][..], &["c", "a"][..], &["b", "c", "a"][..]),
            (&["a", "b", "c"], &["b", "x"], &["a", "b", "c", "x"]),
            (&[], &["b", "a"], &["b", "a"]),
        ] {
            let got = merge(spec, &list(live), &list(config));
            let names = got.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap());
            let names: Vec<&str> = names.collect();
            assert_eq!(names, merged);
        }
    }
}
