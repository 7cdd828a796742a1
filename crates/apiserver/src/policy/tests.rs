use super::*;
use crate::access::User;
use crate::admission::Pools;
use crate::error::Error;
use crate::registry::{Part, Registry, Write};
use crate::store::{History, Key, Object, Store};
use serde_json::json;

fn registry() -> Registry {
    let pools = Pools::new(&["10.96.0.0/24".parse().unwrap()], &(30_000..=30_010));
    let store = Store::new(0, History::default());
    let mut registry = Registry::new(store, pools, 1, None, 0);
    let namespace = json!({"metadata": {"name": "a", "labels": {"team": "x"}}});
    registry.create(Kind::Namespace, "", namespace, Write::own(0)).unwrap();
    registry
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|it| (*it).to_owned()).collect();
    User { name: name.to_owned(), groups, ..User::default() }
}

fn by(user: &User) -> Write<'_> {
    Write { caller: Some(user), ..Write::own(0) }
}

fn put(registry: &mut Registry, kind: Kind, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    registry.create(kind, "", object, Write::own(0)).unwrap();
}

/// A policy about these resources, and a binding that denies.
fn deny(registry: &mut Registry, name: &str, resources: &str, operations: &str, rule: &str) {
    let (resources, operations) = (json!([resources]), json!([operations]));
    let about = json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": resources, "operations": operations});
    let validation = json!({"expression": rule, "message": name});
    let spec = json!({"matchConstraints": {"resourceRules": [about]}, "validations": [validation]});
    put(registry, Kind::ValidatingAdmissionPolicy, name, spec);
    let spec = json!({"policyName": name, "validationActions": ["Deny"]});
    put(registry, Kind::ValidatingAdmissionPolicyBinding, name, spec);
}

fn create(registry: &mut Registry, name: &str, user: &User) -> Result<Arc<Object>, Error> {
    let object = json!({"metadata": {"name": name}, "data": {"a": "b"}});
    registry.create(Kind::ConfigMap, "a", object, by(user))
}

#[test]
fn expressions_ask_what_somebody_may_do() {
    let mut registry = registry();
    let rule = "authorizer.requestResource.check('update').allowed() && \
                !authorizer.serviceAccount('a', 'b').group('').resource('pods').check('get').allowed()";
    deny(&mut registry, "p", "configmaps", "CREATE", rule);
    create(&mut registry, "x", &user("eve", &[])).unwrap_err();
    create(&mut registry, "x", &user("admin", &["system:masters"])).unwrap();
}

#[test]
fn policies_see_deletions_parts_and_scales() {
    let mut registry = registry();
    let admin = user("admin", &["system:masters"]);
    deny(
        &mut registry,
        "kept",
        "configmaps",
        "DELETE",
        "object == null && oldObject.data.a != 'b'",
    );
    create(&mut registry, "x", &admin).unwrap();
    let key = Key::new("a", "x");
    let deleted = registry.delete(Kind::ConfigMap, &key, &Default::default(), by(&admin));
    assert!(deleted.unwrap_err().to_string().ends_with("denied request: kept"));
    registry.delete(Kind::ConfigMap, &key, &Default::default(), Write::own(0)).unwrap();

    let rule = "request.kind.kind == 'Scale' && object.spec.replicas < 3 && request.subResource == 'scale'";
    deny(&mut registry, "few", "deployments/scale", "UPDATE", rule);
    deny(&mut registry, "status", "deployments/status", "UPDATE", "object.status.replicas < 9");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let object = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = registry.create(Kind::Deployment, "a", object, by(&admin)).unwrap();
    let (key, scale) = (Key::new("a", "d"), Kind::Deployment.resource().scale.unwrap());
    for (wanted, allowed) in [(2, true), (5, false)] {
        let view =
            json!({"metadata": {"name": "d", "namespace": "a"}, "spec": {"replicas": wanted}});
        let scaled = registry.rescale(Kind::Deployment, &key, scale, &view, by(&admin));
        assert_eq!(scaled.is_ok(), allowed, "{scaled:?}");
    }
    let mut object = made.value.clone();
    object["metadata"]["resourceVersion"].take();
    object["status"] = json!({"replicas": 9});
    let written = registry.update(Kind::Deployment, &key, Part::Status, object, by(&admin));
    assert!(written.unwrap_err().to_string().ends_with("denied request: status"));
}

#[test]
fn nobody_locks_himself_out() {
    let mut registry = registry();
    deny(&mut registry, "all", "*", "*", "false");
    let admin = user("admin", &["system:masters"]);
    create(&mut registry, "x", &admin).unwrap_err();
    let key = Key::new("", "all");
    let kind = Kind::ValidatingAdmissionPolicyBinding;
    registry.delete(kind, &key, &Default::default(), by(&admin)).unwrap();
    create(&mut registry, "x", &admin).unwrap();
}

#[test]
fn warnings_are_told_and_failures_ignored() {
    let mut registry = registry();
    let admin = user("admin", &["system:masters"]);
    let about = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]});
    let rules = json!([{"expression": "object.nothing == 1"}, {"expression": "object.metadata.name == 'x'"}]);
    let spec = json!({"failurePolicy": "Ignore", "matchConstraints": {"resourceRules": [about]}, "validations": rules});
    put(&mut registry, Kind::ValidatingAdmissionPolicy, "w", spec);
    let spec = json!({"policyName": "w", "validationActions": ["Warn"]});
    put(&mut registry, Kind::ValidatingAdmissionPolicyBinding, "w", spec);
    create(&mut registry, "y", &admin).unwrap();
    let expected = "Validation failed for ValidatingAdmissionPolicy 'w' with binding 'w': failed expression: object.metadata.name == 'x'";
    assert_eq!(registry.take_warnings(), [expected]);
    create(&mut registry, "x", &admin).unwrap();
    assert!(registry.take_warnings().is_empty());
}

#[test]
fn unknown_kinds_of_parameters_are_told() {
    let mut registry = registry();
    let about = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]});
    let spec = json!({"paramKind": {"apiVersion": "no.such/v1", "kind": "Thing"}, "matchConstraints": {"resourceRules": [about]},
        "validations": [{"expression": "params == null"}]});
    put(&mut registry, Kind::ValidatingAdmissionPolicy, "p", spec);
    let spec = json!({"policyName": "p", "validationActions": ["Deny"]});
    put(&mut registry, Kind::ValidatingAdmissionPolicyBinding, "p", spec);
    let refused = create(&mut registry, "x", &user("admin", &["system:masters"])).unwrap_err();
    let expected = "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'no.such/v1, Kind=Thing'";
    assert_eq!(refused.to_string(), expected);
}

/// The first policy adds what the second wants, and is asked again when that one changed something.
#[test]
fn mutations_follow_each_other() {
    let mut registry = registry();
    let about = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]});
    for (name, again, expression) in [
        ("a", "IfNeeded", "Object{data: {'first': string(size(object.data))}}"),
        ("b", "Never", "Object{data: {'second': object.data.first}}"),
    ] {
        let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
        let spec = json!({"reinvocationPolicy": again, "matchConstraints": {"resourceRules": [about]}, "mutations": [mutation]});
        put(&mut registry, Kind::MutatingAdmissionPolicy, name, spec);
        put(&mut registry, Kind::MutatingAdmissionPolicyBinding, name, json!({"policyName": name}));
    }
    let made = create(&mut registry, "x", &user("admin", &["system:masters"])).unwrap();
    assert_eq!(made.value["data"], json!({"a": "b", "first": "3", "second": "1"}));
}
