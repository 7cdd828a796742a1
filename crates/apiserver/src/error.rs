//! Every way to say no, as the `Status` object that clients understand.
//!
//! Wording and codes: `k8s.io/apimachinery/pkg/api/errors`, which clients match on.

use crate::resources::Resource;
use base64::DecodeError;
use serde_json::{Value, json};

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{} {name:?} not found", resource.qualified())]
    NotFound { resource: &'static Resource, name: String },
    #[error("the server could not find the requested resource")]
    UnknownPath,
    /// Nothing of the API is there, not even a group.
    #[error("404 page not found")]
    NoPage,
    #[error("{} {name:?} already exists", resource.qualified())]
    AlreadyExists { resource: &'static Resource, name: String },
    #[error("Operation cannot be fulfilled on {} {name:?}: {clash}", clash.subject(resource))]
    Conflict { resource: &'static Resource, name: String, clash: Clash },
    #[error("{} {name:?} is invalid: {}", resource.qualified_kind(), listed(causes))]
    Invalid { resource: &'static Resource, name: String, causes: Vec<Cause> },
    #[error("{} {name:?} is forbidden: {why}", resource.qualified())]
    Forbidden { resource: &'static Resource, name: String, why: Prohibition },
    /// An admission policy is against it.
    #[error("{} {name:?} is forbidden: {why}", resource.qualified())]
    Policy { resource: &'static Resource, name: String, why: String, reason: String },
    /// A webhook is against it; the `Status` is its own.
    #[error("{}", status["message"].as_str().unwrap_or_default())]
    Rejected { status: Value },
    /// Somebody outside has to be asked first.
    #[error("a webhook was not asked yet")]
    Unanswered,
    /// Policies that change what is written could not.
    #[error("{}", faults.first().map_or("", String::as_str))]
    Unmutated { resource: &'static Resource, name: String, faults: Vec<String> },
    /// An eviction that a budget objects to.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Disrupting { why: String },
    /// Who asks may not do it.
    #[error("{}forbidden: {why}", denied(group, resource, name))]
    Denied { group: String, resource: String, name: String, why: String },
    #[error("{message}")]
    BadRequest { message: String },
    /// A patch whose result is no object of the kind.
    #[error(" \"\" is invalid: patch: Invalid value: {patched:?}: {why}")]
    BadPatch { patched: String, why: String },
    /// A JSON patch whose operations do not fit the object.
    #[error("the server rejected our request due to an error in our request")]
    Inapplicable,
    /// Options of a request that contradict each other or the request.
    #[error("{kind}.meta.k8s.io \"\" is invalid: {}", listed(causes))]
    Options { kind: &'static str, causes: Vec<Cause> },
    #[error("Scale.autoscaling {name:?} is invalid: {}", listed(causes))]
    Scale { name: String, causes: Vec<Cause> },
    /// A question that is asked wrongly.
    #[error("{kind}.{group} \"\" is invalid: {}", listed(causes))]
    Review { group: &'static str, kind: &'static str, causes: Vec<Cause> },
    /// A manifest to apply that the kind's schema does not describe.
    #[error("{message}")]
    Untyped { message: String },
    /// Others own fields that a manifest wants otherwise.
    #[error("{}", contested(contests))]
    Contested { contests: Vec<Contest> },
    /// The client's place in history is forgotten: it has to list again.
    #[error("{message}")]
    Expired { message: String },
    #[error("Too large resource version: {wanted}, current: {current}")]
    FutureVersion { wanted: u64, current: u64 },
    #[error("Unauthorized")]
    Unauthorized,
    /// Somebody behind this server does not answer.
    #[error("{message}")]
    Unavailable { message: String },
    #[error("Internal error occurred: {message}")]
    Internal { message: String },
    /// The real server gives no reason for it.
    #[error("{message}")]
    Unexplained { message: String },
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// The disk has no room for a write.
    #[error("the server's disk is full, so nothing was written: {why}")]
    Full { why: String },
    /// Of a kind whose definition was deleted.
    #[error("{verb} not allowed while custom resource definition is terminating")]
    Ending { verb: &'static str },
    #[error("only the following media types are accepted: {accepted}")]
    NotAcceptable { accepted: &'static str },
    #[error(
        "you requested PartialObjectMetadataList, but the requested object is not a list ({go_type})"
    )]
    NoList { go_type: String },
    #[error("you requested PartialObjectMetadata, but the requested object is a list ({go_type})")]
    List { go_type: String },
    /// Nothing that the client names is written at that address.
    #[error("406: Not Acceptable\n\nAvailable representations: {available}")]
    NotAvailable { available: &'static str },
    #[error("415: Unsupported Media Type")]
    UnknownPatch,
    #[error(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    )]
    UnsupportedMediaType { accepted: &'static str },
    #[error("Request entity too large: limit is {limit}")]
    TooLarge { limit: usize },
}

/// What two writers disagreed about.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Clash {
    #[error(
        "the object has been modified; please apply your changes to the latest version and try again"
    )]
    Modified,
    #[error(
        "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
    )]
    Precondition { field: &'static str, wanted: String, found: String },
    /// As [`Self::Precondition`], of a deletion.
    #[error("the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). The object might have been {}", if *.field == "UID" { "deleted and then recreated" } else { "modified" })]
    Deleted { field: &'static str, wanted: String, found: String },
    #[error("pod {pod} is already assigned to node {node:?}")]
    Assigned { pod: String, node: String },
}

impl Clash {
    /// What the real server says it is about: of deletions the kind, not the resource.
    fn subject(&self, resource: &Resource) -> String {
        match self {
            Self::Deleted { .. } => resource.qualified_kind(),
            Self::Assigned { .. } => "pods/binding".to_owned(),
            _ => resource.qualified(),
        }
    }
}

/// What is never allowed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Prohibition {
    #[error("unable to create new content in namespace {namespace} because it is being terminated")]
    Terminating { namespace: String },
    #[error("this namespace may not be deleted")]
    LastingNamespace,
    #[error(
        "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
    )]
    NoAccount { namespace: String, account: String },
    #[error("no PriorityClass with name {class} was found")]
    NoPriorityClass { class: String },
    #[error("pod rejected: RuntimeClass {class:?} not found")]
    NoRuntimeClass { class: String },
    #[error("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")]
    OtherOverhead,
    #[error("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")]
    OverheadWithoutClass,
    #[error(
        "conflict: runtimeClass.scheduling.nodeSelector[{label}] = {class}; pod.spec.nodeSelector[{label}] = {pod}"
    )]
    OtherNodes { label: String, class: String, pod: String },
    /// A quota or a range of limits is in the way.
    #[error("{why}")]
    NoRoom { why: String },
    /// Whether a webhook is to be asked cannot be told.
    #[error("{why}")]
    Condition { why: String },
    /// A certificate with which everything is allowed is not to be had so.
    #[error("use of {signer} signer with system:masters group is not allowed")]
    MastersCertificate { signer: String },
    /// `verb` is what somebody may not do to requests for this signer.
    #[error("user not permitted to {verb} requests with signerName {signer:?}")]
    NoSigner { verb: &'static str, signer: String },
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    pub reason: Reason,
    /// Path as clients print it: `spec.ports[0].port`.
    pub field: String,
    /// The message without the path.
    pub message: String,
}

/// Fields that somebody else owns.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest {
    /// As messages name it: `"kubectl-edit" using apps/v1`.
    pub owner: String,
    pub paths: Vec<String>,
}

impl Contest {
    fn causes(&self) -> Vec<Value> {
        let message = format!("conflict with {}", self.owner);
        let cause = |path: &String| json!({"reason": "FieldManagerConflict", "message": message, "field": path});
        self.paths.iter().map(cause).collect()
    }
}

impl Cause {
    fn json(&self) -> Value {
        json!({"reason": self.reason.name(), "message": self.message, "field": self.field})
    }
}

/// The machine-readable half of a [`Cause`] (`metav1.CauseType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    NotFound,
    TooLong,
    TooMany,
    TypeInvalid,
}

impl Reason {
    /// Whether an object that is wrong in this way is not put before the rules of its kind.
    pub(crate) fn blocks_rules(self) -> bool {
        matches!(
            self,
            Self::NotSupported | Self::Required | Self::TooLong | Self::TooMany | Self::TypeInvalid
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

fn listed(causes: &[Cause]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.as_slice() {
        [only] => only.clone(),
        _ => format!("[{}]", lines.join(", ")),
    }
}

/// `pods is `, `deployments.apps "web" is `, or nothing for what is no object.
fn denied(group: &str, resource: &str, name: &str) -> String {
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    match (resource, name) {
        ("", _) => String::new(),
        (_, "") => format!("{resource}{group} is "),
        _ => format!("{resource}{group} {name:?} is "),
    }
}

/// Wording: `sigs.k8s.io/structured-merge-diff/merge`.
fn contested(contests: &[Contest]) -> String {
    let count: usize = contests.iter().map(|contest| contest.paths.len()).sum();
    if let ([Contest { owner, paths }], 1) = (contests, count) {
        return format!("Apply failed with 1 conflict: conflict with {owner}: {}", paths.concat());
    }
    let lines = contests.iter().flat_map(|contest| {
        let head = format!("conflicts with {}:", contest.owner);
        std::iter::once(head).chain(contest.paths.iter().map(|path| format!("- {path}")))
    });
    let lines: Vec<String> = lines.collect();
    format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
}

impl Error {
    /// HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::UnknownPath | Self::NoPage => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } | Self::Contested { .. } => 409,
            Self::Invalid { .. }
            | Self::BadPatch { .. }
            | Self::Inapplicable
            | Self::Review { .. }
            | Self::Scale { .. }
            | Self::Options { .. } => 422,
            Self::Untyped { .. }
            | Self::Unexplained { .. }
            | Self::Internal { .. }
            | Self::Unanswered => 500,
            Self::Rejected { status } => {
                status["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or(400)
            }
            Self::Forbidden { .. } | Self::Denied { .. } | Self::Unmutated { .. } => 403,
            Self::Policy { reason, .. } => match reason.as_str() {
                "Forbidden" => 403,
                "Unauthorized" => 401,
                "RequestEntityTooLarge" => 413,
                _ => 422,
            },
            Self::Disrupting { .. } => 429,
            Self::BadRequest { .. } => 400,
            Self::Unauthorized => 401,
            Self::Expired { .. } => 410,
            Self::FutureVersion { .. } => 504,
            Self::Unavailable { .. } => 503,
            Self::MethodNotAllowed | Self::Ending { .. } => 405,
            Self::NotAcceptable { .. }
            | Self::NotAvailable { .. }
            | Self::NoList { .. }
            | Self::List { .. } => 406,
            Self::UnknownPatch | Self::UnsupportedMediaType { .. } => 415,
            Self::TooLarge { .. } => 413,
            Self::Full { .. } => 507,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::NotFound { .. } | Self::UnknownPath | Self::NoPage => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } | Self::Contested { .. } => "Conflict",
            Self::Invalid { .. }
            | Self::BadPatch { .. }
            | Self::Inapplicable
            | Self::Review { .. }
            | Self::Scale { .. }
            | Self::Unmutated { .. }
            | Self::Options { .. } => "Invalid",
            Self::Untyped { .. } | Self::Unexplained { .. } => "",
            Self::Internal { .. } | Self::Unanswered => "InternalError",
            Self::Rejected { status } => status["reason"].as_str().unwrap_or_default(),
            Self::Forbidden { .. } | Self::Denied { .. } => "Forbidden",
            Self::Policy { reason, .. } => reason,
            Self::Disrupting { .. } => "TooManyRequests",
            Self::BadRequest { .. } => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Expired { .. } => "Expired",
            Self::FutureVersion { .. } => "Timeout",
            Self::Unavailable { .. } => "ServiceUnavailable",
            Self::MethodNotAllowed | Self::Ending { .. } => "MethodNotAllowed",
            Self::NotAcceptable { .. }
            | Self::NotAvailable { .. }
            | Self::NoList { .. }
            | Self::List { .. } => "NotAcceptable",
            Self::UnknownPatch | Self::UnsupportedMediaType { .. } => "UnsupportedMediaType",
            Self::TooLarge { .. } => "RequestEntityTooLarge",
            Self::Full { .. } => "InsufficientStorage",
        }
    }

    /// The `Status` object.
    #[must_use]
    pub fn status(&self) -> Value {
        if let Self::Rejected { status } = self {
            return status.clone();
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "code": self.code(),
        });
        let (reason, details) = (self.reason(), self.details());
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        // Of answers that name no object the details are empty, not missing.
        let generic = matches!(
            self,
            Self::UnknownPath
                | Self::MethodNotAllowed
                | Self::Inapplicable
                | Self::UnknownPatch
                | Self::NotAvailable { .. }
        );
        if details != json!({}) || generic {
            status["details"] = details;
        }
        status
    }

    fn details(&self) -> Value {
        match self {
            Self::NotFound { resource, name } | Self::AlreadyExists { resource, name } => {
                about(resource, resource.plural, name)
            }
            Self::Conflict { resource, name, clash } => {
                let kind = match clash {
                    Clash::Deleted { .. } => resource.name,
                    Clash::Assigned { .. } => "pods/binding",
                    _ => resource.plural,
                };
                about(resource, kind, name)
            }
            Self::Forbidden { resource, name, why } => {
                let mut details = about(resource, resource.plural, name);
                if let Prohibition::Terminating { namespace } = why {
                    let message = format!("namespace {namespace} is being terminated");
                    let cause = json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"});
                    details["causes"] = json!([cause]);
                }
                details
            }
            Self::Policy { resource, name, why, .. } => {
                let mut details = about(resource, resource.plural, name);
                details["causes"] = json!([{"message": why}]);
                details
            }
            Self::Unmutated { resource, name, faults } => {
                let mut details = about(resource, resource.plural, name);
                details["causes"] = faults.iter().map(|fault| json!({"message": fault})).collect();
                details
            }
            Self::Internal { message } => json!({"causes": [{"message": message}]}),
            Self::Denied { group, resource, name, .. } => {
                let mut details = json!({});
                for (field, text) in [("name", name), ("group", group), ("kind", resource)] {
                    if !text.is_empty() {
                        details[field] = text.as_str().into();
                    }
                }
                details
            }
            Self::Invalid { resource, name, causes } => {
                let mut details = about(resource, resource.name, name);
                details["causes"] = causes.iter().map(Cause::json).collect();
                details
            }
            Self::Options { kind, causes } => json!({
                "group": "meta.k8s.io",
                "kind": kind,
                "causes": causes.iter().map(Cause::json).collect::<Vec<_>>(),
            }),
            Self::Scale { name, causes } => json!({
                "name": name,
                "group": "autoscaling",
                "kind": "Scale",
                "causes": causes.iter().map(Cause::json).collect::<Vec<_>>(),
            }),
            Self::Review { group, kind, causes } => json!({
                "group": group,
                "kind": kind,
                "causes": causes.iter().map(Cause::json).collect::<Vec<_>>(),
            }),
            Self::Disrupting { why } => {
                json!({"causes": [{"reason": "DisruptionBudget", "message": why}]})
            }
            Self::BadPatch { patched, why } => {
                let message = format!("Invalid value: {patched:?}: {why}");
                json!({"causes": [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]})
            }
            Self::Contested { contests } => {
                let causes: Vec<Value> = contests.iter().flat_map(Contest::causes).collect();
                json!({"causes": causes})
            }
            Self::FutureVersion { .. } => json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }),
            _ => json!({}),
        }
    }
}

fn about(resource: &Resource, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    details
}

/// In the words of Go.
pub(crate) fn illegal_base64(error: &DecodeError, text: &str) -> String {
    let at = match error {
        DecodeError::InvalidByte(at, _) => *at,
        _ => text.len().saturating_sub(1),
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    #[test]
    fn statuses_read_like_the_real_servers() {
        let deployment = Kind::Deployment.resource();
        let missing = Error::NotFound { resource: deployment, name: "web".into() };
        assert_eq!(missing.to_string(), r#"deployments.apps "web" not found"#);
        assert_eq!(missing.status()["details"]["group"], "apps");
        let cause = |field: &str| Cause {
            reason: Reason::Required,
            field: field.into(),
            message: "Required value".into(),
        };
        let invalid = |causes| Error::Invalid { resource: deployment, name: "web".into(), causes };
        assert_eq!(
            invalid(vec![cause("a")]).to_string(),
            r#"Deployment.apps "web" is invalid: a: Required value"#
        );
        assert_eq!(
            invalid(vec![cause("a"), cause("b")]).to_string(),
            r#"Deployment.apps "web" is invalid: [a: Required value, b: Required value]"#
        );
        assert_eq!(
            invalid(vec![cause("a")]).status()["details"]["causes"][0]["reason"],
            "FieldValueRequired"
        );
    }
}
