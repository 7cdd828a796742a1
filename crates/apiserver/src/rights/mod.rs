//! What somebody who got in may do: roles and their bindings (RBAC). Pure.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>. *Here*: what is asked ([`Question`]), the answer
//! ([`judge`]), the roles that every cluster has ([`bootstrap`]), and roles made of others
//! ([`aggregate`]), and who may give rights to others ([`escalation`]).

pub(crate) mod aggregate;
pub(crate) mod bootstrap;
pub(crate) mod escalation;
mod rule;

use crate::access::User;
use crate::error::Error;
use crate::resources::Kind;
use crate::store::{Key, Object, Store};
use rule::{all, strings};
use serde_json::{Value, json};
use std::sync::Arc;

/// Members may do everything, whatever roles there are.
const MASTERS: &str = "system:masters";

/// Something that somebody wants to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Question {
    /// `get`, `list`, `create`, …
    pub(crate) verb: String,
    /// Something that is no object; everything below is empty then.
    pub(crate) path: Option<String>,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    /// Empty: all of them, or the kind has none.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

/// Whether a user may do something.
pub(crate) fn judge(store: &Store, user: &User, question: &Question) -> Judgement {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Judgement { allowed: true, reason: String::new() };
    }
    let mut missing = Vec::new();
    for binding in bindings(store, user, &question.namespace) {
        match binding.rules(store) {
            Some(role) if role.iter().any(|rule| rule::allows(rule, question)) => {
                return Judgement { allowed: true, reason: binding.reason() };
            }
            Some(_) => {}
            None => missing.push(binding.dangling()),
        }
    }
    let reason =
        if missing.is_empty() { String::new() } else { format!("RBAC: {}", missing.join(", ")) };
    Judgement { allowed: false, reason }
}

/// As [`judge`]; a no is the error that the client gets.
pub(crate) fn check(store: &Store, user: &User, question: &Question) -> Result<(), Error> {
    let Judgement { allowed, reason } = judge(store, user, question);
    if allowed {
        return Ok(());
    }
    let mut why = question.denial(&user.name);
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    let Question { group, resource, name, .. } = question.clone();
    Err(Error::Denied { group, resource, name, why })
}

/// All that a user may do in a namespace (`SubjectRulesReviewStatus`).
pub(crate) fn rules(store: &Store, user: &User, namespace: &str) -> Value {
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let anywhere = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let mut status = json!({"resourceRules": [], "nonResourceRules": [], "incomplete": false});
    if user.groups.iter().any(|group| group == MASTERS) {
        (status["resourceRules"], status["nonResourceRules"]) = (everything, anywhere);
        return status;
    }
    for binding in bindings(store, user, namespace) {
        for rule in binding.rules(store).unwrap_or_default() {
            let list = if rule.get("nonResourceURLs").is_some() {
                "nonResourceRules"
            } else {
                "resourceRules"
            };
            if let Some(list) = status[list].as_array_mut() {
                list.push(rule);
            }
        }
    }
    status
}

impl Question {
    /// About an object or all of a kind.
    pub(crate) fn about(verb: &str, group: &str, resource: &str) -> Self {
        let own = str::to_owned;
        Self { verb: own(verb), group: own(group), resource: own(resource), ..Self::default() }
    }

    /// `pods/log`
    fn whole_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            part => format!("{}/{part}", self.resource),
        }
    }

    /// Wording: `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters`.
    fn denial(&self, user: &str) -> String {
        let Self { verb, group, namespace, .. } = self;
        if let Some(path) = &self.path {
            return format!("User {user:?} cannot {verb} path {path:?}");
        }
        let place = match namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let resource = self.whole_resource();
        format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
    }
}

/// A binding that is about the user.
struct Binding {
    object: Arc<Object>,
    kind: Kind,
    /// Which of its subjects the user is.
    subject: Value,
}

/// The bindings of a user that count in a namespace.
fn bindings<'a>(
    store: &'a Store,
    user: &'a User,
    namespace: &'a str,
) -> impl Iterator<Item = Binding> + 'a {
    let whole = store.list(Kind::ClusterRoleBinding, None, None);
    let whole = whole.map(|it| (Kind::ClusterRoleBinding, it));
    let near =
        (!namespace.is_empty()).then(|| store.list(Kind::RoleBinding, Some(namespace), None));
    let near = near.into_iter().flatten().map(|it| (Kind::RoleBinding, it));
    whole.chain(near).filter_map(|(kind, (key, object))| {
        let mut subjects = all(&object.value["subjects"]);
        let subject = subjects.find(|subject| is(subject, user, &key.namespace))?.clone();
        Some(Binding { object: object.clone(), kind, subject })
    })
}

/// Whether a subject of a binding is this user; a service account without a namespace is of the binding's.
fn is(subject: &Value, user: &User, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == user.name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let own = subject["namespace"].as_str().filter(|it| !it.is_empty());
            let namespace = own.unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

impl Binding {
    fn role(&self) -> (Kind, &str) {
        let role = &self.object.value["roleRef"];
        let kind = if role["kind"] == "ClusterRole" { Kind::ClusterRole } else { Kind::Role };
        (kind, role["name"].as_str().unwrap_or_default())
    }

    /// None: there is no such role.
    fn rules(&self, store: &Store) -> Option<Vec<Value>> {
        let (kind, name) = self.role();
        let namespace = self.object.value["metadata"]["namespace"].as_str().unwrap_or_default();
        let namespace = if kind == Kind::ClusterRole { "" } else { namespace };
        let role = store.get(kind, &Key::new(namespace, name))?;
        Some(all(&role.value["rules"]).cloned().collect())
    }

    fn dangling(&self) -> String {
        let (kind, name) = self.role();
        let resource = kind.resource();
        format!("{}.{} {name:?} not found", resource.singular, resource.group)
    }

    /// Wording: `k8s.io/kubernetes/pkg/registry/rbac/validation`.
    fn reason(&self) -> String {
        let text = |pointer: &str| {
            self.object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
        };
        let subject = |field: &str| self.subject[field].as_str().unwrap_or_default();
        let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        let (kind, binding) = match self.kind {
            Kind::RoleBinding => ("RoleBinding", format!("{name}/{namespace}")),
            _ => ("ClusterRoleBinding", name.to_owned()),
        };
        let who = match subject("kind") {
            "ServiceAccount" => format!("{}/{}", subject("name"), subject("namespace")),
            _ => subject("name").to_owned(),
        };
        let (role, role_name) = (text("/roleRef/kind"), text("/roleRef/name"));
        let who_kind = subject("kind");
        format!("RBAC: allowed by {kind} {binding:?} of {role} {role_name:?} to {who_kind} {who:?}")
    }
}

/// Whether any of the words in a list is this one, or stands for all.
fn any_of(list: &Value, word: &str) -> bool {
    strings(list).any(|it| it == "*" || it == word)
}

#[cfg(test)]
mod tests;
