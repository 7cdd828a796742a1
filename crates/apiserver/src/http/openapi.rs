//! OpenAPI documents: version 3 by group, version 2 in one piece.
//!
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>

use super::accept;
use super::reply::Reply;
use crate::error::Error;
use crate::protobuf;
use crate::resources::{self, Custom, Resource};
use crate::schema::{document, version2};
use serde_json::{Map, Value, json};
use std::hash::{Hash, Hasher};

/// `/openapi/v3`: where the documents of the groups are.
pub(super) fn index(customs: &[Custom]) -> Value {
    let core = std::iter::once("api/v1".to_owned());
    let groups = resources::groups(customs);
    let others = groups.iter().flat_map(|(group, versions)| {
        versions.iter().map(move |version| format!("apis/{group}/{version}"))
    });
    let path = |path: String| {
        // Clients keep a document for as long as its address stays the same.
        let url = format!("/openapi/v3/{path}?hash={}", fingerprint(customs));
        (path, json!({"serverRelativeURL": url}))
    };
    json!({"paths": core.chain(others).map(path).collect::<Map<_, _>>()})
}

/// Changes with every definition.
fn fingerprint(customs: &[Custom]) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    for resource in customs.iter().flat_map(|custom| custom.served()) {
        resource.qualified().hash(&mut hasher);
        document::custom(resource).map(|it| it.to_string()).hash(&mut hasher);
    }
    format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish())
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`
pub(super) fn group(customs: &[Custom], group: &str, version: &str) -> Result<Value, Error> {
    let kinds: Vec<&Resource> =
        resources::served(customs).filter(|r| r.group == group && r.version == version).collect();
    if kinds.is_empty() {
        return Err(Error::UnknownPath);
    }
    let paths = kinds.iter().flat_map(|resource| paths(resource, &VERSION_3));
    Ok(json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths.collect::<Map<_, _>>(),
        "components": {"schemas": document::schemas(&kinds)},
    }))
}

/// `/openapi/v2`
pub(super) fn whole(customs: &[Custom], header: &str) -> Result<Reply, Error> {
    let ranges = accept::ranges(header);
    let asks = |names: &[&str]| ranges.iter().any(|media| names.contains(&media.essence));
    if header.is_empty() || asks(&["application/json", "*/*"]) {
        return Ok(Reply::json(&version_2(customs)));
    }
    match asks(&[PROTOBUF]) {
        true => {
            let octets = protobuf::openapi::document(&version_2(customs));
            Ok(Reply::bytes(octets.into()).media(&PROTOBUF.replace('@', ".")))
        }
        false => Err(Error::NotAcceptable { accepted: "application/json" }),
    }
}

/// As it is asked for; the answer says it with a dot, since `@` is no letter of a media type.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

fn version_2(customs: &[Custom]) -> Value {
    let kinds: Vec<&Resource> = resources::served(customs).collect();
    let mut definitions = document::schemas(&kinds);
    definitions.values_mut().for_each(version2::reduce_kind);
    let paths = kinds.iter().flat_map(|resource| paths(resource, &VERSION_2));
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths.collect::<Map<_, _>>(),
        "definitions": definitions,
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": concat!("v1.36.0+podway-", env!("CARGO_PKG_VERSION"))})
}

/// How a version writes a parameter of a query, and an answer with a kind in it.
struct Version {
    parameter: fn(&str) -> Value,
    answer: fn(&Resource) -> Value,
}

const VERSION_3: Version = Version {
    parameter: |name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}),
    answer: |resource| {
        let name = crate::schema::builtin::name(resource);
        let schema = json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
        json!({"200": {"description": "OK", "content": {"application/json": schema}}})
    },
};

const VERSION_2: Version = Version {
    parameter: |name| json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}),
    answer: |resource| {
        let name = crate::schema::builtin::name(resource);
        json!({"200": {"description": "OK", "schema": {"$ref": format!("#/definitions/{name}")}}})
    },
};

fn paths(resource: &&Resource, version: &Version) -> Vec<(String, Value)> {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let root = format!("{root}/{}", resource.api_version());
    let collection = if resource.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{root}/{}", resource.plural)
    };
    let all = |verbs: &[(&str, &str)]| -> Value {
        verbs
            .iter()
            .map(|(method, action)| operation(resource, method, action, version))
            .collect::<Map<_, _>>()
            .into()
    };
    let one = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")];
    let many = [("get", "list"), ("post", "post"), ("delete", "deletecollection")];
    vec![(collection.clone(), all(&many)), (format!("{collection}/{{name}}"), all(&one))]
}

fn operation(
    resource: &Resource,
    method: &str,
    action: &str,
    version: &Version,
) -> (String, Value) {
    let names: &[&str] = match action {
        "get" => &["pretty"],
        "list" => &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ],
        "delete" | "deletecollection" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        _ => &["dryRun", "fieldManager", "fieldValidation"],
    };
    let operation = json!({
        "operationId": format!("{action}{}{}{}", resource.group, resource.version, resource.name),
        "parameters": names.iter().map(|name| (version.parameter)(name)).collect::<Vec<_>>(),
        "responses": (version.answer)(resource),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": document::gvk(resource, ""),
    });
    (method.to_owned(), operation)
}
