//! What is served: <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use super::accept::{self, Media, Medium};
use super::reply::Reply;
use crate::error::Error;
use crate::resources::{self, Custom, Kind, Resource};
use serde_json::{Value, json};
use std::net::SocketAddr;

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];
const PROXY_VERBS: [&str; 5] = ["create", "delete", "get", "patch", "update"];

pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": crate::VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux",
    })
}

pub(super) fn root(customs: &[Custom]) -> Value {
    let groups = resources::groups(customs);
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for (group, versions) in groups {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    json!({"paths": paths})
}

/// `/api` (the core group) and `/apis` (the others): aggregated where the client asks for it, else the old form.
pub(super) fn groups(
    core: bool,
    customs: &[Custom],
    accept: &str,
    advertise: SocketAddr,
) -> Result<Reply, Error> {
    if core {
        accept::offered(accept, accept::OBJECTS)?;
    }
    if let Some((version, medium)) = accept::negotiate(accept, aggregated) {
        let media = format!("{};g={AGGREGATED};v={version};as={AGGREGATED_LIST}", medium.essence());
        let reply = Reply::json(&aggregate(core, customs, version)).written(medium)?;
        return Ok(reply.media(&media));
    }
    plain(&if core { versions(advertise) } else { list(customs) }, accept)
}

const AGGREGATED: &str = "apidiscovery.k8s.io";
const AGGREGATED_LIST: &str = "APIGroupDiscoveryList";

/// The version that a client asks for.
fn aggregated(media: &Media<'_>, _: Medium) -> Option<&'static str> {
    let asked = media.group == AGGREGATED && media.kind == AGGREGATED_LIST;
    ["v2", "v2beta1"].into_iter().find(|version| asked && media.version == *version)
}

/// A document in the medium that the client wants.
pub(super) fn plain(document: &Value, accept: &str) -> Result<Reply, Error> {
    let medium = accept::plain(accept);
    let medium = medium.ok_or(Error::NotAcceptable { accepted: accept::OBJECTS })?;
    Reply::json(document).written(medium)
}

fn versions(advertise: SocketAddr) -> Value {
    let address = json!({"clientCIDR": "0.0.0.0/0", "serverAddress": advertise.to_string()});
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]})
}

fn list(customs: &[Custom]) -> Value {
    let groups = resources::groups(customs);
    let groups = groups.iter().map(|(group, versions)| group_of(group, versions));
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()})
}

/// `/apis/GROUP`
pub(super) fn group(customs: &[Custom], name: &str) -> Result<Value, Error> {
    let groups = resources::groups(customs);
    let (group, versions) =
        groups.iter().find(|(group, _)| *group == name).ok_or(Error::UnknownPath)?;
    let mut group = group_of(group, versions);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Ok(group)
}

fn group_of(group: &str, versions: &[&str]) -> Value {
    let version = |it: &&str| json!({"groupVersion": format!("{group}/{it}"), "version": it});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// `/api/v1`, `/apis/GROUP/VERSION`
pub(super) fn resources(customs: &[Custom], group: &str, version: &str) -> Result<Value, Error> {
    let served: Vec<&Resource> =
        resources::served(customs).filter(|r| r.group == group && r.version == version).collect();
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
        "verbs": verbs(resource),
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

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.transient { &["create"] } else { &VERBS }
}

/// The group of a subresource's body, where that is not the resource's own.
fn foreign(kind: &str) -> Option<&'static str> {
    match kind {
        "Scale" => Some("autoscaling"),
        "Eviction" => Some("policy"),
        "TokenRequest" => Some("authentication.k8s.io"),
        _ => None,
    }
}

/// Name, kind of the body, verbs.
fn subresources(resource: &Resource) -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    let mut all: Vec<(&str, &str, &[&str])> = Vec::new();
    if resource.kind == Kind::Pod {
        all.push(("attach", "PodAttachOptions", &["create", "get"]));
        all.push(("binding", "Binding", &["create"]));
        all.push(("ephemeralcontainers", "Pod", &STATUS_VERBS));
        all.push(("eviction", "Eviction", &["create"]));
        all.push(("exec", "PodExecOptions", &["create", "get"]));
        all.push(("log", "Pod", &["get"]));
        all.push(("portforward", "PodPortForwardOptions", &["create", "get"]));
        all.push(("proxy", "PodProxyOptions", &PROXY_VERBS));
        all.push(("resize", "Pod", &STATUS_VERBS));
    }
    if resource.kind == Kind::Namespace {
        all.push(("finalize", resource.name, &["update"]));
    }
    if resource.kind == Kind::CertificateSigningRequest {
        all.push(("approval", resource.name, &STATUS_VERBS));
    }
    if resource.kind == Kind::Service {
        all.push(("proxy", "ServiceProxyOptions", &PROXY_VERBS));
    }
    if resource.kind == Kind::ServiceAccount {
        all.push(("token", "TokenRequest", &["create"]));
    }
    if resource.scale.is_some() {
        all.push(("scale", "Scale", &STATUS_VERBS));
    }
    if resource.has_status() {
        all.push(("status", resource.name, &STATUS_VERBS));
    }
    all
}

fn aggregate(core: bool, customs: &[Custom], api_version: &str) -> Value {
    let groups = if core { vec![("", vec!["v1"])] } else { resources::groups(customs) };
    let item = |(group, versions): &(&str, Vec<&str>)| {
        let version = |version: &&str| {
            let served = resources::served(customs);
            let served = served.filter(|it| it.group == *group && it.version == *version);
            let resources: Vec<Value> = served.map(aggregate_one).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        };
        let versions: Vec<Value> = versions.iter().map(version).collect();
        let name = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        json!({"metadata": name, "versions": versions})
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
        "verbs": verbs(resource),
        "shortNames": resource.short_names,
        "categories": resource.categories,
        "subresources": sub.collect::<Vec<_>>(),
    })
}
