//! What is served: <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use super::accept;
use super::reply::Reply;
use crate::error::Error;
use crate::resources::{self, Kind, RESOURCES, Resource};
use serde_json::{Value, json};
use std::net::SocketAddr;

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": concat!("v1.36.0+podway-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux",
    })
}

pub(super) fn root() -> Value {
    let groups = resources::groups();
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    paths.extend(groups.iter().flat_map(|(group, version)| {
        [format!("/apis/{group}"), format!("/apis/{group}/{version}")]
    }));
    paths.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    json!({"paths": paths})
}

/// `/api` (the core group) and `/apis` (the others): aggregated where the client asks for it, else the old form.
pub(super) fn groups(core: bool, accept: &str, advertise: SocketAddr) -> Reply {
    let aggregated =
        accept::ranges(accept).find_map(|media| match (media.group, media.kind, media.version) {
            ("apidiscovery.k8s.io", "APIGroupDiscoveryList", version @ ("v2" | "v2beta1")) => {
                Some(Some(version))
            }
            (_, "", _) => Some(None),
            _ => None,
        });
    match aggregated.flatten() {
        Some(version) => {
            let media = format!(
                "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            );
            Reply::json(&aggregate(core, version)).media(&media)
        }
        None if core => Reply::json(&json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": advertise.to_string()}],
        })),
        None => {
            let groups: Vec<Value> = resources::groups()
                .iter()
                .map(|(group, version)| group_of(group, version))
                .collect();
            Reply::json(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
    }
}

/// `/apis/GROUP`
pub(super) fn group(name: &str) -> Result<Value, Error> {
    let groups = resources::groups();
    let (group, version) =
        groups.iter().find(|(group, _)| *group == name).ok_or(Error::UnknownPath)?;
    let mut group = group_of(group, version);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Ok(group)
}

fn group_of(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `/api/v1`, `/apis/GROUP/VERSION`
pub(super) fn resources(group: &str, version: &str) -> Result<Value, Error> {
    let served: Vec<&Resource> =
        RESOURCES.iter().filter(|r| r.group == group && r.version == version).collect();
    let first = served.first().ok_or(Error::UnknownPath)?;
    let list: Vec<Value> = served.iter().flat_map(|resource| entries(resource)).collect();
    Ok(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": list}),
    )
}

fn entries(resource: &Resource) -> Vec<Value> {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.name,
        "verbs": VERBS,
    });
    for (field, words) in
        [("shortNames", resource.short_names), ("categories", resource.categories)]
    {
        if !words.is_empty() {
            entry[field] = words.into();
        }
    }
    let sub = subresources(resource).into_iter().map(|(name, kind, verbs)| {
        let name = format!("{}/{name}", resource.plural);
        let mut entry = json!({"name": name, "singularName": "", "namespaced": resource.namespaced, "kind": kind, "verbs": verbs});
        if let Some(group) = foreign(kind) {
            entry["group"] = group.into();
            entry["version"] = "v1".into();
        }
        entry
    });
    std::iter::once(entry).chain(sub).collect()
}

/// The group of a subresource's body, where that is not the resource's own.
fn foreign(kind: &str) -> Option<&'static str> {
    match kind {
        "Scale" => Some("autoscaling"),
        "Eviction" => Some("policy"),
        _ => None,
    }
}

/// Name, kind of the body, verbs.
fn subresources(resource: &Resource) -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    let mut all: Vec<(&str, &str, &[&str])> = Vec::new();
    if resource.kind == Kind::Pod {
        all.push(("binding", "Binding", &["create"]));
        all.push(("eviction", "Eviction", &["create"]));
        all.push(("exec", "PodExecOptions", &["create", "get"]));
        all.push(("log", "Pod", &["get"]));
    }
    if resource.scale.is_some() {
        all.push(("scale", "Scale", &STATUS_VERBS));
    }
    if resource.has_status() {
        all.push(("status", resource.name, &STATUS_VERBS));
    }
    all
}

fn aggregate(core: bool, api_version: &str) -> Value {
    let groups = if core { vec![("", "v1")] } else { resources::groups() };
    let item = |(group, version): &(&str, &str)| {
        let served = RESOURCES.iter().filter(|resource| resource.group == *group);
        let resources: Vec<Value> = served.map(aggregate_one).collect();
        let name = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        json!({"metadata": name, "versions": [{"version": version, "resources": resources, "freshness": "Current"}]})
    };
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{api_version}"),
        "metadata": {},
        "items": groups.iter().map(item).collect::<Vec<_>>(),
    })
}

fn aggregate_one(resource: &Resource) -> Value {
    let kind = |name: &str| match foreign(name) {
        Some(group) => json!({"group": group, "version": "v1", "kind": name}),
        None => json!({"group": resource.group, "version": resource.version, "kind": name}),
    };
    let sub = subresources(resource).into_iter().map(|(name, sub, verbs)| {
        json!({"subresource": name, "responseKind": kind(sub), "verbs": verbs})
    });
    json!({
        "resource": resource.plural,
        "responseKind": kind(resource.name),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": VERBS,
        "shortNames": resource.short_names,
        "categories": resource.categories,
        "subresources": sub.collect::<Vec<_>>(),
    })
}
