//! Objects that a binding gives to its policy.

use super::Attributes;
use crate::registry::Registry;
use crate::resources;
use crate::selector::Selector;
use crate::store::{Key, Object};
use serde_json::Value;
use std::sync::Arc;

/// `ParamRef`
#[derive(Debug)]
pub(super) struct Reference {
    name: String,
    namespace: String,
    selector: Option<Selector>,
    denies_without: bool,
}

impl Reference {
    pub(super) fn new(reference: &Value) -> Option<Self> {
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
        reference.is_object().then(|| Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: Selector::of_object(&reference["selector"]),
            denies_without: reference["parameterNotFoundAction"] == "Deny",
        })
    }
}

/// Why there are no parameters to evaluate with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misconfigured {
    #[error(
        "failed to configure policy: failed to find resource referenced by paramKind: '{version}, Kind={kind}'"
    )]
    UnknownKind { version: String, kind: String },
    #[error(
        "failed to configure binding: cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
    )]
    NoNamespace,
    #[error(
        "failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
    )]
    Namespace,
    #[error(
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )]
    NotFound,
}

impl Misconfigured {
    pub(super) fn is_of_binding(&self) -> bool {
        !matches!(self, Self::UnknownKind { .. })
    }
}

/// The parameters with which to evaluate, one after the other; `None` among them: without.
pub(super) fn collect(
    registry: &Registry,
    kind: Option<&(String, String)>,
    reference: Option<&Reference>,
    request: &Attributes<'_>,
) -> Result<Vec<Option<Value>>, Misconfigured> {
    let Some((version, kind)) = kind else { return Ok(vec![None]) };
    let mut served = resources::served(registry.customs.kinds());
    let Some(resource) = served.find(|it| it.name == kind && it.api_version() == *version) else {
        let core = if version.contains('/') { "" } else { "/" };
        return Err(Misconfigured::UnknownKind {
            version: format!("{core}{version}"),
            kind: kind.clone(),
        });
    };
    let Some(reference) = reference else { return Ok(vec![None]) };
    let namespace = match (resource.namespaced, reference.namespace.as_str(), &*request.namespace) {
        (true, "", "") => return Err(Misconfigured::NoNamespace),
        (true, "", own) => own,
        (true, other, _) => other,
        (false, "", _) => "",
        (false, ..) => return Err(Misconfigured::Namespace),
    };
    let show = |object: Arc<Object>| Some(resource.shown(&object.value).into_owned());
    let found: Vec<_> = if reference.name.is_empty() {
        let scope = resource.namespaced.then_some(namespace);
        let listed = registry.store.list(resource.kind, scope, None).map(|(_, object)| object);
        let chosen = |object: &Arc<Object>| {
            reference.selector.as_ref().is_some_and(|selector| selector.matches(object))
        };
        listed.filter(chosen).map(show).collect()
    } else {
        let object = registry.store.get(resource.kind, &Key::new(namespace, &reference.name));
        object.map(show).into_iter().collect()
    };
    if found.is_empty() && reference.denies_without {
        return Err(Misconfigured::NotFound);
    }
    Ok(found)
}
