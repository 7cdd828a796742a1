//! Documents to typed objects, all faults at once.

use super::Document;
use crate::field::{Field, FieldError};
use crate::object::virtual_ip::check_fields;
use crate::object::{Kind, Object, ObjectError};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A field of a document that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    pub file: Arc<str>,
    /// Of the field, or of its nearest ancestor where the field is missing; from 1.
    pub line: usize,
    /// As written, like `namespace` and `name`; empty where nothing is written.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub fault: FieldError,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.kind)?;
        match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => {}
            ("", name) => write!(f, " {name}")?,
            (namespace, name) => write!(f, " {namespace}/{name}")?,
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// Parses every document; the object is `None` for kinds that do not concern the model.
pub fn load(documents: Vec<Document>) -> Result<Vec<(Document, Option<Object>)>, Vec<LoadError>> {
    let mut loaded = Vec::with_capacity(documents.len());
    let mut errors = Vec::new();
    for document in documents {
        match object(&document.value) {
            Ok(object) => loaded.push((document, object)),
            Err(fault) => errors.push(error(&document, fault)),
        }
    }
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

fn object(value: &Value) -> Result<Option<Object>, FieldError> {
    match Object::parse(value) {
        Ok(object) => {
            if object.kind() == Kind::VirtualIp {
                check_fields(&Field::root(value))?;
            }
            Ok(Some(object))
        }
        Err(ObjectError::Field(fault)) => Err(fault),
        Err(ObjectError::OtherKind { api_version, kind }) => match kind.parse::<Kind>() {
            Ok(kind) if is_of_kubernetes(&api_version) => {
                Err(Field::root(value).at("apiVersion").error(kind.names().0))
            }
            _ => Ok(None),
        },
    }
}

/// Whether an API group is Kubernetes' own or Podway's: there a known kind with another apiVersion is
/// a slip, while elsewhere (`serving.knative.dev/v1` Service) it is another thing of the same name.
fn is_of_kubernetes(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    !group.contains('.') || group.ends_with(".k8s.io") || group == "podway.io"
}

fn error(document: &Document, fault: FieldError) -> LoadError {
    let text = |pointer| {
        document.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let kind = text("/kind");
    let namespaced = kind.parse().is_ok_and(Kind::is_namespaced);
    let namespace = match text("/metadata/namespace") {
        namespace if namespace.is_empty() && namespaced => "default".to_owned(),
        namespace => namespace,
    };
    LoadError {
        file: document.source.clone(),
        line: document.line_of(&fault.path).unwrap_or_else(|| document.line()),
        kind,
        namespace,
        name: text("/metadata/name"),
        fault,
    }
}
