//! What a webhook answers.
//!
//! Wording: `k8s.io/apiserver/pkg/admission/plugin/webhook/{request,errors}`.

use super::super::Attributes;
use crate::error::{Error, illegal_base64};
use crate::resources::Resource;
use crate::schema::decode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use json_patch::PatchOperation;
use serde_json::{Map, Value, json};

#[derive(Debug)]
pub(super) struct Answer {
    allowed: bool,
    /// `Status` of a refusal.
    status: Value,
    pub(super) warnings: Vec<String>,
    patch: Option<Vec<u8>>,
}

/// What it wants changed, not yet read.
pub(super) fn patch(review: &Value) -> Result<Option<Vec<u8>>, String> {
    let text = review["response"]["patch"].as_str().filter(|patch| !patch.is_empty());
    let decoded = text.map(|text| STANDARD.decode(text).map_err(|it| illegal_base64(&it, text)));
    decoded.transpose()
}

impl Answer {
    pub(super) fn read(
        review: &Value,
        patch: Option<Vec<u8>>,
        version: &str,
        changes: bool,
    ) -> Result<Self, String> {
        let text = |field: &str| review[field].as_str().unwrap_or_default();
        let (kind, group_version) = (text("kind"), text("apiVersion"));
        let response = &review["response"];
        if !response.is_object() {
            return Err("webhook response was absent".into());
        }
        let is_v1 = version == "admission.k8s.io/v1";
        let uid = |value: &Value| value["uid"].as_str().unwrap_or_default().to_owned();
        let (asked, answered) = (uid(&review["request"]), uid(response));
        if is_v1 && asked != answered {
            return Err(format!("expected response.uid={asked:?}, got {answered:?}"));
        }
        if is_v1 && (group_version != version || kind != "AdmissionReview") {
            return Err(format!(
                "expected webhook response of {version}, Kind=AdmissionReview, got {group_version}, Kind={kind}"
            ));
        }
        let patch_type = response["patchType"].as_str();
        match (changes, &patch, patch_type) {
            (true, Some(_), None) if is_v1 => {
                return Err("webhook returned response.patch but not response.patchType".into());
            }
            (true, None, Some(_)) if is_v1 => {
                return Err("webhook returned response.patchType but not response.patch".into());
            }
            (true, Some(_), Some(other)) if other != "JSONPatch" => {
                return Err(format!("webhook returned invalid response.patchType of {other:?}"));
            }
            (false, Some(_), _) if is_v1 => {
                return Err("validating webhook may not return response.patch".into());
            }
            (false, _, Some(_)) if is_v1 => {
                return Err("validating webhook may not return response.patchType".into());
            }
            _ => {}
        }
        let warnings = super::items(&response["warnings"]);
        Ok(Self {
            allowed: response["allowed"] == true,
            status: response["status"].clone(),
            warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
            patch,
        })
    }

    pub(super) fn verdict(&self, name: &str) -> Result<(), Error> {
        if self.allowed {
            return Ok(());
        }
        let mut status: Map<String, Value> = self.status.as_object().cloned().unwrap_or_default();
        let text = |field: &str| self.status[field].as_str().unwrap_or_default();
        let denied = format!("admission webhook {name:?} denied the request");
        let message = match (text("message"), text("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = self.status["code"].as_u64().filter(|code| (400..600).contains(code));
        status.insert("kind".into(), "Status".into());
        status.insert("apiVersion".into(), "v1".into());
        status.entry("metadata").or_insert_with(|| json!({}));
        status.insert("status".into(), "Failure".into());
        status.insert("message".into(), message.into());
        status.insert("code".into(), code.unwrap_or(400).into());
        Err(Error::Rejected { status: Value::Object(status) })
    }

    /// The object as the webhook wants it, in the form of the request; none: as it is.
    pub(super) fn apply(
        &self,
        name: &str,
        request: &Attributes<'_>,
        form: &'static Resource,
    ) -> Result<Option<Value>, Error> {
        let failed = |message: String| Error::Internal { message };
        let Some(patch) = &self.patch else { return Ok(None) };
        let operations: Vec<PatchOperation> = serde_json::from_slice(patch).map_err(|error| {
            let why = format!("received undecodable patch in webhook response: {error}");
            failed(format!("failed calling webhook {name:?}: {why}"))
        })?;
        if operations.is_empty() {
            return Ok(None);
        }
        let Some(mut object) = request.in_form(form).0 else {
            return Err(failed(format!(
                "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
            )));
        };
        json_patch::patch(&mut object, &operations).map_err(|error| failed(error.to_string()))?;
        crate::patch::check_depth(&object)?;
        if let Some(root) = form.root().filter(|_| !form.is_custom() && request.kind.is_none()) {
            decode::decode(root, &mut object, &mut Vec::new()).map_err(failed)?;
        }
        if std::ptr::eq(form, request.resource) || request.kind.is_some() {
            return Ok(Some(object));
        }
        Ok(Some(request.resource.shown(&form.stored(object)).into_owned()))
    }
}
