//! Priorities of pods: the classes that every cluster has, and what a pod gets of its class.

use super::Registry;
use crate::error::{Error, Prohibition};
use crate::resources::{Kind, Resource};
use crate::store::{Key, Object};
use serde_json::{Value, json};
use std::sync::Arc;

/// The classes of the real server's first start.
pub(super) fn classes() -> [Value; 2] {
    let class = |name: &str, value: u32, description: &str| {
        json!({"metadata": {"name": name}, "value": value, "description": description,
        "preemptionPolicy": "PreemptLowerPriority"})
    };
    [
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

impl Registry {
    /// Gives a new pod the priority of its class, or of the class for pods that name none.
    pub(super) fn assign_priority(
        &self,
        resource: &'static Resource,
        key: &Key,
        pod: &mut Value,
    ) -> Result<(), Error> {
        let spec = &mut pod["spec"];
        let wanted = spec["priorityClassName"].as_str().filter(|name| !name.is_empty());
        let found = match wanted {
            Some(class) => Some(self.class(class).ok_or_else(|| Error::Forbidden {
                resource,
                name: key.name.clone(),
                why: Prohibition::NoPriorityClass { class: class.to_owned() },
            })?),
            None => self.default_class(),
        };
        let Some(class) = found else { return Ok(()) };
        spec["priorityClassName"] = class.value["metadata"]["name"].clone();
        spec["priority"] = class.value["value"].clone();
        if let Some(policy) = class.value.get("preemptionPolicy") {
            spec["preemptionPolicy"] = policy.clone();
        }
        Ok(())
    }

    fn class(&self, name: &str) -> Option<Arc<Object>> {
        self.store.get(Kind::PriorityClass, &Key::new("", name))
    }

    /// The least of those that say that they are the default.
    fn default_class(&self) -> Option<Arc<Object>> {
        let all = self.store.list(Kind::PriorityClass, None, None).map(|(_, class)| class);
        let defaults = all.filter(|class| class.value["globalDefault"] == true);
        defaults.min_by_key(|class| class.value["value"].as_i64())
    }
}
