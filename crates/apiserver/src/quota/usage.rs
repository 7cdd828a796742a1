//! How much of what an object uses (`k8s.io/kubernetes/pkg/quota/v1/evaluator/core`).

use super::{Amounts, Item, add, amounts};
use crate::quantity::Quantity;
use crate::resources::{Kind, Resource};
use serde_json::Value;

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const HUGE_PAGES: &str = "hugepages-";
/// Of both a pod's requests and its limits there are quotas.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Whether a kind's objects may use what has this name.
pub(crate) fn is_of(resource: &Resource, name: &str) -> bool {
    if name == counted(resource) || alias(resource.kind) == Some(name) {
        return true;
    }
    match resource.kind {
        Kind::Pod => {
            let bare = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits."));
            let is_extended = name.starts_with("requests.")
                && name.contains('/')
                && !name.contains(STORAGE_CLASS);
            let bare = bare.unwrap_or(name);
            COMPUTE.contains(&bare) || bare.starts_with(HUGE_PAGES) || is_extended
        }
        Kind::Service => ["services.nodeports", "services.loadbalancers"].contains(&name),
        Kind::PersistentVolumeClaim => {
            let of_class = name.split_once(STORAGE_CLASS).map(|(_, part)| part);
            name == "requests.storage"
                || matches!(of_class, Some("requests.storage" | "persistentvolumeclaims"))
        }
        _ => false,
    }
}

/// `count/deployments.apps`
fn counted(resource: &Resource) -> String {
    format!("count/{}", resource.qualified())
}

/// What the number of a kind's objects is called besides.
fn alias(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::ConfigMap
        | Kind::ResourceQuota
        | Kind::ReplicationController
        | Kind::Secret
        | Kind::Service
        | Kind::Pod
        | Kind::PersistentVolumeClaim => Some(kind.resource().plural),
        _ => None,
    }
}

pub(super) fn of(item: Item<'_>) -> Amounts {
    let one = Quantity::count(1);
    let mut used = Amounts::from([(counted(item.resource), one)]);
    let is_over = matches!(item.object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if item.resource.kind == Kind::Pod && is_over {
        return used;
    }
    used.extend(alias(item.resource.kind).map(|name| (name.to_owned(), one)));
    let spec = &item.object["spec"];
    match item.resource.kind {
        Kind::Pod => used.extend(of_requirements(&whole(spec, "requests"), &whole(spec, "limits"))),
        Kind::Service => of_service(spec, &mut used),
        Kind::PersistentVolumeClaim => of_claim(item.object, &mut used),
        _ => {}
    }
    used
}

/// What one container uses of what quotas may be about.
pub(super) fn of_container(container: &Value) -> Amounts {
    let resources = &container["resources"];
    of_requirements(&amounts(&resources["requests"]), &amounts(&resources["limits"]))
}

fn of_requirements(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let is_huge = name.starts_with(HUGE_PAGES);
        if COMPUTE.contains(&&**name) || is_huge {
            used.insert(name.clone(), *amount);
        }
        if COMPUTE.contains(&&**name) || is_huge || name.contains('/') {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&&***name)) {
        used.insert(format!("limits.{name}"), *amount);
    }
    used
}

/// Whether a pod says as a whole what it needs.
pub(super) fn is_said_for_pod(spec: &Value) -> bool {
    !is_modest(&spec["resources"])
}

/// Neither needs nor is limited in processors and memory.
pub(super) fn is_modest(resources: &Value) -> bool {
    let some = |list: &str| {
        amounts(&resources[list])
            .iter()
            .any(|(name, amount)| ["cpu", "memory"].contains(&&**name) && !amount.is_zero())
    };
    !some("requests") && !some("limits")
}

/// What a pod needs, or may use at most (`list`): all its containers at once, or one that runs before them.
pub(super) fn whole(spec: &Value, list: &str) -> Amounts {
    let of = |container: &Value| amounts(&container["resources"][list]);
    let containers = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
    let (mut sum, mut beside, mut before) = (Amounts::new(), Amounts::new(), Amounts::new());
    containers("containers").iter().for_each(|it| add(&mut sum, &of(it)));
    for container in containers("initContainers") {
        let mut at_once = of(&container);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &at_once);
            add(&mut beside, &at_once);
            at_once.clone_from(&beside);
        } else {
            add(&mut at_once, &beside);
        }
        raise(&mut before, at_once);
    }
    raise(&mut sum, before);
    sum.extend(amounts(&spec["resources"][list]));
    let mut overhead = amounts(&spec["overhead"]);
    if list == "limits" {
        overhead.retain(|name, _| sum.get(name).is_some_and(|limit| !limit.is_zero()));
    }
    add(&mut sum, &overhead);
    sum
}

fn raise(most: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let place = most.entry(name).or_insert(amount);
        if amount > *place {
            *place = amount;
        }
    }
}

fn of_service(spec: &Value, used: &mut Amounts) {
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let is_balanced = spec["type"] == "LoadBalancer";
    let chosen = ports.iter().filter(|it| it["nodePort"].as_u64().is_some_and(|it| it != 0));
    let node_ports = match spec["type"].as_str() {
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => chosen.count(),
        Some("LoadBalancer" | "NodePort") => ports.len(),
        _ => 0,
    };
    used.insert("services.nodeports".into(), Quantity::count(node_ports));
    used.insert("services.loadbalancers".into(), Quantity::count(usize::from(is_balanced)));
}

fn of_claim(claim: &Value, used: &mut Amounts) {
    const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let given = Quantity::of(&claim["status"]["allocatedResources"]["storage"]);
    let wanted = Quantity::of(&claim["spec"]["resources"]["requests"]["storage"]);
    let wanted =
        wanted.map(|wanted| given.filter(|it| *it > wanted).unwrap_or(wanted).rounded_up());
    let old = &claim["metadata"]["annotations"][OLD_CLASS];
    let class = old.as_str().or_else(|| claim["spec"]["storageClassName"].as_str());
    let class = class.filter(|class| !class.is_empty());
    let all = [("persistentvolumeclaims", Some(Quantity::count(1))), ("requests.storage", wanted)];
    for (name, amount) in all.into_iter().filter_map(|(name, amount)| Some((name, amount?))) {
        used.insert(name.into(), amount);
        used.extend(class.map(|class| (format!("{class}{STORAGE_CLASS}{name}"), amount)));
    }
}
