//! What kind of request it is (`k8s.io/apiserver/pkg/endpoints/metrics`): few words, so that there are few kinds.

use crate::http::question;
use crate::http::route::{Place, Route, Subresource};
use hyper::Method;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::http) struct Labels {
    component: &'static str,
    dry_run: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

const NONE: Labels = Labels {
    component: "",
    dry_run: "",
    group: "",
    resource: "",
    scope: "",
    subresource: "",
    verb: "GET",
    version: "",
};

impl Labels {
    /// None: requests of that kind are not counted.
    pub(in crate::http) fn of(
        method: &Method,
        route: &Route,
        (path, query): (&str, &str),
        media: &str,
    ) -> Option<Self> {
        match route {
            Route::Objects(place) => Self::of_objects(method, place, (path, query), media),
            _ if *method != Method::GET => None,
            Route::Health => {
                let endpoints = ["/healthz", "/livez", "/readyz"];
                let subresource = endpoints.into_iter().find(|it| path.starts_with(it))?;
                Some(Self { subresource, ..NONE })
            }
            Route::OpenApiIndex | Route::OpenApiGroup(..) => {
                Some(Self { subresource: "openapi/v3", ..NONE })
            }
            _ => None,
        }
    }

    fn of_objects(
        method: &Method,
        place: &Place,
        (path, query): (&str, &str),
        media: &str,
    ) -> Option<Self> {
        let question = question::of(method, path, query);
        let verb = match question.verb.as_str() {
            _ if place.subresource.is_some_and(Subresource::reaches_containers) => "CONNECT",
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" => "POST",
            "update" => "PUT",
            "patch" if media == "application/apply-patch+yaml" => "APPLY",
            "patch" => "PATCH",
            "delete" | "deletecollection" => "DELETE",
            _ => return None,
        };
        let scope = match &place.namespace {
            _ if !question.name.is_empty() || verb == "POST" => "resource",
            Some(_) => "namespace",
            None => "cluster",
        };
        let dry = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "dryRun");
        Some(Self {
            component: "apiserver",
            dry_run: if dry { "All" } else { "" },
            group: place.resource.group,
            resource: place.resource.plural,
            scope,
            subresource: place.subresource.map_or("", Subresource::name),
            verb,
            version: place.resource.version,
        })
    }

    /// Whether such a request may go on for long.
    pub(super) fn is_lasting(&self) -> bool {
        ["CONNECT", "WATCH"].contains(&self.verb)
    }

    pub(super) fn is_reading(&self) -> bool {
        ["GET", "LIST"].contains(&self.verb)
    }

    pub(super) fn with_dry_run(&self) -> Vec<(&'static str, &'static str)> {
        let mut labels = self.without_dry_run();
        labels.insert(1, ("dry_run", self.dry_run));
        labels
    }

    pub(super) fn without_dry_run(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("component", self.component),
            ("group", self.group),
            ("resource", self.resource),
            ("scope", self.scope),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("version", self.version),
        ]
    }
}

/// The labels of a request to a server that has no custom kinds.
#[cfg(test)]
pub(super) fn of_target(method: &Method, target: &str, media: &str) -> Option<Labels> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Labels::of(method, &crate::http::route::route(path, &[])?, (path, query), media)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_labels_of_the_real_server() {
        const POD: &str = "/api/v1/namespaces/a/pods/b";
        const APPLY: &str = "application/apply-patch+yaml";
        for (method, target, media, expected) in [
            ("GET", "/api/v1/nodes", "", "core nodes cluster  LIST"),
            ("GET", "/api/v1/namespaces/a/pods", "", "core pods namespace  LIST"),
            ("GET", "/api/v1/nodes?watch=1", "", "core nodes cluster  WATCH"),
            (
                "GET",
                "/api/v1/namespaces/a/configmaps?watch=1&fieldSelector=metadata.name%3Db",
                "",
                "core configmaps resource  WATCH",
            ),
            ("POST", "/api/v1/namespaces/a/configmaps", "", "core configmaps resource  POST"),
            ("POST", "/api/v1/namespaces?dryRun=All", "", "core namespaces resource  POST All"),
            ("PATCH", POD, APPLY, "core pods resource  APPLY"),
            ("PATCH", POD, "application/merge-patch+json", "core pods resource  PATCH"),
            ("DELETE", "/api/v1/namespaces/a/pods", "", "core pods namespace  DELETE"),
            (
                "GET",
                "/apis/apps/v1/namespaces/a/deployments/b/status",
                "",
                "apps deployments resource status GET",
            ),
            ("GET", "/api/v1/namespaces/a/pods/b/log", "", "core pods resource log CONNECT"),
            ("POST", "/api/v1/namespaces/a/pods/b/exec", "", "core pods resource exec CONNECT"),
            ("GET", "/livez/ping", "", "core   /livez GET"),
            ("GET", "/openapi/v3", "", "core   openapi/v3 GET"),
            ("GET", "/version", "", ""),
            ("GET", "/metrics", "", ""),
        ] {
            let found = of_target(&method.parse().expect("a method"), target, media);
            let found = found.map_or(String::new(), |it| {
                let group = if it.group.is_empty() { "core" } else { it.group };
                let words = [group, it.resource, it.scope, it.subresource, it.verb, it.dry_run];
                words.join(" ").trim_end().to_owned()
            });
            assert_eq!(found, expected, "{method} {target}");
        }
    }
}
