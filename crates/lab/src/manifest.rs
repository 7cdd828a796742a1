//! Objects as the user wrote them.

use crate::plan::PlanError;
use model::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One object and the place it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub value: Value,
    /// For people: `examples/web.yaml:12`.
    pub source: String,
}

impl Manifest {
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.text("/kind") == kind
    }

    /// The text at a JSON pointer; empty where there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `Deployment default/web`
    pub(crate) fn object(&self) -> String {
        let (kind, name) = (self.text("/kind"), self.text("/metadata/name"));
        match self.text("/metadata/namespace") {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        }
    }

    pub(crate) fn field_error(&self, error: FieldError) -> PlanError {
        PlanError::Field { source_name: self.source.clone(), object: self.object(), error }
    }
}
