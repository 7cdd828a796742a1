//! Paths: <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris>

use crate::resources::{self, Custom, Kind, Resource};
use crate::store::Key;
use percent_encoding::percent_decode_str;

/// What a path is about.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    Root,
    Health,
    Metrics,
    Version,
    /// The versions of the core group.
    Api,
    /// All other groups.
    Apis,
    Group(String),
    GroupVersion(String, String),
    /// The whole OpenAPI document, version 2.
    OpenApi,
    OpenApiIndex,
    OpenApiGroup(String, String),
    Objects(Place),
    /// How to verify tokens of service accounts.
    Issuer,
    Keys,
}

/// A collection, an object in it, or a part of the object.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub(super) resource: &'static Resource,
    /// `None`: all namespaces, or the kind has none.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<Subresource>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subresource {
    Status,
    Approval,
    Scale,
    Binding,
    EphemeralContainers,
    Eviction,
    Finalize,
    Log,
    Exec,
    Attach,
    PortForward,
    Resize,
    Token,
    /// HTTP of a pod's own; the rest of the path is its affair.
    Proxy,
}

impl Subresource {
    /// Its answer is a conversation.
    pub(super) fn is_connection(self) -> bool {
        matches!(self, Self::Exec | Self::Attach | Self::PortForward | Self::Proxy)
    }

    /// A pod's containers answer it.
    pub(super) fn reaches_containers(self) -> bool {
        self.is_connection() || self == Self::Log
    }

    /// As paths have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Approval => "approval",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Resize => "resize",
            Self::Token => "token",
            Self::Proxy => "proxy",
        }
    }
}

impl Place {
    /// A collection that objects can be created in.
    pub(super) fn is_where_objects_begin(&self) -> bool {
        self.name.is_none() && self.namespace.is_some() == self.resource.namespaced
    }

    /// Where the object stands; for a collection without the name.
    pub(super) fn key(&self) -> Key {
        Key::new(
            self.namespace.as_deref().unwrap_or_default(),
            self.name.as_deref().unwrap_or_default(),
        )
    }
}

/// Understands a path; `None` is a path that nothing serves.
pub(super) fn route(path: &str, customs: &[Custom]) -> Option<Route> {
    let decoded: Option<Vec<String>> =
        path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let decoded = decoded?;
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [] => Some(Route::Root),
        ["healthz" | "livez" | "readyz", ..] => Some(Route::Health),
        ["metrics"] => Some(Route::Metrics),
        ["version"] => Some(Route::Version),
        [".well-known", "openid-configuration"] => Some(Route::Issuer),
        ["openid", "v1", "jwks"] => Some(Route::Keys),
        ["openapi", "v2"] => Some(Route::OpenApi),
        ["openapi", "v3"] => Some(Route::OpenApiIndex),
        ["openapi", "v3", "api", version] => {
            Some(Route::OpenApiGroup(String::new(), (*version).to_owned()))
        }
        ["openapi", "v3", "apis", group, version] => {
            Some(Route::OpenApiGroup((*group).to_owned(), (*version).to_owned()))
        }
        ["api"] => Some(Route::Api),
        ["apis"] => Some(Route::Apis),
        ["apis", group] => Some(Route::Group((*group).to_owned())),
        ["api", version] => Some(Route::GroupVersion(String::new(), (*version).to_owned())),
        ["apis", group, version] => {
            Some(Route::GroupVersion((*group).to_owned(), (*version).to_owned()))
        }
        ["api", version, rest @ ..] => {
            place(|plural| resources::find("", version, plural), rest).map(Route::Objects)
        }
        ["apis", group, version, rest @ ..] => {
            let find = |plural: &str| {
                let mut custom = customs.iter().flat_map(|custom| custom.served());
                let same = |it: &&Resource| {
                    it.group == *group && it.version == *version && it.plural == plural
                };
                resources::find(group, version, plural).or_else(|| custom.find(same))
            };
            place(find, rest).map(Route::Objects)
        }
        _ => None,
    }
}

fn place(find: impl Fn(&str) -> Option<&'static Resource>, parts: &[&str]) -> Option<Place> {
    match parts {
        ["namespaces", namespace, plural, rest @ ..]
            if *plural != "status" && *plural != "finalize" =>
        {
            let resource = find(plural).filter(|resource| resource.namespaced)?;
            within(resource, Some((*namespace).to_owned()), rest)
        }
        [plural, rest @ ..] => {
            let resource = find(plural)?;
            // Without a namespace only the collection of a namespaced kind can be named.
            if resource.namespaced && !rest.is_empty() {
                None
            } else {
                within(resource, None, rest)
            }
        }
        [] => None,
    }
}

fn within(resource: &'static Resource, namespace: Option<String>, parts: &[&str]) -> Option<Place> {
    let (name, subresource) = match parts {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, "status"] if resource.has_status() => {
            (Some((*name).to_owned()), Some(Subresource::Status))
        }
        [name, "approval"] if resource.kind == Kind::CertificateSigningRequest => {
            (Some((*name).to_owned()), Some(Subresource::Approval))
        }
        [name, "scale"] if resource.scale.is_some() => {
            (Some((*name).to_owned()), Some(Subresource::Scale))
        }
        [name, "finalize"] if resource.kind == Kind::Namespace => {
            (Some((*name).to_owned()), Some(Subresource::Finalize))
        }
        [name, "token"] if resource.kind == Kind::ServiceAccount => {
            (Some((*name).to_owned()), Some(Subresource::Token))
        }
        [name, "proxy", ..] if matches!(resource.kind, Kind::Pod | Kind::Service) => {
            (Some((*name).to_owned()), Some(Subresource::Proxy))
        }
        [name, part] if resource.kind == Kind::Pod => {
            (Some((*name).to_owned()), Some(part_of_pod(part)?))
        }
        _ => return None,
    };
    Some(Place { resource, namespace, name, subresource })
}

fn part_of_pod(name: &str) -> Option<Subresource> {
    use Subresource::{
        Attach, Binding, EphemeralContainers, Eviction, Exec, Log, PortForward, Resize,
    };
    let parts = [Binding, EphemeralContainers, Eviction, Log, Exec, Attach, PortForward, Resize];
    // Its status was asked for before.
    parts.into_iter().find(|part| part.name() == name)
}

fn decode(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        let place = |kind: Kind, namespace: Option<&str>, name: Option<&str>, subresource| {
            let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
            Some(Route::Objects(Place { resource: kind.resource(), namespace, name, subresource }))
        };
        for (path, expected) in [
            ("/api/v1/pods", place(Kind::Pod, None, None, None)),
            ("/api/v1/namespaces/a/pods/", place(Kind::Pod, Some("a"), None, None)),
            (
                "/api/v1/namespaces/a/pods/b/status",
                place(Kind::Pod, Some("a"), Some("b"), Some(Subresource::Status)),
            ),
            ("/api/v1/namespaces/a", place(Kind::Namespace, None, Some("a"), None)),
            (
                "/api/v1/namespaces/a/pods/b/ephemeralcontainers",
                place(Kind::Pod, Some("a"), Some("b"), Some(Subresource::EphemeralContainers)),
            ),
            (
                "/api/v1/namespaces/a/status",
                place(Kind::Namespace, None, Some("a"), Some(Subresource::Status)),
            ),
            (
                "/api/v1/namespaces/a/finalize",
                place(Kind::Namespace, None, Some("a"), Some(Subresource::Finalize)),
            ),
            ("/api/v1/nodes/n%2d1", place(Kind::Node, None, Some("n-1"), None)),
            ("/apis/apps/v1/deployments", place(Kind::Deployment, None, None, None)),
            (
                "/apis/podway.io/v1alpha1/virtualips/edge",
                place(Kind::VirtualIP, None, Some("edge"), None),
            ),
            (
                "/apis/apps/v1/namespaces/a/statefulsets/db/scale",
                place(Kind::StatefulSet, Some("a"), Some("db"), Some(Subresource::Scale)),
            ),
            (
                "/api/v1/namespaces/a/services/http:b:80/proxy/c//d",
                place(Kind::Service, Some("a"), Some("http:b:80"), Some(Subresource::Proxy)),
            ),
            ("/apis/apps/v1/namespaces/a/deployments/b/proxy", None),
            ("/apis/apps/v1/namespaces/a/daemonsets/db/scale", None),
            ("/api/v1/pods/b", None),
            ("/api/v1/namespaces/a/nodes", None),
            ("/api/v1/namespaces/a/configmaps/b/status", None),
            ("/apis/apps/v2/deployments", None),
            ("/livez/ping", Some(Route::Health)),
            ("/api/v1", Some(Route::GroupVersion(String::new(), "v1".into()))),
            ("/metrics", Some(Route::Metrics)),
            ("/metrics/nosuch", None),
        ] {
            assert_eq!(route(path, &[]), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_safe(path in "(/[a-z0-9%./]{0,12}){0,8}", free in "\\PC{0,60}") {
            let _both = (route(&path, &[]), route(&free, &[]));
        }
    }
}
