use super::{Owner, meta, number, version};
use model::Meta;
use serde_json::Value;
use std::sync::Arc;

/// A ControllerRevision: a template that a StatefulSet or DaemonSet had once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Revision {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) owner: Option<Owner>,
    /// Higher is later.
    pub(crate) number: u64,
    pub(crate) data: Arc<Value>,
}

impl Revision {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        Some(Revision {
            meta: meta(value)?,
            version: version(value),
            owner: Owner::of(value),
            number: number(value, "/revision").unwrap_or(0),
            data: super::part(value, "data"),
        })
    }
}
