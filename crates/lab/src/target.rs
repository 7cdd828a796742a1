//! Places in a lab that one can go to.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A network namespace of the lab, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The machine outside the cluster, on the nodes' segment.
    Client,
    /// The segment itself, where the API listens.
    Underlay,
    Node(String),
    Pod {
        namespace: String,
        name: String,
    },
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let target = match parts.as_slice() {
            ["client"] => Target::Client,
            ["underlay"] => Target::Underlay,
            ["node", name] => Target::Node((*name).to_owned()),
            ["pod", name] => Target::Pod { namespace: "default".into(), name: (*name).to_owned() },
            ["pod", namespace, name] => {
                Target::Pod { namespace: (*namespace).to_owned(), name: (*name).to_owned() }
            }
            _ => return Err(Error::Target { text: text.to_owned() }),
        };
        match parts.iter().any(|part| part.is_empty()) {
            true => Err(Error::Target { text: text.to_owned() }),
            false => Ok(target),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Client => f.write_str("client"),
            Target::Underlay => f.write_str("underlay"),
            Target::Node(name) => write!(f, "node/{name}"),
            Target::Pod { namespace, name } => write!(f, "pod/{namespace}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["client", "underlay", "node/node-1", "pod/kube-system/dns"] {
            assert_eq!(text.parse::<Target>().map(|it| it.to_string()).ok().as_deref(), Some(text));
        }
        let short = "pod/web".parse::<Target>().expect("a pod");
        assert_eq!(short.to_string(), "pod/default/web");
        for text in ["", "node", "node/", "pod//x", "pod/a/b/c", "svc/web", "client/x"] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
