//! PodDisruptionBudgets: how many pods may be evicted, and evictions that keep to that.
//!
//! <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>

use super::{Deleted, Deletion, Registry, Write};
use crate::error::Error;
use crate::resources::Kind;
use crate::selector::Selector;
use crate::store::{Change, Key, Object};
use crate::time;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Registry {
    /// Counts anew for the budgets that a change is about.
    pub(super) fn settle_budgets(&mut self, change: &Change, now: i64) {
        if !matches!(change.kind, Kind::Pod | Kind::PodDisruptionBudget) {
            return;
        }
        for (key, budget) in self.budgets(&change.key.namespace) {
            let mut changed = budget.value.clone();
            changed["status"] = self.count(&key.namespace, &budget.value, now);
            if changed != budget.value {
                self.store.put(Kind::PodDisruptionBudget, key, changed);
            }
        }
    }

    /// Deletes a pod, unless a budget objects.
    pub(crate) fn evict(
        &mut self,
        key: &Key,
        deletion: &Deletion,
        write: Write<'_>,
    ) -> Result<Deleted, Error> {
        let pod = self.get(Kind::Pod, key)?;
        let of_pod = |(_, budget): &(Key, Arc<Object>)| {
            let selector = Selector::of_object(&budget.value["spec"]["selector"]);
            selector.is_some_and(|selector| selector.matches(&pod))
        };
        let budgets: Vec<_> = self.budgets(&key.namespace).into_iter().filter(of_pod).collect();
        match budgets.as_slice() {
            _ if is_going(&pod.value) => {}
            [] => {}
            [(name, budget)] => check(&budget.value, &name.name, is_healthy(&pod.value))?,
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Error::Internal { message: message.into() });
            }
        }
        self.delete(Kind::Pod, key, deletion, write)
    }

    fn budgets(&self, namespace: &str) -> Vec<(Key, Arc<Object>)> {
        let listed = self.store.list(Kind::PodDisruptionBudget, Some(namespace), None);
        listed.map(|(key, budget)| (key.clone(), budget)).collect()
    }

    /// `status` of a budget.
    fn count(&self, namespace: &str, budget: &Value, now: i64) -> Value {
        let (spec, selector) = (&budget["spec"], Selector::of_object(&budget["spec"]["selector"]));
        // One that selects nothing in particular selects all: policy/v1.
        let listed = self.store.list(Kind::Pod, Some(namespace), None);
        let selects = |pod: &Object| selector.as_ref().is_some_and(|it| it.matches(pod));
        let selected: Vec<_> = listed.map(|(_, pod)| pod).filter(|pod| selects(pod)).collect();
        let pods = selected.iter().map(|pod| &*pod.value).filter(|pod| !is_over(pod));
        let pods: Vec<&Value> = pods.collect();
        let healthy = pods.iter().filter(|pod| is_healthy(pod) && !is_deleted(pod)).count() as u64;
        let counted = self.expected(&pods, namespace, spec);
        let (expected, desired) = counted.unwrap_or((pods.len() as u64, u64::MAX));
        let allowed = if expected == 0 { 0 } else { healthy.saturating_sub(desired) };
        let desired = if counted.is_some() { desired } else { 0 };
        let (status, reason) = match (counted, allowed) {
            (None, _) => ("False", "SyncFailed"),
            (_, 0) => ("False", "InsufficientPods"),
            _ => ("True", "SufficientPods"),
        };
        let old = &budget["status"]["conditions"][0];
        let since = old["lastTransitionTime"].as_str().filter(|_| old["status"] == status);
        let since = since.map_or_else(|| time::rfc3339(now), str::to_owned);
        let generation = &budget["metadata"]["generation"];
        json!({
            "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
            "disruptionsAllowed": allowed, "observedGeneration": generation,
            "conditions": [{"type": "DisruptionAllowed", "status": status, "reason": reason,
                "message": "", "lastTransitionTime": since, "observedGeneration": generation}],
        })
    }

    /// How many pods there should be, and how many of them healthy; none where nobody says how many there should be.
    fn expected(&self, pods: &[&Value], namespace: &str, spec: &Value) -> Option<(u64, u64)> {
        let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
        if let Some(least) = least.as_u64() {
            return Some((pods.len() as u64, least));
        }
        let expected = self.wanted(pods, namespace)?;
        match share(most, expected) {
            Some(most) => Some((expected, expected.saturating_sub(most))),
            None => Some((expected, share(least, expected).unwrap_or(0))),
        }
    }

    /// The replicas of all that own these pods.
    fn wanted(&self, pods: &[&Value], namespace: &str) -> Option<u64> {
        let mut owners = BTreeSet::new();
        let mut sum = 0;
        for pod in pods {
            let (kind, owner) = self.owner(pod, namespace)?;
            let above = (kind == Kind::ReplicaSet).then(|| self.owner(&owner.value, namespace));
            let owner = above.flatten().map_or(owner, |(_, above)| above);
            if owners.insert(owner.uid().to_owned()) {
                sum += owner.value["spec"]["replicas"].as_u64()?;
            }
        }
        Some(sum)
    }

    fn owner(&self, object: &Value, namespace: &str) -> Option<(Kind, Arc<Object>)> {
        let mut owners = object["metadata"]["ownerReferences"].as_array()?.iter();
        let uid = owners.find(|owner| owner["controller"] == true)?["uid"].as_str()?;
        let (kind, key) = self.store.find(uid)?;
        let object = self.store.get(*kind, &Key::new(namespace, &key.name))?;
        Some((*kind, object))
    }
}

/// A number, or a share of it, rounded up.
fn share(value: &Value, whole: u64) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let percent: u64 = value.as_str()?.strip_suffix('%')?.parse().ok()?;
    Some((whole * percent).div_ceil(100))
}

fn is_healthy(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
}

fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_deleted(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Its eviction disturbs nobody.
fn is_going(pod: &Value) -> bool {
    is_over(pod) || is_deleted(pod) || pod["status"]["phase"] == "Pending"
}

/// Wording: `k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go`.
fn check(budget: &Value, name: &str, healthy: bool) -> Result<(), Error> {
    let (status, spec) = (&budget["status"], &budget["spec"]);
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let enough = desired > 0 && current >= desired;
    if !healthy && (spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || enough) {
        return Ok(());
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let why = format!(
        "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    );
    Err(Error::Disrupting { why })
}
