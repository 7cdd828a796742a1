//! Nobody gives others more rights than he has, unless he may `escalate` the role or `bind` it.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>;
//! wording: `k8s.io/kubernetes/pkg/registry/rbac/validation`.

use super::rule::{all, strings};
use super::{MASTERS, Question, bindings, judge};
use crate::access::User;
use crate::error::Error;
use crate::resources::{Kind, Resource};
use crate::store::{Key, Store};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or a binding that gives more than its writer has; `old` is what it replaces.
pub(crate) fn check(
    store: &Store,
    user: &User,
    resource: &'static Resource,
    key: &Key,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Error> {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let may = |verb: &str, plural: &str, name: &str| {
        let (namespace, name) = (key.namespace.clone(), name.to_owned());
        let question = Question { namespace, name, ..Question::about(verb, GROUP, plural) };
        judge(store, user, &question).allowed
    };
    let rules = match resource.kind {
        Kind::Role | Kind::ClusterRole => {
            let name = if old.is_some() { key.name.as_str() } else { "" };
            let same = |old: &Value| {
                ["rules", "aggregationRule"]
                    .iter()
                    .all(|field| old.get(*field) == object.get(*field))
            };
            if old.is_some_and(same) || may("escalate", resource.plural, name) {
                return Ok(());
            }
            object["rules"].clone()
        }
        Kind::RoleBinding | Kind::ClusterRoleBinding => {
            let role = &object["roleRef"];
            let name = role["name"].as_str().unwrap_or_default();
            let (kind, namespace) = match role["kind"].as_str() {
                Some("ClusterRole") => (Kind::ClusterRole, ""),
                // What is no role is refused elsewhere.
                Some("Role") => (Kind::Role, key.namespace.as_str()),
                _ => return Ok(()),
            };
            let given = |binding: &Value| (binding["subjects"].clone(), binding["roleRef"].clone());
            let same = old.is_some_and(|old| given(old) == given(object));
            if same || may("bind", kind.resource().plural, name) {
                return Ok(());
            }
            let missing = || Error::NotFound { resource: kind.resource(), name: name.to_owned() };
            store.get(kind, &Key::new(namespace, name)).ok_or_else(missing)?.value["rules"].clone()
        }
        _ => return Ok(()),
    };
    let refuse = |why: String| Error::Denied {
        group: GROUP.to_owned(),
        resource: resource.plural.to_owned(),
        name: key.name.clone(),
        why,
    };
    let own: Vec<Value> = bindings(store, user, &key.namespace)
        .filter_map(|binding| binding.rules(store))
        .flatten()
        .collect();
    let missing = missing(&own, &rules);
    if !missing.is_empty() {
        let (name, groups) = (&user.name, quoted(user.groups.iter().map(String::as_str)));
        return Err(refuse(format!(
            "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
            described(&missing).join("\n")
        )));
    }
    // What others' roles will say nobody knows.
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    if !object["aggregationRule"].is_null() && !self::missing(&own, &everything).is_empty() {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(refuse(why.to_owned()));
    }
    Ok(())
}

/// A rule with one of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Right<'a> {
    Resource { group: &'a str, resource: &'a str, name: Option<&'a str>, verb: &'a str },
    Path { path: &'a str, verb: &'a str },
}

/// The rights in `rules` that no rule of `own` covers.
fn missing<'a>(own: &[Value], rules: &'a Value) -> Vec<Right<'a>> {
    let rights = all(rules).flat_map(rights);
    rights.filter(|right| !own.iter().any(|rule| right.is_in(rule))).collect()
}

fn rights(rule: &Value) -> Vec<Right<'_>> {
    let mut rights = Vec::new();
    let names: Vec<Option<&str>> = match strings(&rule["resourceNames"]).map(Some).collect() {
        names if Vec::is_empty(&names) => vec![None],
        names => names,
    };
    for group in strings(&rule["apiGroups"]) {
        for resource in strings(&rule["resources"]) {
            for verb in strings(&rule["verbs"]) {
                let of = |name| Right::Resource { group, resource, name, verb };
                rights.extend(names.iter().copied().map(of));
            }
        }
    }
    for path in strings(&rule["nonResourceURLs"]) {
        rights.extend(strings(&rule["verbs"]).map(|verb| Right::Path { path, verb }));
    }
    rights
}

impl Right<'_> {
    fn is_in(&self, rule: &Value) -> bool {
        let has = |list: &str, word: &str| strings(&rule[list]).any(|it| it == word || it == "*");
        match *self {
            Self::Path { path, verb } => {
                let covers = |own: &str| {
                    own == path || own.strip_suffix('*').is_some_and(|it| path.starts_with(it))
                };
                has("verbs", verb) && strings(&rule["nonResourceURLs"]).any(covers)
            }
            Self::Resource { group, resource, name, verb } => {
                let part = resource.split_once('/').map(|(_, part)| format!("*/{part}"));
                let covers =
                    |own: &str| own == "*" || own == resource || Some(own) == part.as_deref();
                let mut names = strings(&rule["resourceNames"]).peekable();
                has("verbs", verb)
                    && has("apiGroups", group)
                    && strings(&rule["resources"]).any(covers)
                    && (names.peek().is_none() || names.any(|own| Some(own) == name))
            }
        }
    }
}

/// One line for each thing that something may be done with, in order.
fn described(missing: &[Right<'_>]) -> Vec<String> {
    let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut lines = BTreeSet::new();
    for right in missing {
        match right {
            Right::Path { path, verb } => {
                lines.insert(format!("{{NonResourceURLs:[{path:?}], Verbs:[{verb:?}]}}"));
            }
            Right::Resource { group, resource, name, verb } => {
                let name = name.map(|it| format!(", ResourceNames:[{it:?}]")).unwrap_or_default();
                let about = format!("APIGroups:[{group:?}], Resources:[{resource:?}]{name}");
                verbs.entry(about).or_default().push(verb);
            }
        }
    }
    lines.extend(
        verbs
            .into_iter()
            .map(|(about, verbs)| format!("{{{about}, Verbs:{}}}", quoted(verbs.into_iter()))),
    );
    lines.into_iter().collect()
}

/// As Go prints texts (`%q`).
fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}
