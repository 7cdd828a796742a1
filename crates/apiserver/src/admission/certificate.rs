//! Requests for certificates (`k8s.io/kubernetes/pkg/apis/certificates/validation`).
//!
//! Nobody changes what was asked for; one part of the status is the approver's, another the signer's.

use super::causes::Causes;
use super::names;
use crate::access::request::{self, CertificateRequest};
use crate::registry::Part;
use crate::time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

const SHORTEST: i64 = 600;
const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Conditions that are there for good, and true; the first two are the approver's.
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What a field of octets holds.
pub(crate) fn octets(text: &Value) -> Vec<u8> {
    let text: String = text.as_str().unwrap_or_default().split_whitespace().collect();
    STANDARD.decode(text).unwrap_or_default()
}

/// Leaves of a write what is its writer's to say.
pub(crate) fn keep(part: Part, object: &mut Value, old: &Value, now: i64) {
    object["spec"] = old["spec"].clone();
    let Some(fields) = object.as_object_mut() else { return };
    let status = super::child(fields, "status");
    match part {
        Part::Main | Part::Scale | Part::EphemeralContainers | Part::Resize => return,
        Part::Status => keep_decisions(status, old),
        Part::Approval => match old["status"].get("certificate") {
            Some(certificate) => drop(status.insert("certificate".into(), certificate.clone())),
            None => drop(status.remove("certificate")),
        },
    }
    date(status, old, now);
}

/// The approver's conditions stay as they are, unless there are more or less of them, which is refused later.
fn keep_decisions(status: &mut Fields, old: &Value) {
    for kind in DECISIONS {
        let before = of_kind(&old["status"], kind);
        let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
        let conditions = conditions.into_iter().flatten().filter(|it| it["type"] == kind);
        let conditions: Vec<_> = conditions.collect();
        if conditions.len() == before.len() {
            conditions.into_iter().zip(before).for_each(|(it, before)| *it = before.clone());
        }
    }
}

fn date(status: &mut Fields, old: &Value, now: i64) {
    let now = Value::from(time::rfc3339(now));
    for condition in super::items(status, "conditions") {
        super::preset(condition, "lastUpdateTime", || now.clone());
        let is_same =
            |it: &&Value| ["type", "status"].iter().all(|f| it.get(*f) == condition.get(*f));
        let before = list(&old["status"]).iter().find(is_same);
        let since = before.and_then(|it| it.get("lastTransitionTime")).unwrap_or(&now).clone();
        super::preset(condition, "lastTransitionTime", || since);
    }
}

/// Checks a whole request; `old` is what it replaces, and `part` what is written of it.
pub(super) fn check(request: &Fields, old: Option<&Value>, part: Part, causes: &mut Causes) {
    let none = json!({});
    check_spec(request.get("spec").unwrap_or(&none), old, causes);
    let status = request.get("status").unwrap_or(&none);
    check_conditions(status, old, causes);
    let certificate = status.get("certificate").filter(|it| *it != "");
    let is_new = old.is_none_or(|old| old["status"].get("certificate") != certificate);
    if let Some(certificate) = certificate.filter(|_| is_new)
        && let Err(why) = request::check_certificates(&octets(certificate))
    {
        causes.invalid("status.certificate", &"<certificate data>".into(), &why);
    }
    if let Some(old) = old {
        check_change(status, &old["status"], part, causes);
    }
}

fn check_spec(spec: &Value, old: Option<&Value>, causes: &mut Causes) {
    let request = spec.get("request").filter(|it| *it != "").unwrap_or(&Value::Null);
    if let Err(fault) = CertificateRequest::parse(&octets(request)) {
        causes.invalid("spec.request", request, &fault.to_string());
    }
    let usages = spec["usages"].as_array().map_or(&[][..], Vec::as_slice);
    if usages.is_empty() {
        causes.required("spec.usages", "");
    }
    let places =
        || usages.iter().enumerate().map(|(at, it)| (at, it, format!("spec.usages[{at}]")));
    for (_, usage, path) in places() {
        causes.one_of(&path, usage.as_str().unwrap_or_default(), &USAGES);
    }
    for (at, usage, path) in places() {
        if usages[..at].contains(usage) {
            causes.duplicate(&path, usage);
        }
    }
    let signer = spec["signerName"].as_str().unwrap_or_default();
    if signer == LEGACY && old.is_none() {
        let detail = "the legacy signerName is not allowed via this API version";
        causes.invalid("spec.signerName", &signer.into(), detail);
    } else {
        check_signer(signer, causes);
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64().filter(|it| *it < SHORTEST) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        causes.invalid("spec.expirationSeconds", &seconds.into(), detail);
    }
}

const SIGNER: &str = "spec.signerName";

/// `ValidateSignerName`
fn check_signer(signer: &str, causes: &mut Causes) {
    const LONGEST: usize = 253 + 1 + 253 + 1 + 63;
    if signer.is_empty() {
        return causes.required(SIGNER, "");
    }
    let [domain, path] = signer.split('/').collect::<Vec<_>>()[..] else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return causes.invalid(SIGNER, &signer.into(), detail);
    };
    if domain.len() > 253 {
        causes.too_long(SIGNER, 253);
    }
    check_parts(domain, names::label, causes);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        causes.invalid(SIGNER, &domain.into(), detail);
    }
    check_parts(path, names::subdomain, causes);
    if signer.len() > LONGEST {
        causes.too_long(SIGNER, LONGEST);
    }
}

/// Of the parts of a half the first wrong one is told.
fn check_parts(half: &str, check: fn(&str) -> Result<(), &'static str>, causes: &mut Causes) {
    let wrong = half.split('.').find_map(|it| check(it).err().map(|why| (it, why)));
    if let Some((part, why)) = wrong {
        causes.invalid(SIGNER, &half.into(), &format!("validating label {part:?}: {why}"));
    }
}

fn check_conditions(status: &Value, old: Option<&Value>, causes: &mut Causes) {
    const BOTH: &str = "Approved and Denied conditions are mutually exclusive";
    if old.is_some_and(|old| old["status"]["conditions"] == status["conditions"]) {
        return;
    }
    let conditions = list(status);
    let kind = |condition: &Value| condition["type"].as_str().unwrap_or_default().to_owned();
    for (at, condition) in conditions.iter().enumerate() {
        let (path, kind, before) =
            (format!("status.conditions[{at}]"), kind(condition), &conditions[..at]);
        if kind.is_empty() {
            causes.required(&format!("{path}.type"), "");
        }
        let lasting = LASTING.contains(&&*kind);
        let allowed: &[&str] = if lasting { &["True"] } else { &["False", "True", "Unknown"] };
        match condition["status"].as_str().unwrap_or_default() {
            "" => causes.required(&format!("{path}.status"), ""),
            status => causes.one_of(&format!("{path}.status"), status, allowed),
        }
        let other = DECISIONS.iter().find(|it| DECISIONS.contains(&&*kind) && **it != kind);
        if other.is_some_and(|other| before.iter().any(|it| it["type"] == *other)) {
            causes.invalid("status.conditions", &kind.as_str().into(), BOTH);
        }
        if before.iter().any(|it| it["type"] == *kind) {
            causes.duplicate(&format!("{path}.type"), &kind.into());
        }
    }
}

fn check_change(status: &Value, old: &Value, part: Part, causes: &mut Causes) {
    let mut refuse = |what: &str, kind: &str| {
        let detail = format!("updates may not {what} a condition of type {kind:?}");
        causes.forbidden("status.conditions", &detail);
    };
    for kind in LASTING {
        if of_kind(status, kind).len() < of_kind(old, kind).len() {
            refuse("remove", kind);
        }
    }
    for kind in DECISIONS.iter().filter(|_| part != Part::Approval) {
        if of_kind(status, kind).len() > of_kind(old, kind).len() {
            refuse("add", kind);
        }
    }
    let certificate = |status: &Value| octets(&status["certificate"]);
    let before = certificate(old);
    if certificate(status) == before {
        return;
    }
    if part != Part::Status {
        causes.forbidden("status.certificate", "updates may not set certificate content");
    } else if !before.is_empty() {
        let detail = "updates may not modify existing certificate content";
        causes.forbidden("status.certificate", detail);
    }
}

fn list(status: &Value) -> &[Value] {
    status["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn of_kind<'a>(status: &'a Value, kind: &str) -> Vec<&'a Value> {
    list(status).iter().filter(|it| it["type"] == kind).collect()
}
