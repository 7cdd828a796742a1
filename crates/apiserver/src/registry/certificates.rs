//! Requests for certificates: who asks, who may approve and sign, and the signers that a cluster has itself.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use super::{Part, Registry, Write};
use crate::access::User;
use crate::access::issue::{Terms, Usage};
use crate::access::request::{CertificateRequest, OtherName};
use crate::admission::certificate::octets;
use crate::base64;
use crate::error::{Error, Prohibition};
use crate::resources::{Kind, Resource};
use crate::rights::{self, Question};
use crate::store::{Change, Key};
use crate::time;
use serde_json::{Value, json};

const GROUP: &str = "certificates.k8s.io";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Seconds for which a certificate is good at most, and at least.
const LONGEST: i64 = 365 * 24 * 3600;
const SHORTEST: i64 = 600;
/// So long before now a certificate begins, for clocks that are slow; what lasts shorter than this ends in full.
const BACKDATED: i64 = 300;
const SHORT: i64 = 8 * 3600;

/// Notes who asks, whatever he says.
pub(super) fn begin(resource: &Resource, object: &mut Value, write: Write<'_>) {
    if resource.kind != Kind::CertificateSigningRequest {
        return;
    }
    let spec = &mut object["spec"];
    if spec.is_null() {
        *spec = json!({});
    }
    let Some(spec) = spec.as_object_mut() else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    let Some(Value::Object(info)) = write.caller.map(User::json) else { return };
    spec.extend(info);
    object["status"] = json!({});
}

/// The authority's clients decide by groups, so the group that may do everything is not to be had by a request.
pub(super) fn check_subject(
    resource: &'static Resource,
    key: &Key,
    object: &Value,
) -> Result<(), Error> {
    let spec = &object["spec"];
    if resource.kind != Kind::CertificateSigningRequest || spec["signerName"] != CLIENT {
        return Ok(());
    }
    let request = CertificateRequest::parse(&octets(&spec["request"]));
    if request.is_ok_and(|it| it.organisations.iter().any(|it| it == "system:masters")) {
        let why = Prohibition::MastersCertificate { signer: CLIENT.to_owned() };
        return Err(Error::Forbidden { resource, name: key.name.clone(), why });
    }
    Ok(())
}

impl Registry {
    /// Whether the writer may approve, or sign, what this signer is asked for.
    pub(super) fn check_signer(
        &self,
        resource: &'static Resource,
        part: Part,
        old: &Value,
        object: &Value,
        write: Write<'_>,
    ) -> Result<(), Error> {
        let verb = match part {
            _ if resource.kind != Kind::CertificateSigningRequest => return Ok(()),
            Part::Approval => "approve",
            Part::Status if old["status"] != object["status"] => "sign",
            _ => return Ok(()),
        };
        let Some(user) = write.caller else { return Ok(()) };
        let signer = old["spec"]["signerName"].as_str().unwrap_or_default().to_owned();
        let whole = format!("{}/*", signer.split('/').next().unwrap_or_default());
        let may = |name: &str| {
            let name = name.to_owned();
            let question = Question { name, ..Question::about(verb, GROUP, "signers") };
            rights::judge(&self.store, user, &question).allowed
        };
        if may(&signer) || may(&whole) {
            return Ok(());
        }
        let name = old["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Err(Error::Forbidden { resource, name, why: Prohibition::NoSigner { verb, signer } })
    }

    /// Approves what nodes ask for themselves, and signs what is approved.
    pub(super) fn settle_certificates(&mut self, change: &Change, now: i64) {
        let (Kind::CertificateSigningRequest, Some(new)) = (change.kind, &change.new) else {
            return;
        };
        let has = |kind: &str| {
            let mut conditions = new.value["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|it| it["type"] == kind)
        };
        let issued = new.value["status"]["certificate"].is_string();
        if issued || has("Denied") || has("Failed") || self.authority.is_none() {
            return;
        }
        let Ok(request) = CertificateRequest::parse(&octets(&new.value["spec"]["request"])) else {
            return;
        };
        let mut changed = new.value.clone();
        if has("Approved") {
            self.sign(&request, &mut changed, now);
        } else {
            self.approve(&request, &mut changed, now);
        }
        if changed != new.value {
            self.store.put(Kind::CertificateSigningRequest, change.key.clone(), changed);
        }
    }

    /// Wording: `k8s.io/kubernetes/pkg/controller/certificates/approver`.
    fn approve(&self, request: &CertificateRequest, object: &mut Value, now: i64) {
        let spec = &object["spec"];
        let is_node = check_kubelet(request, spec, Role::Client).is_ok();
        if spec["signerName"] != KUBELET_CLIENT || !is_node {
            return;
        }
        let user = requester(spec);
        let may = |subresource: &str| {
            let subresource = subresource.to_owned();
            let about = Question::about("create", GROUP, "certificatesigningrequests");
            rights::judge(&self.store, &user, &Question { subresource, ..about }).allowed
        };
        let message = if user.name == request.common_name && may("selfnodeclient") {
            "Auto approving self kubelet client certificate after SubjectAccessReview."
        } else if may("nodeclient") {
            "Auto approving kubelet client certificate after SubjectAccessReview."
        } else {
            return;
        };
        add_condition(object, "Approved", "AutoApproved", message, now);
    }

    /// Wording: `k8s.io/kubernetes/pkg/controller/certificates/signer`.
    fn sign(&self, request: &CertificateRequest, object: &mut Value, now: i64) {
        let spec = &object["spec"];
        let checked = match spec["signerName"].as_str() {
            Some(CLIENT) => check_client(spec),
            Some(KUBELET_CLIENT) => check_kubelet(request, spec, Role::Client),
            Some(KUBELET_SERVING) => check_kubelet(request, spec, Role::Server),
            // Somebody else's.
            _ => return,
        };
        if let Err(why) = checked {
            return add_condition(object, "Failed", "SignerValidationFailure", &why, now);
        }
        let terms = terms(spec, now);
        let certificate = self.authority.as_ref().map(|it| it.issue(request, &terms));
        match certificate {
            Some(Ok(pem)) => {
                object["status"]["certificate"] = base64::encode(pem.as_bytes()).into();
            }
            Some(Err(error)) => tracing::warn!(%error, "a certificate cannot be signed"),
            None => {}
        }
    }
}

/// What a kubelet is with its certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

fn requester(spec: &Value) -> User {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let groups = spec["groups"].as_array().into_iter().flatten();
    User {
        name: text(&spec["username"]),
        uid: text(&spec["uid"]),
        groups: groups.map(text).collect(),
        ..User::default()
    }
}

fn add_condition(object: &mut Value, kind: &str, reason: &str, message: &str, now: i64) {
    let now = time::rfc3339(now);
    let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now});
    match object["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => object["status"]["conditions"] = json!([condition]),
    }
}

fn usages(spec: &Value) -> Vec<&str> {
    spec["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn check_client(spec: &Value) -> Result<(), String> {
    const OPTIONAL: [&str; 2] = ["digital signature", "key encipherment"];
    let usages = usages(spec);
    let mut others = usages.iter().filter(|it| **it != "client auth" && !OPTIONAL.contains(it));
    if let Some(other) = others.next() {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.contains(&"client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

/// Wording: `k8s.io/kubernetes/pkg/apis/certificates`.
fn check_kubelet(request: &CertificateRequest, spec: &Value, role: Role) -> Result<(), String> {
    let has = |name| request.other_names.contains(&name);
    let is_place = has(OtherName::Dns) || has(OtherName::Address);
    let named = request.common_name.starts_with("system:node:");
    let fault = match role {
        _ if request.organisations != ["system:nodes"] => {
            "subject organization is not system:nodes"
        }
        Role::Client if has(OtherName::Dns) => "DNS subjectAltNames are not allowed",
        Role::Server if !is_place => "DNS or IP subjectAltName is required",
        _ if has(OtherName::Email) => "Email subjectAltNames are not allowed",
        Role::Client if has(OtherName::Address) => "IP subjectAltNames are not allowed",
        _ if has(OtherName::Uri) => "URI subjectAltNames are not allowed",
        _ => "",
    };
    let unnamed = (!named).then_some("subject common name does not begin with system:node:");
    let purpose = if role == Role::Client { "client auth" } else { "server auth" };
    let mut usages = usages(spec);
    usages.sort_unstable();
    let (few, all) =
        (["digital signature", purpose], ["digital signature", "key encipherment", purpose]);
    let sorted = |mut list: Vec<&'static str>| {
        list.sort_unstable();
        list
    };
    let (few, all) = (sorted(few.to_vec()), sorted(all.to_vec()));
    let unfit = (usages != few && usages != all)
        .then(|| format!("usages did not match [{}]", all.join(" ")));
    let unnamed = unnamed.map(str::to_owned);
    let last = match role {
        Role::Client => unnamed.or(unfit),
        Role::Server => unfit.or(unnamed),
    };
    match (fault, last) {
        ("", None) => Ok(()),
        ("", Some(last)) => Err(last),
        (fault, _) => Err(fault.to_owned()),
    }
}

fn terms(spec: &Value, now: i64) -> Terms {
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    let until = now + seconds - if seconds < SHORT { 0 } else { BACKDATED };
    let usage = |name: &str| match name {
        "digital signature" => Some(Usage::DigitalSignature),
        "key encipherment" => Some(Usage::KeyEncipherment),
        "client auth" => Some(Usage::ClientAuth),
        "server auth" => Some(Usage::ServerAuth),
        _ => None,
    };
    let usages = usages(spec).into_iter().filter_map(usage).collect();
    Terms { from: now - BACKDATED, until, usages }
}
