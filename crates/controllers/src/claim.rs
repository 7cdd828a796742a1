//! Owners come and go: the patches that make an object somebody's, or let it go.

use crate::record::{COUNTED, owner_reference};
use client::Kind;
use model::ObjectKey;
use serde_json::{Value, json};

/// A workload that takes an object or lets it go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimant {
    pub(crate) kind: Kind,
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
}

impl Claimant {
    /// What is read of it says that it is still there, and is to stay.
    pub(crate) fn is_alive(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        metadata["uid"] == *self.uid && metadata["deletionTimestamp"].is_null()
    }

    /// The patch that gives it the object; `None`: somebody has it, or it is on its way out.
    pub(crate) fn adopt(&self, object: &Value) -> Option<Value> {
        let metadata = &object["metadata"];
        let mut owners = items(&metadata["ownerReferences"]);
        let is_free = metadata["deletionTimestamp"].is_null()
            && !owners.iter().any(|owner| owner["controller"] == true);
        if !is_free {
            return None;
        }
        // It may be owned by the same one already, in the way that only binds their ends.
        owners.retain(|owner| owner["uid"] != *self.uid);
        let api_version = self.kind.api_version();
        owners.push(owner_reference(&api_version, self.kind.kind, &self.key.name, &self.uid));
        let mut patch = json!({"metadata": {"uid": metadata["uid"], "ownerReferences": owners}});
        if self.kind == Kind::JOB {
            let mut finalizers = items(&metadata["finalizers"]);
            if !finalizers.iter().any(|it| it == COUNTED) {
                finalizers.push(COUNTED.into());
                patch["metadata"]["finalizers"] = finalizers.into();
            }
        }
        Some(patch)
    }

    /// The patch that lets the object go; `None`: it does not have it.
    pub(crate) fn release(&self, object: &Value) -> Option<Value> {
        let metadata = &object["metadata"];
        let mut owners = items(&metadata["ownerReferences"]);
        let before = owners.len();
        owners.retain(|owner| owner["uid"] != *self.uid);
        if owners.len() == before {
            return None;
        }
        let mut patch = json!({"metadata": {"uid": metadata["uid"], "ownerReferences": owners}});
        if self.kind == Kind::JOB {
            let mut finalizers = items(&metadata["finalizers"]);
            finalizers.retain(|it| it != COUNTED);
            patch["metadata"]["finalizers"] = finalizers.into();
        }
        Some(patch)
    }
}

fn items(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(kind: Kind) -> Claimant {
        Claimant { kind, key: ObjectKey::new("default", "web"), uid: "u1".to_owned() }
    }

    fn object(metadata: &Value) -> Value {
        let mut object = json!({"metadata": metadata});
        object["metadata"]["uid"] = "p1".into();
        object
    }

    #[test]
    fn only_what_nobody_controls_is_adopted() {
        let ours = owner_reference("apps/v1", "ReplicaSet", "web", "u1");
        let loose = json!({"kind": "ReplicaSet", "name": "web", "uid": "u1"});
        let other = json!({"kind": "Node", "name": "a", "uid": "u2"});
        let foreign = owner_reference("apps/v1", "ReplicaSet", "other", "u3");
        let rows = [
            (json!({}), Some(json!([ours]))),
            (json!({"ownerReferences": [other]}), Some(json!([other, ours]))),
            (json!({"ownerReferences": [loose, other]}), Some(json!([other, ours]))),
            (json!({"ownerReferences": [foreign]}), None),
            (json!({"ownerReferences": [ours]}), None),
            (json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), None),
        ];
        for (metadata, owners) in rows {
            let found = claimant(Kind::REPLICA_SET).adopt(&object(&metadata));
            let patch = |owners| json!({"metadata": {"uid": "p1", "ownerReferences": owners}});
            assert_eq!(found, owners.map(patch), "{metadata}");
        }
    }

    #[test]
    fn only_what_is_ours_is_let_go() {
        let ours = owner_reference("apps/v1", "ReplicaSet", "web", "u1");
        let other = json!({"kind": "Node", "name": "a", "uid": "u2"});
        let rows = [
            (json!({"ownerReferences": [other, ours]}), Some(json!([other]))),
            (json!({"ownerReferences": [other]}), None),
            (json!({}), None),
        ];
        for (metadata, owners) in rows {
            let found = claimant(Kind::REPLICA_SET).release(&object(&metadata));
            let patch = |owners| json!({"metadata": {"uid": "p1", "ownerReferences": owners}});
            assert_eq!(found, owners.map(patch), "{metadata}");
        }
    }

    #[test]
    fn a_job_holds_its_pods_until_it_has_counted_them() {
        let (job, pod) = (claimant(Kind::JOB), object(&json!({"finalizers": ["mine"]})));
        let adopted = job.adopt(&pod).unwrap();
        assert_eq!(adopted["metadata"]["finalizers"], json!(["mine", COUNTED]));
        assert_eq!(
            job.adopt(&object(&json!({"finalizers": [COUNTED]}))).unwrap()["metadata"]
                .get("finalizers"),
            None
        );
        let released = job.release(&adopted).unwrap();
        assert_eq!(released["metadata"]["finalizers"], json!(["mine"]));
    }

    #[test]
    fn one_that_is_gone_or_going_takes_nothing() {
        let rows = [
            (json!({"uid": "u1"}), true),
            (json!({"uid": "u2"}), false),
            (json!({"uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z"}), false),
        ];
        for (metadata, expected) in rows {
            let object = json!({"metadata": metadata});
            assert_eq!(claimant(Kind::JOB).is_alive(&object), expected, "{metadata}");
        }
    }
}
