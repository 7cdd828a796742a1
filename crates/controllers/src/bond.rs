//! Whose a claim of a StatefulSet's pod is: nobody's, the set's, or its pod's, and so what it goes with.

use crate::record::owner_reference;
use serde_json::{Value, json};

/// The two that a claim may belong to, and which of them it shall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bond {
    pub(crate) set: Party,
    pub(crate) pod: Party,
    pub(crate) keeper: Keeper,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) uid: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// It stays.
    Nobody,
    /// It goes with the set.
    Set,
    /// It goes with its pod, which is one too many.
    Pod,
}

impl Bond {
    /// The patch that makes the claim whose it shall be; `None`: it is, or it is none of our business.
    pub(crate) fn tie(&self, claim: &Value) -> Option<Value> {
        let listed = claim.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owners = self.owners(listed.map_or(&[], Vec::as_slice))?;
        Some(json!({"metadata": {"ownerReferences": owners}}))
    }

    /// The owners as they shall be, or `None` where nothing is to change.
    pub(crate) fn owners(&self, owners: &[Value]) -> Option<Vec<Value>> {
        let parties = [("StatefulSet", &self.set), ("Pod", &self.pod)];
        // Of an earlier set or pod of this name: it goes after that one.
        let is_stale = |owner: &Value| {
            parties.iter().any(|(kind, party)| {
                owner["kind"] == *kind && owner["name"] == party.name && owner["uid"] != party.uid
            })
        };
        if owners.iter().any(is_stale) {
            return None;
        }
        let is_ours = |owner: &&Value| parties.iter().any(|(_, party)| owner["uid"] == party.uid);
        let (ours, mut others): (Vec<_>, Vec<_>) = owners.iter().partition(is_ours);
        // What somebody else controls is his.
        let is_taken = others.iter().any(|owner| owner["controller"] == true);
        let keeper = self.keeper_reference().filter(|_| !is_taken);
        let is_said = |keeper: &Value| {
            ours.len() == 1 && ours[0]["uid"] == keeper["uid"] && ours[0]["controller"] == true
        };
        if keeper.as_ref().map_or(ours.is_empty(), is_said) {
            return None;
        }
        others.extend(&keeper);
        Some(others.into_iter().cloned().collect())
    }

    fn keeper_reference(&self) -> Option<Value> {
        let of =
            |version, kind, party: &Party| owner_reference(version, kind, &party.name, &party.uid);
        match self.keeper {
            Keeper::Nobody => None,
            Keeper::Set => Some(of("apps/v1", "StatefulSet", &self.set)),
            Keeper::Pod => Some(of("v1", "Pod", &self.pod)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_the_owner_that_its_policy_names_and_others_of_others() {
        let party = |name: &str| Party { name: name.to_owned(), uid: name.to_owned() };
        let bond = |keeper| Bond { set: party("db"), pod: party("db-1"), keeper };
        let set = || owner_reference("apps/v1", "StatefulSet", "db", "db");
        let pod = || owner_reference("v1", "Pod", "db-1", "db-1");
        let plain = || json!({"kind": "StatefulSet", "name": "db", "uid": "db"});
        let friend = || json!({"kind": "Friend", "name": "f", "uid": "f"});
        let master = || json!({"kind": "Master", "name": "m", "uid": "m", "controller": true});
        let stale = || json!({"kind": "Pod", "name": "db-1", "uid": "old"});
        use Keeper::{Nobody, Pod, Set};
        let rows = [
            ("none", vec![], Nobody, None),
            ("to the set", vec![], Set, Some(vec![set()])),
            ("to the pod", vec![], Pod, Some(vec![pod()])),
            ("from the set to the pod", vec![set()], Pod, Some(vec![pod()])),
            ("from the pod to the set", vec![pod()], Set, Some(vec![set()])),
            ("from the set to nobody", vec![set()], Nobody, Some(vec![])),
            ("from both to one", vec![set(), pod()], Set, Some(vec![set()])),
            ("the set's already", vec![set()], Set, None),
            ("not as its controller", vec![plain()], Set, Some(vec![set()])),
            ("beside another one", vec![friend(), set()], Pod, Some(vec![friend(), pod()])),
            ("another one's", vec![master()], Set, None),
            ("another one's and ours", vec![master(), set()], Set, Some(vec![master()])),
            ("an earlier pod's", vec![stale()], Set, None),
        ];
        for (case, owners, keeper, expected) in rows {
            assert_eq!(bond(keeper).owners(&owners), expected, "{case}");
        }
    }
}
