//! Sets of fields, as `fieldsV1` writes them (`sigs.k8s.io/structured-merge-diff/fieldpath`).

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Fields, in a tree by their steps: `f:name`, `k:{"name":"c"}`, `v:"text"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    steps: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// The field itself belongs to the set, not only some below it.
    member: bool,
    below: Set,
}

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What is below a step.
    pub(super) fn below(&self, step: &str) -> Option<&Set> {
        self.steps.get(step).map(|node| &node.below)
    }

    pub(super) fn has(&self, step: &str) -> bool {
        self.steps.get(step).is_some_and(|node| node.member)
    }

    /// The field or any below it.
    pub(super) fn touches(&self, step: &str) -> bool {
        self.steps.contains_key(step)
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.keys().map(String::as_str)
    }

    pub(super) fn insert(&mut self, step: String) {
        self.steps.entry(step).or_default().member = true;
    }

    /// Puts a set below a step; an empty one leaves no trace.
    pub(super) fn graft(&mut self, step: String, below: Set) {
        if !below.is_empty() {
            let place = &mut self.steps.entry(step).or_default().below;
            *place = place.union(&below);
        }
    }

    #[must_use]
    pub(crate) fn union(&self, other: &Set) -> Set {
        let mut result = self.clone();
        for (step, node) in &other.steps {
            let place = result.steps.entry(step.clone()).or_default();
            place.member |= node.member;
            place.below = place.below.union(&node.below);
        }
        result
    }

    /// Renames first steps: `note` is `f:note`.
    pub(super) fn rename(&mut self, names: &[(&str, &str)]) {
        for (from, to) in names {
            if let Some(node) = self.steps.remove(&format!("f:{from}")) {
                self.steps.insert(format!("f:{to}"), node);
            }
        }
    }

    /// The members of both.
    #[must_use]
    pub(crate) fn intersection(&self, other: &Set) -> Set {
        self.filter(other, |mine, theirs| mine && theirs)
    }

    /// The members that the other has not.
    #[must_use]
    pub(crate) fn difference(&self, other: &Set) -> Set {
        self.filter(other, |mine, theirs| mine && !theirs)
    }

    fn filter(&self, other: &Set, keep: fn(bool, bool) -> bool) -> Set {
        let (none, mut result) = (Node::default(), Set::default());
        for (step, node) in &self.steps {
            let theirs = other.steps.get(step).unwrap_or(&none);
            let below = node.below.filter(&theirs.below, keep);
            let member = keep(node.member, theirs.member);
            if member || !below.is_empty() {
                result.steps.insert(step.clone(), Node { member, below });
            }
        }
        result
    }

    /// Without these fields and all below them.
    #[must_use]
    pub(crate) fn without(&self, paths: &[&[&str]]) -> Set {
        let mut result = self.clone();
        for path in paths {
            result.cut(path);
        }
        result
    }

    fn cut(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.steps.remove(*first);
            return;
        }
        let Some(node) = self.steps.get_mut(*first) else { return };
        node.below.cut(rest);
        if !node.member && node.below.is_empty() {
            self.steps.remove(*first);
        }
    }

    /// Members as paths for people: `.spec.containers[name="c"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        let path = |step: &String| format!("{prefix}{}", readable(step));
        let members = self.steps.iter().filter(|(_, node)| node.member);
        paths.extend(members.map(|(step, _)| path(step)));
        self.steps.iter().for_each(|(step, node)| node.below.collect(&path(step), paths));
    }

    /// As `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let of = |(step, node): (&String, &Node)| {
            let mut below = node.below.to_json();
            if let Some(fields) =
                below.as_object_mut().filter(|fields| node.member && !fields.is_empty())
            {
                fields.insert(".".into(), json!({}));
            }
            (step.clone(), below)
        };
        Value::Object(self.steps.iter().map(of).collect::<Map<_, _>>())
    }

    /// From `fieldsV1`; what is no set is an empty one.
    pub(crate) fn from_json(value: &Value) -> Set {
        let fields = value.as_object().into_iter().flatten().filter(|(step, _)| *step != ".");
        let of = |(step, below): (&String, &Value)| {
            let bare = below.as_object().is_none_or(Map::is_empty);
            let member = bare || below.get(".").is_some();
            (step.clone(), Node { member, below: Set::from_json(below) })
        };
        Set { steps: fields.map(of).collect() }
    }
}

pub(super) fn readable(step: &str) -> String {
    let (kind, rest) = step.split_at(step.len().min(2));
    match kind {
        "f:" => format!(".{rest}"),
        "k:" => {
            let keys = serde_json::from_str::<Map<String, Value>>(rest).unwrap_or_default();
            let keys = keys.iter().map(|(key, value)| format!("{key}={value}"));
            format!("[{}]", keys.collect::<Vec<_>>().join(","))
        }
        "v:" => format!("[={rest}]"),
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = Set> {
        let step = prop_oneof![
            "f:[a-c]".prop_map(String::from),
            Just(r#"k:{"name":"x"}"#.to_owned()),
            Just(r#"v:"y""#.to_owned()),
        ];
        let leaf = Just(Set::default());
        leaf.prop_recursive(3, 24, 3, move |inner| {
            prop::collection::btree_map(step.clone(), (any::<bool>(), inner), 0..4).prop_map(
                |steps| {
                    let of = |(step, (member, below)): (String, (bool, Set))| {
                        let member = member || below.is_empty();
                        (step, Node { member, below })
                    };
                    Set { steps: steps.into_iter().map(of).collect() }
                },
            )
        })
    }

    proptest! {
        #[test]
        fn text_and_back(set in set()) {
            prop_assert_eq!(Set::from_json(&set.to_json()), set);
        }

        #[test]
        fn a_set_is_what_two_have_in_common_and_what_not(a in set(), b in set()) {
            let common = a.intersection(&b);
            prop_assert!(common.difference(&b).is_empty());
            prop_assert_eq!(&a.union(&b).intersection(&b), &b);
            prop_assert_eq!(common.union(&a.difference(&b)), a);
        }
    }

    #[test]
    fn paths_for_people() {
        let fields = json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}},
            "f:metadata": {"f:finalizers": {"v:\"x\"": {}}}});
        let expected = [
            r#".metadata.finalizers[="x"]"#,
            r#".spec.ports[port=80,protocol="TCP"]"#,
            r#".spec.ports[port=80,protocol="TCP"].name"#,
        ];
        assert_eq!(Set::from_json(&fields).paths(), expected);
    }
}
