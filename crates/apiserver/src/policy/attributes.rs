//! A request as admission sees it (`k8s.io/apiserver/pkg/admission.Attributes`).

use crate::access::User;
use crate::registry::Registry;
use crate::resources::{Kind, Resource};
use crate::store::Key;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What a request is about.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    pub(crate) operation: Operation,
    /// The form of the objects.
    pub(crate) resource: &'static Resource,
    /// Empty: the object itself.
    pub(crate) subresource: &'static str,
    /// Group, version and kind of the objects, where they are not the resource's.
    pub(crate) kind: Option<(&'static str, &'static str, &'static str)>,
    /// Of an object of the cluster: empty; of a namespace itself: its name.
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
    pub(crate) user: &'a User,
    pub(crate) dry_run: bool,
    pub(crate) options: Value,
}

impl<'a> Attributes<'a> {
    /// A request about an object itself; `key` is of the request, so that a made up name is none.
    pub(crate) fn new(
        operation: Operation,
        resource: &'static Resource,
        key: &'a Key,
        user: &'a User,
    ) -> Self {
        let namespace: &str =
            if resource.kind == Kind::Namespace { &key.name } else { &key.namespace };
        Self {
            operation,
            resource,
            subresource: "",
            kind: None,
            namespace: namespace.into(),
            name: (&*key.name).into(),
            object: None,
            old: None,
            user,
            dry_run: false,
            options: Value::Null,
        }
    }

    pub(crate) fn group_version_kind(&self) -> (&'static str, &'static str, &'static str) {
        let resource = self.resource;
        self.kind.unwrap_or((resource.group, resource.version, resource.name))
    }

    /// The same request in another form of its objects.
    pub(crate) fn in_form(&self, form: &'static Resource) -> (Option<Value>, Option<Value>) {
        let convert = |object: Option<&Value>| {
            let object = object?;
            if self.kind.is_some() || std::ptr::eq(form, self.resource) {
                return Some(object.clone());
            }
            Some(form.shown(&self.resource.stored(object.clone())).into_owned())
        };
        (convert(self.object), convert(self.old))
    }

    /// `AdmissionRequest` as expressions see it; fields that say nothing are not there.
    pub(crate) fn request(&self, form: &'static Resource) -> Value {
        let (group, version, kind) = match self.kind {
            Some(kind) => kind,
            None => (form.group, form.version, form.name),
        };
        let (own_group, own_version, own_kind) = self.group_version_kind();
        let mut request = json!({
            "uid": "",
            "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": form.group, "version": form.version, "resource": form.plural},
            "requestKind": {"group": own_group, "version": own_version, "kind": own_kind},
            "requestResource": {
                "group": self.resource.group,
                "version": self.resource.version,
                "resource": self.resource.plural,
            },
            "operation": self.operation.name(),
            "userInfo": self.user.json(),
            "dryRun": self.dry_run,
            "options": self.options,
        });
        for (field, text) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", &self.name),
            ("namespace", &self.namespace),
        ] {
            if !text.is_empty() {
                request[field] = text.into();
            }
        }
        request
    }

    /// What errors call the object.
    pub(crate) fn shown_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone().into_owned();
        }
        let of = |field: &str| {
            let name = self.object?["metadata"][field].as_str()?;
            (!name.is_empty()).then(|| name.to_owned())
        };
        of("name").or_else(|| of("generateName")).unwrap_or_else(|| "Unknown".to_owned())
    }

    /// The labels of the request's namespace; none: it has none, or there is no such namespace.
    pub(super) fn namespace_labels(&self, registry: &Registry) -> Option<Value> {
        if self.resource.kind == Kind::Namespace
            && self.subresource.is_empty()
            && let Some(object) = self.object
        {
            return Some(object["metadata"]["labels"].clone());
        }
        let key = Key::new("", &self.namespace);
        let namespace = registry.store.get(Kind::Namespace, &key)?;
        Some(namespace.look(&["metadata", "labels"]).into_owned())
    }
}
