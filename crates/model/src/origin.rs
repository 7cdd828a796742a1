//! Where a piece of network configuration comes from: an object and a field of it.

use crate::name::shared;
use crate::object::Kind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The object and field that something in the kernel exists for: the source map's entry.
///
/// Written and read as `Service default/web .spec.ports[0]`; cluster-scoped objects have no slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub kind: Kind,
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Path below the object, such as `spec.ports[0]`; empty for the object as a whole.
    pub field: Arc<str>,
}

impl Origin {
    pub fn new(kind: Kind, namespace: &Arc<str>, name: &Arc<str>, field: &str) -> Self {
        Origin { kind, namespace: namespace.clone(), name: name.clone(), field: shared(field) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}", self.name)?;
        if !self.field.is_empty() {
            write!(f, " .{}", self.field)?;
        }
        Ok(())
    }
}

/// The text is not an origin: somebody else's comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin like: Service default/web .spec.ports[0]")]
pub struct NotAnOrigin;

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.splitn(3, ' ');
        let kind = words.next().and_then(|word| word.parse().ok()).ok_or(NotAnOrigin)?;
        let object = words.next().filter(|word| !word.is_empty()).ok_or(NotAnOrigin)?;
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        let field = match words.next() {
            None => "",
            Some(field) => field.strip_prefix('.').ok_or(NotAnOrigin)?,
        };
        Ok(Origin { kind, namespace: namespace.into(), name: name.into(), field: field.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["Service default/web .spec.ports[0]", "Node node-1", "VirtualIP edge .spec"] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        for foreign in ["", "flanneld masq", "Service", "Service default/web spec", "kube  .x"] {
            assert_eq!(foreign.parse::<Origin>(), Err(NotAnOrigin), "{foreign}");
        }
    }
}
