//! The entries of `metadata.managedFields`.

use super::set::Set;
use super::walk::Changes;
use crate::time;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// More managers than these that only update are remembered as one.
const UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Whose fields they are.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) manager: String,
    /// By server-side apply, else by any other write.
    pub(crate) applies: bool,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl Owner {
    /// Whoever applies stays the same from one version of the API to the next.
    fn identity(&self) -> (&str, bool, &str, &str) {
        let version = if self.applies { "" } else { self.api_version.as_str() };
        (&self.manager, self.applies, version, &self.subresource)
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Owner {}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Owner {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Owner {
    pub(crate) fn apply(manager: &str, api_version: &str, subresource: &str) -> Self {
        let (manager, subresource) = (manager.to_owned(), subresource.to_owned());
        Self { manager, applies: true, api_version: api_version.to_owned(), subresource }
    }

    pub(crate) fn update(manager: &str, api_version: &str, subresource: &str) -> Self {
        Self { applies: false, ..Self::apply(manager, api_version, subresource) }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Owned {
    set: Set,
    /// As text; empty where it is not known.
    time: String,
    /// Not yet [stamped](Managers::stamp).
    new: bool,
}

/// All owners of an object's fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Managers {
    owners: BTreeMap<Owner, Owned>,
}

impl Managers {
    pub(crate) fn from_json(entries: &Value) -> Self {
        let entries = entries.as_array().into_iter().flatten();
        let of = |entry: &Value| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let owner = Owner {
                manager: text("manager"),
                applies: text("operation") == "Apply",
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            };
            let set = Set::from_json(&entry["fieldsV1"]);
            (owner, Owned { set, time: text("time"), new: false })
        };
        let owners = entries.map(of).filter(|(_, owned)| !owned.set.is_empty());
        Self { owners: owners.collect() }
    }

    /// The applying ones first, the others by age, as the real server writes them.
    pub(crate) fn to_json(&self) -> Value {
        let mut entries: Vec<(&Owner, &Owned)> = self.owners.iter().collect();
        entries.sort_by_key(|(owner, owned)| (!owner.applies, &owned.time));
        let of = |(owner, owned): (&Owner, &Owned)| {
            let mut entry = json!({
                "manager": owner.manager,
                "operation": if owner.applies { "Apply" } else { "Update" },
                "apiVersion": owner.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": owned.set.to_json(),
            });
            for (field, text) in [("time", &owned.time), ("subresource", &owner.subresource)] {
                if !text.is_empty() {
                    entry[field] = text.as_str().into();
                }
            }
            entry
        };
        entries.into_iter().map(of).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Owner, &Set)> {
        self.owners.iter().map(|(owner, owned)| (owner, &owned.set))
    }

    pub(super) fn set(&self, owner: &Owner) -> Option<&Set> {
        self.owners.get(owner).map(|owned| &owned.set)
    }

    pub(super) fn of_others(&self, owner: &Owner) -> Set {
        let others = self.iter().filter(|(other, _)| *other != owner);
        others.fold(Set::default(), |all, (_, set)| all.union(set))
    }

    pub(super) fn give(&mut self, owner: Owner, set: Set) {
        // Of equal owners the map would keep the one with the older version.
        let known = self.owners.remove(&owner).filter(|owned| owned.set == set);
        if !set.is_empty() {
            let owned = known.unwrap_or(Owned { set, time: String::new(), new: true });
            self.owners.insert(owner, owned);
        }
    }

    /// Gives fields of the whole object the names that `names` has for them, by the owner's version of the API.
    pub(crate) fn rename(&mut self, names: impl Fn(&str) -> Vec<(&'static str, &'static str)>) {
        for (owner, owned) in &mut self.owners {
            owned.set.rename(&names(&owner.api_version));
        }
    }

    /// Everybody but the owner loses these fields.
    pub(super) fn take_away(&mut self, owner: &Owner, fields: &Set) {
        for (other, owned) in &mut self.owners {
            if other != owner {
                owned.set = owned.set.difference(fields);
            }
        }
        self.owners.retain(|_, owned| !owned.set.is_empty());
    }

    /// What a write that is no apply makes of it: who writes a field owns it, and nobody else does.
    ///
    /// `others`: how the same write looks in other versions of the API, where that is otherwise.
    pub(crate) fn update(
        &mut self,
        owner: &Owner,
        changes: &Changes,
        others: &BTreeMap<String, Changes>,
    ) {
        for (other, owned) in &mut self.owners {
            let seen = others.get(&other.api_version).unwrap_or(changes);
            if other != owner {
                owned.set = owned.set.difference(&seen.written);
            }
            owned.set = owned.set.difference(&seen.removed);
        }
        self.owners.retain(|_, owned| !owned.set.is_empty());
        let own = self.set(owner).cloned().unwrap_or_default();
        let grown = own.union(&changes.written);
        if grown != own {
            self.give(owner.clone(), grown);
        }
        self.forget_ancient(owner);
    }

    fn forget_ancient(&mut self, owner: &Owner) {
        let mut updaters: Vec<(&Owner, &Owned)> =
            self.owners.iter().filter(|(other, _)| !other.applies && *other != owner).collect();
        let Some(surplus) = (updaters.len() + 1).checked_sub(UPDATERS).filter(|it| *it > 0) else {
            return;
        };
        updaters.sort_by_key(|(_, owned)| &owned.time);
        let oldest: Vec<Owner> = updaters.iter().take(surplus + 1).map(|it| it.0.clone()).collect();
        for old in oldest {
            let Some(owned) = self.owners.remove(&old) else { continue };
            let ancient = Owner::update(ANCIENT, &old.api_version, "");
            let place = self.owners.entry(ancient).or_default();
            place.set = place.set.union(&owned.set);
            place.time = place.time.clone().max(owned.time);
        }
    }

    /// Marks what is new with the time of the write.
    pub(crate) fn stamp(&mut self, now: i64) {
        for owned in self.owners.values_mut().filter(|owned| owned.new) {
            owned.time = time::rfc3339(now);
            owned.new = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: &[&str]) -> Set {
        Set::from_json(&fields.iter().map(|field| (format!("f:{field}"), json!({}))).collect())
    }

    #[test]
    fn who_writes_owns() {
        let (a, b) = (Owner::update("a", "v1", ""), Owner::update("b", "v1", "status"));
        let (mut managers, none) = (Managers::default(), BTreeMap::new());
        managers.update(&a, &Changes { written: set(&["x", "y"]), removed: Set::default() }, &none);
        managers.stamp(0);
        managers.update(&b, &Changes { written: set(&["y"]), removed: Set::default() }, &none);
        managers.stamp(60);
        let seen = managers.to_json();
        assert_eq!(seen[0]["fieldsV1"], json!({"f:x": {}}));
        assert_eq!(
            (&seen[1]["fieldsV1"], &seen[1]["subresource"]),
            (&json!({"f:y": {}}), &json!("status"))
        );
        assert_eq!(seen[1]["time"], "1970-01-01T00:01:00Z");
        assert_eq!(Managers::from_json(&seen), managers);
        managers.update(&b, &Changes { written: Set::default(), removed: set(&["x"]) }, &none);
        assert_eq!(managers.to_json().as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn who_wrote_in_another_version_loses_what_is_gone_there() {
        let (a, b) = (Owner::update("a", "v1", ""), Owner::update("a", "v2", ""));
        let (mut managers, none) = (Managers::default(), BTreeMap::new());
        managers.update(&a, &Changes { written: set(&["x", "y"]), removed: Set::default() }, &none);
        let old = Changes { written: set(&["x"]), removed: Set::default() };
        let others = BTreeMap::from([("v1".to_owned(), old)]);
        managers.update(&b, &Changes { written: set(&["y"]), removed: Set::default() }, &others);
        assert_eq!(managers.set(&a), Some(&set(&["y"])));
        assert_eq!(managers.set(&b), Some(&set(&["y"])));
    }

    #[test]
    fn a_crowd_of_updaters_becomes_one() {
        let (mut managers, none) = (Managers::default(), BTreeMap::new());
        for index in 0..30 {
            let owner = Owner::update(&format!("m{index}"), "v1", "");
            let changes =
                Changes { written: set(&[&format!("f{index}")]), removed: Set::default() };
            managers.update(&owner, &changes, &none);
            managers.stamp(index);
        }
        assert_eq!(managers.owners.len(), UPDATERS);
        let all = managers.iter().fold(Set::default(), |all, (_, set)| all.union(set));
        assert_eq!(all.paths().len(), 30, "nobody's fields are lost");
    }
}
