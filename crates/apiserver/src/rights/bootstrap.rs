//! The roles and bindings that every cluster has.

use crate::resources::Kind;
use serde_json::{Value, json};

const TEXT: &str = include_str!("bootstrap.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// Kind, namespace and object of each, as it is created.
pub(crate) fn objects() -> Vec<(Kind, String, Value)> {
    let mut objects = Vec::new();
    for line in TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            if let Some((_, _, Value::Object(role))) = objects.last_mut() {
                let rules = role.entry("rules").or_insert_with(|| json!([]));
                rules.as_array_mut().into_iter().for_each(|rules| rules.extend(rule(&words)));
            }
        } else {
            objects.extend(object(&words));
        }
    }
    objects
}

fn object(words: &[&str]) -> Option<(Kind, String, Value)> {
    let (kind, namespace, object) = match *words {
        ["role", name, ref labels @ ..] => (Kind::ClusterRole, "", named(name, labels)),
        ["sum", name, parts, ref labels @ ..] => {
            let mut role = named(name, labels);
            let selector = json!({"matchLabels": {format!("{GROUP}/{parts}"): "true"}});
            role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
            (Kind::ClusterRole, "", role)
        }
        ["local", namespace, name] => (Kind::Role, namespace, named(name, &[])),
        ["bind", name, role, ref subjects @ ..] => {
            (Kind::ClusterRoleBinding, "", binding(name, "ClusterRole", role, subjects))
        }
        ["bindlocal", namespace, name, role, ref subjects @ ..] => {
            (Kind::RoleBinding, namespace, binding(name, "Role", role, subjects))
        }
        _ => return None,
    };
    Some((kind, namespace.to_owned(), object))
}

fn named(name: &str, labels: &[&str]) -> Value {
    let mut metadata = json!({
        "name": name,
        "annotations": {format!("{GROUP}/autoupdate"): "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    for label in labels {
        metadata["labels"][format!("{GROUP}/{label}")] = "true".into();
    }
    json!({"metadata": metadata})
}

fn rule(words: &[&str]) -> Option<Value> {
    let list = |text: &str| -> Vec<String> {
        let words = text.split(',');
        words.map(|word| if word == "core" { "" } else { word }.to_owned()).collect()
    };
    Some(match *words {
        [verbs, "url", paths] => json!({"verbs": list(verbs), "nonResourceURLs": list(paths)}),
        [verbs, groups, resources] => {
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)})
        }
        [verbs, groups, resources, names] => json!({
            "verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources),
            "resourceNames": list(names),
        }),
        _ => return None,
    })
}

fn binding(name: &str, kind: &str, role: &str, subjects: &[&str]) -> Value {
    let subject = |word: &&str| {
        let (kind, name) = word.split_once(':')?;
        Some(match kind {
            "g" => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
            "u" => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
            _ => {
                let (namespace, name) = name.split_once(':')?;
                json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
            }
        })
    };
    let subjects: Vec<Value> = subjects.iter().filter_map(subject).collect();
    let mut binding = named(name, &[]);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": role});
    if !subjects.is_empty() {
        binding["subjects"] = subjects.into();
    }
    binding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood() {
        let lines = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (rules, heads): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(' '));
        let objects = objects();
        assert_eq!(objects.len(), heads.len());
        let made = objects.iter().filter_map(|(_, _, object)| object["rules"].as_array());
        assert_eq!(made.map(Vec::len).sum::<usize>(), rules.len());
        for (kind, _, object) in objects.iter().filter(|it| it.2.get("roleRef").is_some()) {
            let role = &object["roleRef"];
            let there = objects.iter().any(|(_, _, it)| it["metadata"]["name"] == role["name"]);
            assert!(there, "{kind:?} {object}");
        }
    }
}
