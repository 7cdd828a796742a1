//! OpenAPI documents: version 3 by group, version 2 in one piece (JSON only).
//!
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>

use super::accept;
use super::reply::Reply;
use crate::error::Error;
use crate::resources::{self, Custom, Resource};
use crate::schema::document;
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
    let paths = kinds.iter().flat_map(|resource| paths(resource, content_v3));
    Ok(json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths.collect::<Map<_, _>>(),
        "components": {"schemas": document::schemas(&kinds)},
    }))
}

/// `/openapi/v2`. Clients that understand protobuf alone get a document of the server's name without paths: kubectl
/// asks for it only about kinds that version 3 does not know, and what is not there is not there.
pub(super) fn whole(customs: &[Custom], header: &str) -> Result<Reply, Error> {
    let json = |media: accept::Media<'_>| matches!(media.essence, "" | "application/json" | "*/*");
    if !header.is_empty() && !accept::ranges(header).into_iter().any(json) {
        if !accept::ranges(header).iter().any(|media| media.essence == PROTOBUF) {
            return Err(Error::NotAcceptable { accepted: "application/json" });
        }
        return Ok(Reply::bytes(head().into()).media(&PROTOBUF.replace('@', ".")));
    }
    let kinds: Vec<&Resource> = resources::served(customs).collect();
    let mut definitions = Value::Object(document::schemas(&kinds));
    rename(&mut definitions);
    let paths = kinds.iter().flat_map(|resource| paths(resource, content_v2));
    Ok(Reply::json(&json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths.collect::<Map<_, _>>(),
        "definitions": definitions,
    })))
}

/// As it is asked for; the answer says it with a dot, since `@` is no letter of a media type.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// `openapi.v2.Document {swagger = 1, info = 2 {title = 1, version = 2}}` in protobuf.
fn head() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap_or(0);
        [&[number << 3 | 2, length], &bytes[..usize::from(length)]].concat()
    };
    let info = info();
    let text = |name: &str| info[name].as_str().unwrap_or_default().as_bytes().to_vec();
    let info = [field(1, &text("title")), field(2, &text("version"))].concat();
    [field(1, b"2.0"), field(2, &info)].concat()
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": concat!("v1.36.0+podway-", env!("CARGO_PKG_VERSION"))})
}

/// Version 2 knows neither `allOf` around a reference nor `components`.
fn rename(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(all)) = fields.remove("allOf") {
                fields.extend(all.into_iter().filter_map(|it| it.as_object().cloned()).flatten());
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            fields.values_mut().for_each(rename);
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        _ => {}
    }
}

/// What a request with a body of this kind and an answer of this kind look like.
type Content = fn(&Resource) -> Value;

fn content_v3(resource: &Resource) -> Value {
    let name = crate::schema::builtin::name(resource);
    let schema = json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    json!({"200": {"description": "OK", "content": {"application/json": schema}}})
}

fn content_v2(resource: &Resource) -> Value {
    let name = crate::schema::builtin::name(resource);
    json!({"200": {"description": "OK", "schema": {"$ref": format!("#/definitions/{name}")}}})
}

fn paths(resource: &&Resource, content: Content) -> Vec<(String, Value)> {
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
            .map(|(method, action)| operation(resource, method, action, content))
            .collect::<Map<_, _>>()
            .into()
    };
    let one = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")];
    let many = [("get", "list"), ("post", "post"), ("delete", "deletecollection")];
    vec![(collection.clone(), all(&many)), (format!("{collection}/{{name}}"), all(&one))]
}

fn operation(resource: &Resource, method: &str, action: &str, content: Content) -> (String, Value) {
    let text = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}, "uniqueItems": true});
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
        "parameters": names.iter().map(|name| text(name)).collect::<Vec<_>>(),
        "responses": content(resource),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": document::gvk(resource, ""),
    });
    (method.to_owned(), operation)
}
