//! PodDisruptionBudgets: how many pods may be evicted, and evictions that keep to that.
//!
//! <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>

use super::delete::check_preconditions;
use super::{Deleted, Deletion, Registry, Write};
use crate::error::{Error, Prohibition};
use crate::resources::Kind;
use crate::selector::Selector;
use crate::store::{Change, Key, Object};
use crate::time;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A pod that was to be evicted and is still there after so many seconds stays.
const DELETION_TIMEOUT: i64 = 120;
/// More evictions of one budget than this are not under way at a time.
const MAX_DISRUPTED: usize = 2000;

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
            [(name, budget)] => {
                if check(&budget.value, &name.name, is_healthy(&pod.value))? {
                    self.note_disruption(name, budget, key, write);
                }
            }
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Error::Unexplained { message: message.into() });
            }
        }
        check_preconditions(Kind::Pod, key, deletion, &pod)?;
        let deletion = Deletion { resource_version: None, ..deletion.clone() };
        if !write.dry_run {
            self.store.put(Kind::Pod, key.clone(), targeted(&pod.value, write.now));
        }
        // Policies were asked about the eviction; the deletion is the server's own.
        self.delete(Kind::Pod, key, &deletion, Write { caller: None, ..write })
    }

    /// Until the pod is seen to go, its budget knows by its name that it will.
    fn note_disruption(&mut self, name: &Key, budget: &Object, pod: &Key, write: Write<'_>) {
        if write.dry_run {
            return;
        }
        let mut budget = budget.value.clone();
        let status = &mut budget["status"];
        status["disruptedPods"][&*pod.name] = time::rfc3339(write.now).into();
        let left = status["disruptionsAllowed"].as_u64().unwrap_or(0).saturating_sub(1);
        status["disruptionsAllowed"] = left.into();
        self.store.put(Kind::PodDisruptionBudget, name.clone(), budget);
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
        let (expected, desired) = match self.expected(&pods, namespace, spec) {
            Ok(counted) => counted,
            Err(why) => return failed(budget, &why, now),
        };
        let disrupted = disrupted(&pods, &budget["status"]["disruptedPods"], now);
        let stays = |pod: &&&Value| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            is_healthy(pod) && !is_deleted(pod) && !disrupted.contains_key(name)
        };
        let healthy = pods.iter().filter(stays).count() as u64;
        let allowed = if expected == 0 { 0 } else { healthy.saturating_sub(desired) };
        let generation = &budget["metadata"]["generation"];
        let (status, reason) = match allowed {
            0 => ("False", "InsufficientPods"),
            _ => ("True", "SufficientPods"),
        };
        let mut counted = json!({
            "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
            "disruptionsAllowed": allowed, "observedGeneration": generation,
            "conditions": [condition(budget, status, reason, "", generation, now)],
        });
        if !disrupted.is_empty() {
            counted["disruptedPods"] = disrupted.into();
        }
        counted
    }

    /// How many pods there should be, and how many of them healthy, or why nobody knows.
    fn expected(
        &self,
        pods: &[&Value],
        namespace: &str,
        spec: &Value,
    ) -> Result<(u64, u64), String> {
        let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
        if let Some(least) = least.as_u64() {
            return Ok((pods.len() as u64, least));
        }
        if least.is_null() && most.is_null() {
            return Ok((0, 0));
        }
        let expected = self.wanted(pods, namespace)?;
        Ok(match share(most, expected) {
            Some(most) => (expected, expected.saturating_sub(most)),
            None => (expected, share(least, expected).unwrap_or(0)),
        })
    }

    /// The replicas of all that control these pods. One that nobody controls does not count.
    fn wanted(&self, pods: &[&Value], namespace: &str) -> Result<u64, String> {
        let mut owners = BTreeSet::new();
        let mut sum = 0;
        for pod in pods.iter().filter(|pod| controller(pod).is_some()) {
            let nobody = || format!("found no controllers for pod {}", pod["metadata"]["name"]);
            let (kind, owner) = self.owner(pod, namespace).ok_or_else(nobody)?;
            let above = (kind == Kind::ReplicaSet).then(|| self.owner(&owner.value, namespace));
            let (kind, owner) = match above.flatten() {
                Some((Kind::Deployment, above)) => (Kind::Deployment, above),
                _ => (kind, owner),
            };
            let resource = kind.resource();
            let Some(scale) = resource.scale else {
                let resource = resource.qualified();
                return Err(format!("{resource} does not implement the scale subresource"));
            };
            if owners.insert(owner.uid().to_owned()) {
                sum += owner.value.pointer(scale.wanted).and_then(Value::as_u64).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    fn owner(&self, object: &Value, namespace: &str) -> Option<(Kind, Arc<Object>)> {
        let uid = controller(object)?["uid"].as_str()?;
        let (kind, key) = self.store.find(uid)?;
        let object = self.store.get(*kind, &Key::new(namespace, &key.name))?;
        Some((*kind, object))
    }
}

fn controller(object: &Value) -> Option<&Value> {
    let mut owners = object["metadata"]["ownerReferences"].as_array()?.iter();
    owners.find(|owner| owner["controller"] == true)
}

/// The pods that were to be evicted and do not go yet, with when they were.
fn disrupted(pods: &[&Value], known: &Value, now: i64) -> Map<String, Value> {
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let still = |since: &Value| {
        let since = since.as_str().and_then(time::seconds);
        since.is_some_and(|since| since.saturating_add(DELETION_TIMEOUT) >= now)
    };
    let staying = pods.iter().filter(|pod| !is_deleted(pod)).map(|pod| name(pod));
    let found = staying.filter_map(|pod| Some((pod.clone(), known.get(&pod)?.clone())));
    found.filter(|(_, since)| still(since)).collect()
}

/// The status where nobody knows how many pods there should be: none may go, and all else is as it was.
fn failed(budget: &Value, why: &str, now: i64) -> Value {
    let mut status = budget["status"].clone();
    let generation = &status["observedGeneration"];
    let condition = condition(budget, "False", "SyncFailed", why, generation, now);
    status["disruptionsAllowed"] = 0.into();
    status["conditions"] = json!([condition]);
    status
}

fn condition(
    budget: &Value,
    status: &str,
    reason: &str,
    message: &str,
    generation: &Value,
    now: i64,
) -> Value {
    let old = &budget["status"]["conditions"][0];
    let since = old["lastTransitionTime"].as_str().filter(|_| old["status"] == status);
    let since = since.map_or_else(|| time::rfc3339(now), str::to_owned);
    let mut condition = json!({"type": "DisruptionAllowed", "status": status, "reason": reason,
        "message": message, "lastTransitionTime": since});
    if !generation.is_null() {
        condition["observedGeneration"] = generation.clone();
    }
    condition
}

/// The pod with the condition that says why it goes.
fn targeted(pod: &Value, now: i64) -> Value {
    let mut pod = pod.clone();
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let target = json!({"type": "DisruptionTarget", "status": "True",
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        "lastProbeTime": null, "lastTransitionTime": time::rfc3339(now)});
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|it| it["type"] == target["type"]) {
            Some(old) if old["status"] == "True" && old["reason"] == target["reason"] => {}
            Some(old) => *old = target.clone(),
            None => list.push(target.clone()),
        }
    }
    pod
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

/// Whether the eviction takes one of the disruptions that the budget allows.
/// Wording: `k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go`.
fn check(budget: &Value, name: &str, healthy: bool) -> Result<bool, Error> {
    let (status, spec) = (&budget["status"], &budget["spec"]);
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let enough = desired > 0 && current >= desired;
    if !healthy && (spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || enough) {
        return Ok(false);
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        let (resource, why) = (Kind::PodDisruptionBudget.resource(), why.to_owned());
        return Err(Error::Forbidden {
            resource,
            name: name.into(),
            why: Prohibition::NoRoom { why },
        });
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(true);
    }
    let condition = &status["conditions"][0];
    let message = condition["message"].as_str().filter(|it| !it.is_empty());
    let says = format!("The disruption budget {name}");
    let why = match message {
        Some(message) if condition["reason"] == "SyncFailed" => {
            let why = "does not allow evicting pods currently because it failed sync";
            format!("{says} {why}: {message}")
        }
        _ if current <= desired => {
            format!("{says} needs {desired} healthy pods and has {current} currently")
        }
        _ => format!("{says} does not allow evicting pods currently"),
    };
    Err(Error::Disrupting { why })
}
