//! Which requests a policy, a binding or a webhook is about.

use super::{Attributes, items};
use crate::registry::Registry;
use crate::resources::{Kind, Resource, built_in};
use crate::selector::Selector;
use serde_json::Value;

/// `MatchResources`
#[derive(Debug)]
pub(crate) struct Match {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// None: one that nobody understands.
    namespaces: Option<Selector>,
    objects: Option<Selector>,
    /// Other versions of the same objects are other objects.
    exact: bool,
}

#[derive(Debug)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    operations: Vec<String>,
    resources: Vec<(String, String)>,
    /// Whether objects of namespaces, or those of the cluster.
    namespaced: Option<bool>,
    /// Empty: all.
    names: Vec<String>,
}

impl Match {
    pub(crate) fn new(resources: &Value) -> Self {
        let rules = |list: &str| items(&resources[list]).map(Rule::new).collect();
        Self { excluded: rules("excludeResourceRules"), ..Self::of(resources, "resourceRules") }
    }

    /// Of a webhook, whose rules are `rules`.
    pub(crate) fn of(resources: &Value, rules: &str) -> Self {
        Self {
            rules: items(&resources[rules]).map(Rule::new).collect(),
            excluded: Vec::new(),
            namespaces: Selector::of_object(&resources["namespaceSelector"]),
            objects: Selector::of_object(&resources["objectSelector"]),
            exact: resources["matchPolicy"] == "Exact",
        }
    }

    /// The form of the objects in which they are asked about; none: not at all.
    pub(crate) fn form(
        &self,
        registry: &Registry,
        request: &Attributes<'_>,
    ) -> Option<&'static Resource> {
        let is_about = self.has_namespace(registry, request) && self.has_object(request);
        if !is_about || self.first(&self.excluded, request).is_some() {
            return None;
        }
        self.first(&self.rules, request)
    }

    /// As [`Self::form`], of a binding: without rules it is about all that the policy is about.
    pub(crate) fn narrows_to(&self, registry: &Registry, request: &Attributes<'_>) -> bool {
        match self.rules.is_empty() {
            false => self.form(registry, request).is_some(),
            true => {
                self.has_namespace(registry, request)
                    && self.has_object(request)
                    && self.first(&self.excluded, request).is_none()
            }
        }
    }

    fn first(&self, rules: &[Rule], request: &Attributes<'_>) -> Option<&'static Resource> {
        if rules.is_empty() {
            return None;
        }
        let asked = |form: &Resource| rules.iter().any(|rule| rule.is_about(request, form));
        if asked(request.resource) {
            return Some(request.resource);
        }
        let same = |form: &&'static Resource| !std::ptr::eq(*form, request.resource) && asked(form);
        match request.resource.kind {
            _ if self.exact => None,
            Kind::Custom(custom) => custom.served().find(same),
            kind => built_in().filter(|form| form.kind == kind).find(same),
        }
    }

    fn has_namespace(&self, registry: &Registry, request: &Attributes<'_>) -> bool {
        let Some(selector) = &self.namespaces else { return false };
        selector.is_empty()
            || request.namespace.is_empty()
            || request.namespace_labels(registry).is_some_and(|labels| selector.selects(&labels))
    }

    fn has_object(&self, request: &Attributes<'_>) -> bool {
        let Some(selector) = &self.objects else { return false };
        let fits = |object: &Value| selector.selects(&object["metadata"]["labels"]);
        selector.is_empty() || [request.object, request.old].into_iter().flatten().any(fits)
    }
}

impl Rule {
    fn new(rule: &Value) -> Self {
        let texts = |field: &str| -> Vec<String> {
            items(&rule[field]).filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let split = |resource: String| match resource.split_once('/') {
            Some((resource, part)) => (resource.to_owned(), part.to_owned()),
            None => (resource, String::new()),
        };
        Self {
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            operations: texts("operations"),
            resources: texts("resources").into_iter().map(split).collect(),
            namespaced: match rule["scope"].as_str() {
                Some("Namespaced") => Some(true),
                Some("Cluster") => Some(false),
                _ => None,
            },
            names: texts("resourceNames"),
        }
    }

    fn is_about(&self, request: &Attributes<'_>, form: &Resource) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|it| it == "*" || it == wanted);
        let is_one = |wanted: &str, found: &str| wanted == "*" || wanted == found;
        let is_of_namespace =
            request.resource.kind != Kind::Namespace && !request.namespace.is_empty();
        self.namespaced.is_none_or(|wanted| wanted == is_of_namespace)
            && has(&self.operations, request.operation.name())
            && has(&self.groups, form.group)
            && has(&self.versions, form.version)
            && self.resources.iter().any(|(resource, part)| {
                is_one(resource, form.plural) && is_one(part, request.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| **name == *request.name))
    }
}
