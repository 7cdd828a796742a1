//! Object metadata: what clients may write and what the server does.

use super::Part;
use crate::error::{Cause, Clash, Error, Reason};
use crate::patch;
use crate::resources::{self, Kind, Resource, StatusRule};
use crate::schema;
use crate::store::Key;
use crate::time;
use serde_json::{Map, Value, json};

/// Makes uids and name suffixes: `SplitMix64`, so that a seed fixes them all.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// RFC 9562, version 4.
    pub(crate) fn uid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        let (high, low) = (a & !0xf000 | 0x4000, b & !(0b11 << 62) | 0b10 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// Five letters that spell no word (`k8s.io/apimachinery/pkg/util/rand`).
    pub(super) fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut bits = self.next();
        let mut letter = || {
            let at = usize::try_from(bits % LETTERS.len() as u64)
                .expect("less than the number of letters");
            bits /= LETTERS.len() as u64;
            char::from(LETTERS[at])
        };
        (0..5).map(|_| letter()).collect()
    }
}

/// Fits an object from outside to the request: type, metadata, namespace.
pub(super) fn adopt(resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), Error> {
    patch::check_depth(object)?;
    let Value::Object(fields) = object else {
        return Err(Error::BadRequest { message: "the body is not an object".into() });
    };
    expect(fields, resource)?;
    if resource.has_status()
        && fields.get("status").is_some_and(|status| !status.is_object() && !status.is_null())
    {
        return Err(Error::BadRequest { message: "status is not an object".into() });
    }
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    let Value::Object(metadata) = metadata else {
        let found = match metadata {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        let (kind, version) = (resource.name, resource.version);
        let why = format!(
            "json: cannot unmarshal {found} into Go struct field {kind}.metadata of type v1.ObjectMeta"
        );
        let message = format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}");
        return Err(Error::BadRequest { message });
    };
    // Go's types do not write what is empty.
    let is_empty = |value: &Value| value.is_null() || [json!([]), json!({})].contains(value);
    // Of owners none at all is a wish.
    metadata.retain(|name, value| !is_empty(value) || name == "managedFields" && value.is_array());
    if resource.is_custom() {
        check_types(metadata)?;
    }
    metadata.remove("selfLink");
    if !resource.namespaced {
        metadata.remove("namespace");
        return Ok(());
    }
    match metadata.get("namespace").and_then(Value::as_str) {
        None | Some("") => drop(metadata.insert("namespace".into(), namespace.into())),
        Some(own) if own == namespace => {}
        Some(_) => {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Error::BadRequest { message: message.into() });
        }
    }
    Ok(())
}

/// The type is that of the resource, or left out.
fn expect(fields: &mut Map<String, Value>, resource: &Resource) -> Result<(), Error> {
    let given = |field: &str, otherwise: &str| {
        let text = fields.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.unwrap_or(otherwise).to_owned()
    };
    let (wanted, name) = (resource.api_version(), resource.name);
    let (version, kind) = (given("apiVersion", &wanted), given("kind", name));
    if matches!(resource.kind, Kind::Custom(_)) && version != wanted {
        let message = format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        );
        return Err(Error::BadRequest { message });
    }
    if version == wanted && kind == name {
        fields.insert("apiVersion".into(), version.into());
        fields.insert("kind".into(), kind.into());
        return Ok(());
    }
    let of = |version: &str| version.rsplit('/').next().unwrap_or_default().to_owned();
    let group = |version: &str| match version.split_once('/') {
        Some((group, _)) => group.split('.').next().unwrap_or_default().to_owned(),
        None => "core".to_owned(),
    };
    let other = resources::of_manifest(&version, &kind);
    let wrong = other.and_then(Resource::root).and_then(|root| {
        schema::decode::decode(root, &mut Value::Object(fields.clone()), &mut Vec::new()).err()
    });
    let why = match (other, wrong) {
        (Some(_), Some(wrong)) => wrong,
        (Some(_), None) => {
            let found = if version.contains('/') { group(&version) } else { of(&version) };
            let wanted = group(&wanted);
            format!("converting ({found}.{kind}) to ({wanted}.{name}): unknown conversion")
        }
        (None, _) => format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        ),
    };
    let version = of(&version);
    let message = format!("{kind} in version {version:?} cannot be handled as a {name}: {why}");
    Err(Error::BadRequest { message })
}

/// Metadata that the server itself reads has the types it expects.
fn check_types(metadata: &Map<String, Value>) -> Result<(), Error> {
    let texts =
        |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let list = |value: &Value, item: fn(&Value) -> bool| {
        value.as_array().is_some_and(|list| list.iter().all(item))
    };
    for (field, value) in metadata {
        let good = match field.as_str() {
            "labels" | "annotations" => texts(value),
            "finalizers" => list(value, Value::is_string),
            "ownerReferences" => list(value, |owner| owner["uid"].is_string()),
            "name" | "generateName" | "namespace" | "uid" | "resourceVersion" => value.is_string(),
            _ => true,
        };
        if !good {
            return Err(Error::BadRequest {
                message: format!("metadata.{field} is of the wrong type"),
            });
        }
    }
    Ok(())
}

pub(super) fn nameless(resource: &'static Resource) -> Error {
    let cause = Cause {
        reason: Reason::Required,
        field: "metadata.name".into(),
        message: "Required value: name or generateName is required".into(),
    };
    Error::Invalid { resource, name: String::new(), causes: vec![cause] }
}

/// What the server decides at an object's birth.
pub(super) fn begin(resource: &Resource, object: &mut Value, random: &mut Random, now: i64) {
    let metadata = metadata(object);
    for field in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"]
    {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), random.uid().into());
    metadata.insert("creationTimestamp".into(), time::rfc3339(now).into());
    if resource.generation {
        metadata.insert("generation".into(), 1.into());
    }
}

pub(super) fn drop_status(resource: &Resource, object: &mut Value) {
    if resource.has_status()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
}

/// Refuses a write that is about another object or another state than the stored one.
pub(super) fn check_same(
    resource: &'static Resource,
    key: &Key,
    object: &Value,
    old: &Value,
) -> Result<(), Error> {
    let text = |value: &Value, field: &str| {
        value["metadata"][field].as_str().unwrap_or_default().to_owned()
    };
    let name = text(object, "name");
    if !name.is_empty() && name != key.name {
        let message = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        );
        return Err(Error::BadRequest { message });
    }
    let conflict = |clash| Error::Conflict { resource, name: key.name.clone(), clash };
    let (wanted, found) = (text(object, "uid"), text(old, "uid"));
    if !wanted.is_empty() && wanted != found {
        return Err(conflict(Clash::Precondition { field: "UID", wanted, found }));
    }
    let version = text(object, "resourceVersion");
    if !version.is_empty() && version != text(old, "resourceVersion") {
        return Err(conflict(Clash::Modified));
    }
    Ok(())
}

/// Refuses a patch of the uid, which in whole objects is a precondition.
pub(super) fn check_uid(
    resource: &'static Resource,
    key: &Key,
    object: &Value,
    old: &Value,
) -> Result<(), Error> {
    let uid = &object["metadata"]["uid"];
    if uid.is_null() || *uid == "" || *uid == old["metadata"]["uid"] {
        return Ok(());
    }
    let message = format!("Invalid value: {uid}: field is immutable");
    let cause = Cause { reason: Reason::Invalid, field: "metadata.uid".into(), message };
    // Said twice by the real server about its own kinds.
    let causes = vec![cause; if resource.is_custom() { 1 } else { 2 }];
    Err(Error::Invalid { resource, name: key.name.clone(), causes })
}

/// Metadata that no client changes.
pub(super) fn keep(object: &mut Value, old: &Value) {
    let fixed = [
        "name",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
    ];
    let metadata = metadata(object);
    for field in fixed {
        match old["metadata"].get(field) {
            Some(value) => drop(metadata.insert(field.into(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
}

/// Each part is written by itself.
pub(super) fn keep_all_but(part: Part, resource: &Resource, object: &mut Value, old: &Value) {
    match part {
        Part::Main | Part::Scale => keep_status(resource, object, old),
        Part::Status | Part::Approval => keep_all_but_status(resource, object, old),
        Part::EphemeralContainers => keep_all_but_guests(object, old),
        Part::Resize => keep_all_but_resources(object, old),
    }
}

fn keep_status(resource: &Resource, object: &mut Value, old: &Value) {
    if resource.status == StatusRule::Absent {
        return;
    }
    drop_status(resource, object);
    if let Some(status) = old.get("status") {
        object["status"] = status.clone();
    }
}

/// What this part does not write stays as it is stored, with what the writer's form does not know of it.
pub(super) fn keep_unseen(resource: &Resource, part: Part, object: &mut Value, stored: &Value) {
    let kept = match part {
        Part::Status | Part::Approval => "spec",
        Part::Main | Part::Scale | Part::EphemeralContainers | Part::Resize => "status",
    };
    if resource.has_status()
        && let (Some(fields), Some(value)) = (object.as_object_mut(), stored.get(kept))
    {
        fields.insert(kept.into(), value.clone());
    }
}

/// A status write changes the status, and of most kinds labels and annotations too: flannel relies on it.
fn keep_all_but_status(resource: &Resource, object: &mut Value, old: &Value) {
    let mut result = old.clone();
    match object.get("status") {
        Some(status) if !status.is_null() => result["status"] = status.clone(),
        _ => drop_status(resource, &mut result),
    }
    if resource.status_covers_metadata() {
        result["metadata"] = object["metadata"].take();
    }
    if resource.kind == Kind::Deployment {
        keep_labels(&mut result, old);
    }
    *object = result;
}

/// A write of a pod's ephemeral containers changes nothing else.
fn keep_all_but_guests(object: &mut Value, old: &Value) {
    const FIELD: &str = "ephemeralContainers";
    let mut result = old.clone();
    if let Some(spec) = result["spec"].as_object_mut() {
        spec.remove(FIELD);
        spec.extend(object["spec"].get_mut(FIELD).map(|list| (FIELD.into(), list.take())));
    }
    *object = result;
}

/// A write of what a pod's containers need changes nothing else; other containers are refused later.
fn keep_all_but_resources(object: &mut Value, old: &Value) {
    let (given, mut result) = (object["spec"].take(), old.clone());
    let names = |spec: &Value, list: &str| -> Vec<Value> {
        let containers = spec[list].as_array().into_iter().flatten();
        containers.map(|container| container["name"].clone()).collect()
    };
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| names(&given, list) != names(&old["spec"], list)) {
        result["spec"] = given;
        *object = result;
        return;
    }
    copy_fields(&mut result["spec"], &given, &["resources"]);
    for list in lists {
        let containers = result["spec"][list].as_array_mut().into_iter().flatten();
        for (container, given) in containers.zip(given[list].as_array().into_iter().flatten()) {
            copy_fields(container, given, &["resources", "resizePolicy"]);
        }
    }
    result["spec"].as_object_mut().into_iter().for_each(|spec| spec.retain(|_, it| !it.is_null()));
    *object = result;
}

fn copy_fields(to: &mut Value, from: &Value, names: &[&str]) {
    let Some(fields) = to.as_object_mut() else { return };
    for name in names {
        match from.get(name) {
            Some(value) => drop(fields.insert((*name).to_owned(), value.clone())),
            None => drop(fields.remove(*name)),
        }
    }
}

fn keep_labels(object: &mut Value, old: &Value) {
    match old["metadata"].get("labels") {
        Some(labels) => drop(metadata(object).insert("labels".into(), labels.clone())),
        None => drop(metadata(object).remove("labels")),
    }
}

/// Counts a change of anything but metadata and status.
pub(super) fn count_generation(resource: &Resource, object: &mut Value, old: &Value) {
    // Of a Deployment annotations count too: some of them are wishes.
    let annotations = |object: &Value| object["metadata"]["annotations"].clone();
    let said = resource.kind != Kind::Deployment || annotations(object) == annotations(old);
    // The real server gives a class its first generation and counts no more.
    let uncounted = resource.kind == Kind::PriorityClass;
    if !resource.generation || uncounted || said && same_wish(object, old) {
        return;
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    metadata(object).insert("generation".into(), generation.into());
}

/// Who acts on an object shall see that something is wanted: it is deleted for the first time.
pub(super) fn begin_deletion(object: &mut Value) {
    let metadata = metadata(object);
    if metadata.get("deletionTimestamp").is_none()
        && let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
    {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

fn same_wish(a: &Value, b: &Value) -> bool {
    let wish = |value: &Value| -> Map<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        let fields = fields.filter(|(field, _)| *field != "metadata" && *field != "status");
        fields.map(|(field, value)| (field.clone(), value.clone())).collect()
    };
    wish(a) == wish(b)
}

/// Whether nothing holds a deleted object back any more.
pub(super) fn is_finished(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !has_finalizers(object)
}

/// Finalizers of any object, or those of a namespace.
pub(super) fn has_finalizers(object: &Value) -> bool {
    let some = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    some(&object["metadata"]["finalizers"])
        || object["kind"] == "Namespace" && some(&object["spec"]["finalizers"])
}

pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    object["metadata"].as_object_mut().expect("adopt() made it an object")
}
