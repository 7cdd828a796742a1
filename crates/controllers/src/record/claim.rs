use super::{items, key, version};
use model::ObjectKey;
use serde_json::Value;

/// A PersistentVolumeClaim, as far as it matters whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) key: ObjectKey,
    pub(crate) version: u64,
    /// `metadata.ownerReferences`
    pub(crate) owners: Vec<Value>,
}

impl Claim {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let owners = items(value, "/metadata/ownerReferences").to_vec();
        Some(Claim { key: key(value)?, version: version(value), owners })
    }
}
