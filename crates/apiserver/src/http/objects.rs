//! Requests about objects, all but watches.

use super::accept::{Medium, View};
use super::query::Query;
use super::reply::Reply;
use super::route::Place;
use super::success;
use crate::error::{Cause, Error, Reason, illegal_base64};
use crate::patch::Patch;
use crate::policy::Operation;
use crate::protobuf;
use crate::registry::{Deleted, Part, Registry, Write};
use crate::server::{ApiServer, now};
use crate::store::{Key, Object};
use crate::table;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::sync::Arc;

/// As the real server: 3 MiB.
const BODY_LIMIT: usize = 3 << 20;
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const BODIES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";
const CUSTOM_PATCHES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

pub(super) fn get(server: &ApiServer, place: &Place, query: &Query) -> Result<Reply, Error> {
    let object = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    Ok(shown(place, query, object))
}

/// An object as the client wants to see it.
fn shown(place: &Place, query: &Query, object: Arc<Object>) -> Reply {
    match query.form.view {
        View::Whole => Reply::bytes(place.resource.text(&object)),
        View::Metadata => Reply::bytes(table::metadata_only(&object.look(&["metadata"])).into()),
        View::Table => {
            let metadata = json!({"resourceVersion": object.value["metadata"]["resourceVersion"]});
            let objects = std::iter::once(object);
            Reply::bytes(table::table(place.resource, objects, &metadata, query.include, now()))
        }
    }
}

pub(super) fn list(server: &ApiServer, place: &Place, query: &Query) -> Result<Reply, Error> {
    query.check_list()?;
    query.selector.check(place.resource)?;
    let page = server.read(|registry| Page::read(registry, place, query))?;
    let metadata = page.metadata();
    let objects = page.objects.into_iter();
    match query.form.view {
        View::Whole => in_full(place, query, &metadata, objects),
        View::Table => {
            let table = table::table(place.resource, objects, &metadata, query.include, now());
            Ok(Reply::bytes(table))
        }
        View::Metadata => {
            let item = |object: Arc<Object>| table::metadata_only(&object.look(&["metadata"]));
            let items = objects.map(item);
            list_of(("meta.k8s.io/v1", "PartialObjectMetadata"), query, &metadata, items)
        }
    }
}

/// A piece of a list. All pieces carry the number of the first: a watch from there sees what changed meanwhile.
struct Page {
    revision: u64,
    objects: Vec<Arc<Object>>,
    next: Option<Key>,
    /// How many objects follow; nobody counts what a selector would choose.
    remaining: Option<usize>,
}

impl Page {
    fn read(registry: &Registry, place: &Place, query: &Query) -> Result<Self, Error> {
        let (store, kind) = (&registry.store, place.resource.kind);
        let current = store.revision();
        let (revision, after) = match &query.continued {
            Some(token) => parse_token(token)?,
            None => (current, None),
        };
        match query.resource_version {
            Some(wanted) if wanted > current => {
                return Err(Error::FutureVersion { wanted, current });
            }
            Some(wanted) if query.exact && wanted != current => {
                return Err(Error::Expired {
                    message: format!("The resourceVersion {wanted} is no longer kept"),
                });
            }
            _ => {}
        }
        if query.continued.is_some() {
            store.check_known(kind, revision).map_err(|_too_old| expired_token())?;
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let listed = store.list(kind, place.namespace.as_deref(), after.as_ref());
        let mut matching = listed.filter(|(_, object)| query.selector.matches(object)).peekable();
        let (mut objects, mut last) = (Vec::new(), None);
        while objects.len() < limit
            && let Some((key, object)) = matching.next()
        {
            objects.push(object);
            last = Some(key);
        }
        let next = last.filter(|_| matching.peek().is_some()).cloned();
        let counts = next.is_some() && query.selector.is_empty();
        let remaining = counts.then(|| matching.count());
        Ok(Self { revision, objects, next, remaining })
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(key) = &self.next {
            metadata["continue"] = token(self.revision, key).into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// The list as it is.
fn in_full(
    place: &Place,
    query: &Query,
    metadata: &Value,
    objects: impl Iterator<Item = Arc<Object>>,
) -> Result<Reply, Error> {
    let (kind, version) = (place.resource.name, place.resource.api_version());
    let items = objects.map(|object| place.resource.text(&object));
    list_of((&version, kind), query, metadata, items)
}

/// A list of objects of this version and kind, each of them JSON.
fn list_of(
    (version, kind): (&str, &str),
    query: &Query,
    metadata: &Value,
    items: impl Iterator<Item = impl AsRef<[u8]>>,
) -> Result<Reply, Error> {
    let metadata = metadata.to_string();
    if query.form.medium == Medium::Protobuf {
        let octets = protobuf::encode_list((version, kind), metadata.as_bytes(), items);
        let octets = octets.map_err(|fault| Error::Internal { message: fault.to_string() })?;
        return Ok(Reply::bytes(octets).media(Medium::Protobuf.essence()));
    }
    let head = format!(
        r#"{{"kind":"{kind}List","apiVersion":"{version}","metadata":{metadata},"items":["#
    );
    Ok(Reply::bytes(table::list(&head, items)))
}

/// Where a list goes on: the number of its first piece, and the last object so far.
fn token(revision: u64, last: &Key) -> String {
    let plain = format!("{revision}/{}/{}", last.namespace, last.name);
    URL_SAFE_NO_PAD.encode(plain)
}

fn parse_token(token: &str) -> Result<(u64, Option<Key>), Error> {
    let bad = |why: String| {
        let message = format!("invalid continue token: continue key is not valid{why}");
        Error::BadRequest { message }
    };
    let plain = URL_SAFE_NO_PAD.decode(token);
    let plain = plain.map_err(|error| bad(format!(": {}", illegal_base64(&error, token))))?;
    let parts = || {
        let mut parts = std::str::from_utf8(&plain).ok()?.splitn(3, '/');
        let revision = parts.next()?.parse().ok()?;
        Some((revision, Some(Key::new(parts.next()?, parts.next()?))))
    };
    parts().ok_or_else(|| bad(String::new()))
}

fn expired_token() -> Error {
    let message = "The provided continue parameter is too old to display a consistent list result. \
                   You can start a new list without the continue parameter.";
    Error::Expired { message: message.into() }
}

pub(super) async fn create(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let (object, twice) = whole(place, request).await?;
    if object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
        return Err(Error::Untyped {
            message: "resourceVersion should not be set on objects to be created".into(),
        });
    }
    let namespace = place.namespace.as_deref().unwrap_or_default();
    let write = Write { twice: &twice, ..write(place, query) };
    let kind = place.resource.kind;
    let mut body = Some(object);
    let created = server.write_asking(|registry| {
        let object = registry.taken(&mut body);
        told(registry, |it| it.create(kind, namespace, object, write))
    });
    let (created, warnings) = created.await?;
    Ok(shown(place, query, created).code(201).warn(warnings))
}

pub(super) async fn replace(
    server: &ApiServer,
    place: &Place,
    part: Part,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let (object, twice) = whole(place, request).await?;
    let write = Write { twice: &twice, ..write(place, query) };
    let (kind, key) = (place.resource.kind, place.key());
    let makes = part == Part::Main && place.resource.is_made_by_replacing();
    let mut body = Some(object);
    let replaced = server.write_asking(|registry| {
        let object = registry.taken(&mut body);
        told(registry, |it| match it.get(kind, &key) {
            Err(Error::NotFound { .. }) if makes && object["metadata"]["name"] == *key.name => {
                it.create(kind, &key.namespace, object, write).map(|made| (made, true))
            }
            _ => it.update(kind, &key, part, object, write).map(|updated| (updated, false)),
        })
    });
    let ((replaced, new), warnings) = replaced.await?;
    let code = if new { 201 } else { 200 };
    Ok(shown(place, query, replaced).code(code).warn(warnings))
}

/// Says who must be done with a namespace before it goes.
pub(super) async fn finalize(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let (wanted, _) = whole(place, request).await?;
    let (key, write) = (place.key(), write(place, query));
    let written = server.write(|registry| registry.finalize(&key, &wanted, write))?;
    Ok(shown(place, query, written))
}

pub(super) async fn patch(
    server: &ApiServer,
    place: &Place,
    part: Part,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let media = media(&request);
    if !media.contains("patch+") {
        return Err(Error::UnknownPatch);
    }
    if media == "application/apply-patch+yaml" {
        return apply(server, place, part, query, &bytes(request).await?).await;
    }
    if query.force.is_some() {
        let message = "Forbidden: may not be specified for non-apply patch";
        return Err(bad_options(Reason::Forbidden, "force", message));
    }
    let patch = parse_patch(&media, &bytes(request).await?, place.resource.is_custom())?;
    let (kind, write) = (place.resource.kind, write(place, query));
    let patched = server.write_asking(|registry| {
        told(registry, |it| it.patch(kind, &place.key(), part, &patch, write))
    });
    let (patched, warnings) = patched.await?;
    Ok(shown(place, query, patched).warn(warnings))
}

async fn apply(
    server: &ApiServer,
    place: &Place,
    part: Part,
    query: &Query,
    text: &[u8],
) -> Result<Reply, Error> {
    if query.field_manager.is_none() {
        let message = "Required value: is required for apply patch";
        return Err(bad_options(Reason::Required, "fieldManager", message));
    }
    let (config, force) = (parse_yaml(text)?, query.force.unwrap_or(false));
    let (kind, write) = (place.resource.kind, write(place, query));
    let mut body = Some(config);
    let applied = server.write_asking(|registry| {
        let config = registry.taken(&mut body);
        told(registry, |it| it.apply(kind, &place.key(), part, config, force, write))
    });
    let ((applied, new), warnings) = applied.await?;
    Ok(shown(place, query, applied).code(if new { 201 } else { 200 }).warn(warnings))
}

fn bad_options(reason: Reason, field: &str, message: &str) -> Error {
    let (field, message) = (field.to_owned(), message.to_owned());
    Error::Options { kind: "PatchOptions", causes: vec![Cause { reason, field, message }] }
}

/// The result of a write with the warnings that go with it.
fn told<T>(
    registry: &mut Registry,
    write: impl FnOnce(&mut Registry) -> Result<T, Error>,
) -> Result<(T, Vec<String>), Error> {
    let result = write(registry);
    let warnings = registry.take_warnings();
    result.map(|result| (result, warnings))
}

/// `plain`: strategic merge patches are not understood.
pub(super) fn parse_patch(media: &str, text: &[u8], plain: bool) -> Result<Patch, Error> {
    match media {
        "application/merge-patch+json" => match parse(text)? {
            Value::Array(_) => {
                let wanted = "map[string]interface {}";
                Err(undecodable(&format!("cannot unmarshal array into Go value of type {wanted}")))
            }
            patch => Ok(Patch::Merge(patch)),
        },
        "application/strategic-merge-patch+json" if !plain => Ok(Patch::Strategic(parse(text)?)),
        "application/json-patch+json" => {
            let operations = parse(text)?;
            if operations.is_object() {
                let wanted = "[]handlers.jsonPatchOp";
                let why = format!("cannot unmarshal object into Go value of type {wanted}");
                return Err(undecodable(&why));
            }
            let unknown = |_: serde_json::Error| Error::Inapplicable;
            Ok(Patch::Json(Box::new(serde_json::from_value(operations).map_err(unknown)?)))
        }
        _ => {
            let accepted = if plain { CUSTOM_PATCHES } else { PATCHES };
            Err(Error::UnsupportedMediaType { accepted })
        }
    }
}

fn undecodable(why: &str) -> Error {
    Error::BadRequest { message: format!("error decoding patch: json: {why}") }
}

pub(super) async fn delete(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let (deletion, dry) = query.deletion(&options(request).await?)?;
    let kind = place.resource.kind;
    let write = Write { dry_run: dry, ..write(place, query) };
    let deleted = server.write_asking(|registry| {
        told(registry, |it| it.delete(kind, &place.key(), &deletion, write))
    });
    let (deleted, warnings) = deleted.await?;
    let reply = match deleted {
        // Of some kinds the real server gives the last state.
        Deleted::Gone(object) if place.resource.is_shown_when_deleted() => {
            shown(place, query, object)
        }
        Deleted::Gone(object) => Reply::json(&success(place, &object.uid())),
        Deleted::Going(object) => shown(place, query, object),
    };
    Ok(reply.warn(warnings))
}

pub(super) async fn delete_collection(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let (mut deletion, dry) = query.deletion(&options(request).await?)?;
    deletion.is_of_many = true;
    let kind = place.resource.kind;
    let write = Write { dry_run: dry, ..write(place, query) };
    let page = server.write_asking(|registry| {
        let page = Page::read(registry, place, query)?;
        for object in &page.objects {
            let metadata = &object.value["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default();
            match registry.delete(
                kind,
                &Key::new(text("namespace"), text("name")),
                &deletion,
                write,
            ) {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    });
    let page = page.await?;
    in_full(place, query, &page.metadata(), page.objects.into_iter())
}

/// An eviction is a deletion that a budget may object to.
pub(super) async fn evict(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let eviction = body(request).await?;
    check_eviction(place, query, &eviction)?;
    let (deletion, dry) = query.deletion(&eviction["deleteOptions"])?;
    let write = Write { dry_run: dry, ..write(place, query) };
    let act = (Operation::Create, "eviction");
    let done_so = server.write_asking(|registry| {
        told(registry, |it| {
            let (key, kind) = (place.key(), ("policy", "v1", "Eviction"));
            it.ask_about_act(act, (place.resource, &key), kind, &eviction, write)?;
            it.evict(&key, &deletion, write).map(drop)
        })
    });
    let ((), warnings) = done_so.await?;
    Ok(done().warn(warnings))
}

fn check_eviction(place: &Place, query: &Query, eviction: &Value) -> Result<(), Error> {
    if let Some(kind) = eviction["kind"].as_str().filter(|kind| *kind != "Eviction") {
        let version = eviction["apiVersion"].as_str().unwrap_or_default();
        let version = version.rsplit('/').next().unwrap_or_default();
        let message = format!(
            "{kind} in version {version:?} cannot be handled as a Eviction: converting ({version}.{kind}) to (policy.Eviction): unknown conversion"
        );
        return Err(Error::BadRequest { message });
    }
    if eviction["metadata"]["name"].as_str() != place.name.as_deref() {
        let message = "name in URL does not match name in Eviction object";
        return Err(Error::BadRequest { message: message.into() });
    }
    let dry = eviction["deleteOptions"]["dryRun"].as_array().into_iter().flatten();
    let dry: Vec<_> = dry.filter_map(Value::as_str).collect();
    if query.dry_run && !dry.is_empty() && dry != ["All"] {
        let dry = dry.join(" ");
        let message =
            format!("Non-matching dry-run options in request and content: [All] and [{dry}]");
        return Err(Error::Unexplained { message });
    }
    Ok(())
}

/// The answer to what makes no object.
fn done() -> Reply {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Reply::json(&status).code(201)
}

pub(super) async fn bind(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let binding = body(request).await?;
    if binding["metadata"]["name"].as_str() != place.name.as_deref() {
        let message = "name in URL does not match name in Binding object";
        return Err(Error::BadRequest { message: message.into() });
    }
    let Some(node) = binding["target"]["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err(Error::BadRequest { message: "target.name: Required value".into() });
    };
    let (act, write) = ((Operation::Create, "binding"), write(place, query));
    let done_so = server.write_asking(|registry| {
        told(registry, |it| {
            let (key, kind) = (place.key(), ("", "v1", "Binding"));
            it.ask_about_act(act, (place.resource, &key), kind, &binding, write)?;
            it.bind(&key, node, write)
        })
    });
    let ((), warnings) = done_so.await?;
    Ok(done().warn(warnings))
}

pub(super) fn write<'a>(place: &Place, query: &'a Query) -> Write<'a> {
    Write {
        form: Some(place.resource),
        caller: Some(&query.user),
        now: now(),
        dry_run: query.dry_run,
        validation: query.validation,
        twice: &[],
        manager: query.field_manager.as_deref().unwrap_or(&query.agent),
    }
}

pub(super) fn media(request: &Request<Incoming>) -> String {
    let header = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) async fn body(request: Request<Incoming>) -> Result<Value, Error> {
    let media = media(&request);
    parse_body(&media, &bytes(request).await?)
}

fn parse_body(media: &str, text: &[u8]) -> Result<Value, Error> {
    match media {
        "" | "application/json" => parse(text),
        "application/yaml" => parse_yaml(text),
        PROTOBUF => parse_protobuf(text),
        _ => Err(Error::UnsupportedMediaType { accepted: BODIES }),
    }
}

/// A whole object and the fields that are there twice, in the words of Go where it is none.
async fn whole(place: &Place, request: Request<Incoming>) -> Result<(Value, Vec<String>), Error> {
    let media = media(&request);
    let (resource, text) = (place.resource, bytes(request).await?);
    let refuse = |why: &str| {
        let (kind, shown) = (resource.name, summary(&text));
        let message = format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
        );
        Error::BadRequest { message }
    };
    let no_json =
        |why: &str| refuse(&format!("couldn't get version/kind; json parse error: {why}"));
    let mut twice = Vec::new();
    let object = match media.as_str() {
        "" | "application/json" => {
            let (object, fields) =
                super::json::read(&text).map_err(|error| match error.is_eof() {
                    true => no_json("unexpected end of JSON input"),
                    false => no_json(&error.to_string()),
                })?;
            twice = fields;
            object
        }
        PROTOBUF if text.is_empty() => return Err(refuse("empty data")),
        PROTOBUF => protobuf::decode(&text).map_err(|fault| match &fault {
            protobuf::Fault::UnknownType { api_version, kind }
            | protobuf::Fault::Unreadable { api_version, kind } => Error::BadRequest {
                message: format!(
                    "{kind} in version {api_version:?} cannot be handled as a {}: {fault}",
                    resource.name
                ),
            },
            _ => refuse(&fault.to_string()),
        })?,
        _ => parse_body(&media, &text)?,
    };
    let found = match &object {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Object(_) | Value::Null => {
            let kind = object["kind"].as_str().unwrap_or_default();
            if resource.is_defined() && kind.is_empty() {
                let text = String::from_utf8_lossy(&text);
                return Err(refuse(&format!("Object 'Kind' is missing in '{text}'")));
            }
            return Ok((object, twice));
        }
    };
    Err(no_json(&format!(
        r#"json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }}"#
    )))
}

/// The beginning of a body, as errors show it: what does not look like JSON in hexadecimal digits.
fn summary(text: &[u8]) -> String {
    const LIMIT: usize = 30;
    let more = if text.len() > LIMIT { " ..." } else { "" };
    let start = &text[..text.len().min(LIMIT)];
    match text.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned() + more,
        Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

/// One document; JSON is YAML too.
fn parse_yaml(text: &[u8]) -> Result<Value, Error> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    let bad =
        |message: String| Error::BadRequest { message: format!("error decoding YAML: {message}") };
    let text = std::str::from_utf8(text).map_err(|error| bad(error.to_string()))?;
    let documents = model::manifest::parse("body", &wrapped(text));
    let documents = documents.map_err(|error| match &error {
        model::manifest::Error::DuplicateKey { .. } => {
            Error::BadRequest { message: format!("error strict decoding YAML: {}", in_go(&error)) }
        }
        _ => bad(in_go(&error)),
    })?;
    let mut documents = documents.into_iter();
    match (documents.next(), documents.next()) {
        (Some(mut document), None) => Ok(document.value["body"].take()),
        _ => Err(bad("expected one document".into())),
    }
}

/// Lines before the text that [`wrapped`] wraps.
const WRAPPING: usize = 3;

/// What the parser of manifests takes whole: a body need not say what it is, since the path does.
fn wrapped(text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}');
    let text =
        text.strip_prefix("---").filter(|rest| rest.starts_with(['\n', ' '])).unwrap_or(text);
    let head = "apiVersion: v1\nkind: Body\nbody:\n".to_owned();
    text.lines().fold(head, |whole, line| whole + "  " + line + "\n")
}

/// A fault of the text's form in the words of Go's parser, which counts lines from zero and is silent about the first.
fn in_go(error: &model::manifest::Error) -> String {
    let (at, reason) = match error {
        model::manifest::Error::Syntax { at, reason } => (at, reason),
        model::manifest::Error::DuplicateKey { at, key, .. } => {
            let line = at.line.saturating_sub(WRAPPING);
            return format!(
                "error converting YAML to JSON: yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"
            );
        }
        other => return other.to_string(),
    };
    let problem = reason.split_once(", ").map_or(reason.as_str(), |(_, problem)| problem);
    let line = match at.line.saturating_sub(WRAPPING + 1) {
        0 => String::new(),
        line => format!("line {line}: "),
    };
    format!("error converting YAML to JSON: yaml: {line}{problem}")
}

/// `DeleteOptions`, which may be left out.
async fn options(request: Request<Incoming>) -> Result<Value, Error> {
    let media = media(&request);
    let text = bytes(request).await?;
    match media.as_str() {
        _ if text.is_empty() => Ok(Value::Null),
        PROTOBUF => parse_protobuf(&text),
        _ => parse(&text),
    }
}

fn parse_protobuf(bytes: &[u8]) -> Result<Value, Error> {
    protobuf::decode(bytes).map_err(|fault| match fault {
        protobuf::Fault::UnknownType { .. } => Error::UnsupportedMediaType { accepted: BODIES },
        fault => Error::BadRequest { message: format!("cannot decode the protobuf body: {fault}") },
    })
}

fn parse(text: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(text)
        .map_err(|error| Error::BadRequest { message: format!("cannot decode the body: {error}") })
}

pub(super) async fn bytes(request: Request<Incoming>) -> Result<Bytes, Error> {
    let too_large = |_| Error::TooLarge { limit: BODY_LIMIT };
    Ok(Limited::new(request.into_body(), BODY_LIMIT).collect().await.map_err(too_large)?.to_bytes())
}
