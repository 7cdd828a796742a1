use super::*;
use crate::admission::Pools;
use crate::registry::{Registry, Write};
use crate::store::History;
use proptest::prelude::*;

fn cluster() -> Registry {
    let pools = Pools::new(&["10.96.0.0/12".parse().unwrap()], &(30_000..=32_767));
    Registry::new(Store::new(0, History::default()), pools, 1, None, 0)
}

fn create(registry: &mut Registry, kind: Kind, namespace: &str, object: Value) {
    registry.create(kind, namespace, object, Write::own(0)).unwrap();
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    User { name: name.into(), groups, ..User::default() }
}

/// `verb group/resource/subresource namespace name`, with `-` for what is empty.
fn question(line: &str) -> Question {
    let word = |word: &str| if word == "-" { String::new() } else { word.to_owned() };
    let words: Vec<&str> = line.split(' ').collect();
    let [verb, what, namespace, name] = words[..] else {
        let (verb, path) = line.split_once(' ').unwrap();
        return Question { verb: verb.into(), path: Some(path.into()), ..Question::default() };
    };
    let mut parts = what.split('/').map(word);
    let mut part = || parts.next().unwrap_or_default();
    let (group, resource, subresource) = (part(), part(), part());
    let mut question = Question::about(verb, &group, &resource);
    question.subresource = subresource;
    (question.namespace, question.name) = (word(namespace), word(name));
    question
}

#[test]
fn roles_give_what_they_say_and_no_more() {
    let mut registry = cluster();
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
        {"verbs": ["update"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]},
    ]);
    create(
        &mut registry,
        Kind::Role,
        "default",
        json!({"metadata": {"name": "reader"}, "rules": rules}),
    );
    let reference =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
    let subjects = json!([
        {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"},
        {"kind": "ServiceAccount", "name": "robot"},
    ]);
    let binding =
        json!({"metadata": {"name": "readers"}, "roleRef": reference, "subjects": subjects});
    create(&mut registry, Kind::RoleBinding, "default", binding);
    let (jane, root) = (user("jane", &["system:authenticated"]), user("root", &["system:masters"]));
    let robot = user("system:serviceaccount:default:robot", &[]);
    for (who, line, allowed) in [
        (&jane, "get -/pods default web", true),
        (&robot, "get -/pods default web", true),
        (&jane, "get -/pods/log default web", true),
        (&jane, "get -/pods/exec default web", false),
        (&jane, "get -/pods kube-system web", false),
        (&jane, "list -/pods - -", false),
        (&jane, "watch -/pods default -", false),
        (&jane, "get apps/pods default web", false),
        (&jane, "patch apps/deployments/scale default web", true),
        (&jane, "patch apps/deployments default web", false),
        (&jane, "update -/configmaps default mine", true),
        (&jane, "update -/configmaps default yours", false),
        (&jane, "get /apis/apps/v1", true),
        (&jane, "get /metrics", false),
        (&jane, "create authorization.k8s.io/selfsubjectaccessreviews - -", true),
        (&jane, "create authorization.k8s.io/subjectaccessreviews - -", false),
        (&root, "delete -/nodes - node-1", true),
        (&root, "get /metrics", true),
    ] {
        let judgement = judge(&registry.store, who, &question(line));
        assert_eq!(judgement.allowed, allowed, "{}: {line}: {judgement:?}", who.name);
    }
    let reason = judge(&registry.store, &jane, &question("get -/pods default web")).reason;
    let expected =
        r#"RBAC: allowed by RoleBinding "readers/default" of Role "reader" to User "jane""#;
    assert_eq!(reason, expected);
}

#[test]
fn a_denial_reads_like_the_real_servers() {
    let mut registry = cluster();
    let jane = user("jane", &[]);
    for (line, expected) in [
        (
            "list -/pods default -",
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#,
        ),
        (
            "get apps/deployments/scale a web",
            r#"deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" in the namespace "a""#,
        ),
        (
            "list -/nodes - -",
            r#"nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope"#,
        ),
        ("get /metrics", r#"forbidden: User "jane" cannot get path "/metrics""#),
    ] {
        let error = check(&registry.store, &jane, &question(line)).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (403, expected));
    }
    let reference =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gone"});
    let subjects =
        json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects});
    create(&mut registry, Kind::ClusterRoleBinding, "", binding);
    let error = check(&registry.store, &jane, &question("get /metrics")).unwrap_err();
    let reason = r#": RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#;
    assert!(error.to_string().ends_with(reason), "{error}");
}

#[test]
fn roles_of_roles_follow_their_parts() {
    let mut registry = cluster();
    let rules = |registry: &Registry, name: &str| {
        let role = registry.get(Kind::ClusterRole, &Key::new("", name)).unwrap();
        role.value["rules"].to_string()
    };
    for role in ["view", "edit", "admin"] {
        assert!(rules(&registry, role).contains("endpointslices"), "{role}");
    }
    assert!(!rules(&registry, "view").contains("secrets"));
    assert!(rules(&registry, "admin").contains("rolebindings"));
    let part = json!({
        "metadata": {"name": "widgets", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["widgets"]}],
    });
    create(&mut registry, Kind::ClusterRole, "", part);
    for role in ["view", "edit", "admin"] {
        assert!(rules(&registry, role).contains("widgets"), "{role}");
    }
    let deletion = crate::registry::Deletion::default();
    registry.delete(Kind::ClusterRole, &Key::new("", "widgets"), &deletion, Write::own(0)).unwrap();
    assert!(!rules(&registry, "admin").contains("widgets"));
}

proptest! {
    /// More rules never take anything away.
    #[test]
    fn a_binding_only_adds(verb in "(get|list)", resource in "(pods|nodes)", extra in "(get|list|\\*)") {
        let mut registry = cluster();
        let jane = user("jane", &[]);
        let asked = Question::about(&verb, "", &resource);
        let before = judge(&registry.store, &jane, &asked).allowed;
        let rules = json!([{"verbs": [extra], "apiGroups": [""], "resources": ["pods"]}]);
        create(&mut registry, Kind::ClusterRole, "", json!({"metadata": {"name": "r"}, "rules": rules}));
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
        let subjects = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]);
        let binding = json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects});
        create(&mut registry, Kind::ClusterRoleBinding, "", binding);
        let after = judge(&registry.store, &jane, &asked).allowed;
        prop_assert!(!before && after == (resource == "pods" && (extra == "*" || extra == verb)));
    }
}

/// A cluster in which jane may do something, and what becomes of a write of hers.
fn written_by_jane(own: Value, kind: Kind, object: Value) -> Result<(), String> {
    let mut registry = cluster();
    let role = json!({"metadata": {"name": "own"}, "rules": own});
    create(&mut registry, Kind::ClusterRole, "", role);
    let subjects =
        json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]);
    let reference =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "own"});
    let binding = json!({"metadata": {"name": "own"}, "roleRef": reference, "subjects": subjects});
    create(&mut registry, Kind::ClusterRoleBinding, "", binding);
    let jane = user("jane", &["system:authenticated"]);
    let write = Write { caller: Some(&jane), ..Write::own(0) };
    let made = registry.create(kind, "default", object, write);
    made.map(drop).map_err(|error| format!("{} {error}", error.code()))
}

#[test]
fn nobody_gives_more_than_he_has() {
    let rule = |verbs: &[&str], resources: &[&str]| json!({"apiGroups": [""], "verbs": verbs, "resources": resources});
    let role = |rules: Value| json!({"metadata": {"name": "r"}, "rules": rules});
    let binding = |kind: &str, name: &str| {
        json!({"metadata": {"name": "b"}, "subjects": [],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}})
    };
    let may = |verb: &str, resource: &str| json!({"apiGroups": ["rbac.authorization.k8s.io"], "verbs": [verb], "resources": [resource]});
    let head = r#"403 roles.rbac.authorization.k8s.io "r" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:"#;
    let reads = rule(&["get", "list"], &["pods", "*/scale"]);
    for (own, kind, object, refusal) in [
        (json!([reads]), Kind::Role, role(json!([rule(&["get"], &["pods"])])), None),
        (json!([reads]), Kind::Role, role(json!([rule(&["list"], &["services/scale"])])), None),
        (
            json!([reads]),
            Kind::Role,
            role(json!([rule(&["get", "delete", "watch"], &["secrets", "pods"])])),
            Some(format!(
                "{head}\n{{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}}\n{{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\" \"watch\"]}}"
            )),
        ),
        (
            json!([{"apiGroups": [""], "verbs": ["get"], "resources": ["pods"], "resourceNames": ["a"]}]),
            Kind::Role,
            role(json!([rule(&["get"], &["pods"])])),
            Some(format!("{head}\n{{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}}")),
        ),
        (
            json!([may("escalate", "roles")]),
            Kind::Role,
            role(json!([rule(&["*"], &["*"])])),
            None,
        ),
        (
            json!([reads]),
            Kind::RoleBinding,
            binding("ClusterRole", "nosuch"),
            Some(r#"404 clusterroles.rbac.authorization.k8s.io "nosuch" not found"#.to_owned()),
        ),
        (json!([reads]), Kind::RoleBinding, binding("ClusterRole", "own"), None),
        (
            json!([{"nonResourceURLs": ["/a/*"], "verbs": ["get"]}]),
            Kind::ClusterRole,
            role(json!([{"nonResourceURLs": ["/a/b", "/b"], "verbs": ["get"]}])),
            Some(format!("{}\n{{NonResourceURLs:[\"/b\"], Verbs:[\"get\"]}}", head.replace("403 roles", "403 clusterroles"))),
        ),
        (
            json!([may("bind", "clusterroles")]),
            Kind::ClusterRoleBinding,
            binding("ClusterRole", "cluster-admin"),
            None,
        ),
        (
            json!([reads]),
            Kind::ClusterRole,
            json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}),
            Some(r#"403 clusterroles.rbac.authorization.k8s.io "r" is forbidden: must have cluster-admin privileges to use the aggregationRule"#.to_owned()),
        ),
    ] {
        assert_eq!(written_by_jane(own, kind, object.clone()).err(), refusal, "{object}");
    }
    let admin = written_by_jane(json!([reads]), Kind::RoleBinding, binding("ClusterRole", "admin"));
    let refused = admin.unwrap_err();
    assert!(
        refused.starts_with(
            r#"403 rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "jane""#
        ),
        "{refused}"
    );
}
