//! Defaults and validation of what comes in, and allocation of service addresses and ports. Pure.
//!
//! Wording follows `k8s.io/kubernetes/pkg/apis/*/validation`: people search for these sentences.

mod addresses;
mod causes;
pub(crate) mod certificate;
mod config;
mod definition;
mod device;
mod endpoints;
mod event;
mod interception;
mod metadata;
mod names;
mod network;
mod node;
mod pod;
mod policy;
mod pools;
mod quota;
mod ranges;
mod rights;
mod service;
mod virtual_ip;
mod workload;

pub(crate) use pools::Pools;

use crate::error::Error;
use crate::registry::Part;
use crate::resources::{Kind, Resource, autoscaler};
use crate::schema::zeros;
use causes::Causes;
use serde_json::{Map, Value, json};

/// Fills in what a missing field means. What the server decides by itself, as addresses, is no part of it: the
/// object is now as its writer meant it.
/// `old` is what the object replaces.
pub(crate) fn complete(resource: &'static Resource, object: &mut Value, old: Option<&Value>) {
    // A custom kind's null may mean something, and a definition may hold one as a default.
    match resource.kind {
        Kind::Custom(_) | Kind::CustomResourceDefinition => drop_nulls(&mut object["metadata"]),
        _ => drop_nulls(object),
    }
    let fields = object.as_object_mut().expect("the registry adopts objects only");
    match resource.kind {
        Kind::Service => service::complete(child(fields, "spec")),
        Kind::Pod => pod::complete_pod(child(fields, "spec")),
        Kind::Deployment
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::Job
        | Kind::CronJob => workload::complete(resource.kind, fields, old),
        Kind::EndpointSlice => endpoints::complete_slice(fields),
        Kind::Endpoints => endpoints::complete_endpoints(fields),
        Kind::NetworkPolicy => network::complete_policy(child(fields, "spec")),
        Kind::ValidatingAdmissionPolicy
        | Kind::ValidatingAdmissionPolicyBinding
        | Kind::MutatingAdmissionPolicy
        | Kind::MutatingAdmissionPolicyBinding
        | Kind::ValidatingWebhookConfiguration
        | Kind::MutatingWebhookConfiguration => interception::complete(resource.kind, fields),
        Kind::LimitRange => quota::complete_range(child(fields, "spec")),
        Kind::Secret => config::complete_secret(fields),
        Kind::RoleBinding | Kind::ClusterRoleBinding => rights::complete_binding(fields),
        Kind::Namespace => name_namespace(fields),
        Kind::HorizontalPodAutoscaler if !resource.is_stored() => {
            preset(child(fields, "spec"), "minReplicas", || 1.into());
            autoscaler::complete_v1(object);
            return;
        }
        Kind::HorizontalPodAutoscaler => policy::complete_autoscaler(child(fields, "spec")),
        Kind::PriorityClass => preset(fields, "preemptionPolicy", || "PreemptLowerPriority".into()),
        Kind::CustomResourceDefinition => definition::complete(fields),
        Kind::ResourceClaim => device::complete_claim(child(fields, "spec")),
        Kind::ResourceClaimTemplate => {
            device::complete_claim(child(child(fields, "spec"), "spec"));
        }
        _ => {}
    }
    if !resource.is_custom()
        && let Some(root) = resource.root()
    {
        zeros::fill(root, object);
    }
}

/// Refuses a wrong object, which is complete, and adds what the server decides; `old` is what it replaces.
pub(crate) fn admit(
    resource: &'static Resource,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Error> {
    let mut causes = Causes::default();
    if old.is_none() {
        names::check(resource, object, &mut causes);
    }
    let core = !resource.is_custom();
    metadata::check(&object["metadata"], old.map(|old| &old["metadata"]), core, &mut causes);
    let fields = object.as_object_mut().expect("the registry adopts objects only");
    match resource.kind {
        Kind::CustomResourceDefinition => definition::admit(fields, old, &mut causes),
        Kind::CertificateSigningRequest => {
            certificate::check(fields, old, Part::Main, &mut causes);
        }
        Kind::Namespace => complete_namespace(fields),
        Kind::Role | Kind::ClusterRole => {
            rights::role(fields, resource.namespaced, &mut causes);
        }
        Kind::RoleBinding | Kind::ClusterRoleBinding => {
            rights::binding(fields, resource.namespaced, old, &mut causes);
        }
        Kind::Lease => ranges::lease(fields.get("spec").unwrap_or(&Value::Null), &mut causes),
        Kind::IPAddress => ranges::address(fields.get("spec").unwrap_or(&Value::Null), &mut causes),
        Kind::ServiceCIDR => {
            ranges::range(fields.get("spec").unwrap_or(&Value::Null), old, &mut causes);
        }
        Kind::Service => service::admit(fields, old, &mut causes),
        Kind::Pod => pod::admit(fields, old, &mut causes),
        Kind::Deployment
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::Job
        | Kind::CronJob => workload::admit(resource.kind, fields, old, &mut causes),
        Kind::EndpointSlice => endpoints::slice(fields, old, &mut causes),
        Kind::Endpoints => endpoints::endpoints(fields, &mut causes),
        Kind::NetworkPolicy => network::policy(fields, &mut causes),
        Kind::Ingress => network::ingress(fields, &mut causes),
        Kind::ResourceQuota => quota::quota(fields, old, &mut causes),
        Kind::LimitRange => quota::range(fields.get("spec").unwrap_or(&Value::Null), &mut causes),
        Kind::ConfigMap => config::config_map(fields, old, &mut causes),
        Kind::Secret => config::secret(fields, old, &mut causes),
        Kind::Node => node::admit(fields, old, &mut causes),
        Kind::VirtualIP => virtual_ip::admit(fields, &mut causes),
        Kind::HorizontalPodAutoscaler => {
            policy::check_autoscaler(child(fields, "spec"), &mut causes)
        }
        Kind::PodDisruptionBudget => policy::check_budget(child(fields, "spec"), &mut causes),
        Kind::Event => event::admit(resource, fields, old, &mut causes),
        Kind::ResourceClaim | Kind::ResourceClaimTemplate | Kind::ResourceSlice => {
            let spec = fields.get("spec").unwrap_or(&Value::Null);
            device::admit(resource.kind, spec, old, &mut causes);
        }
        Kind::ValidatingAdmissionPolicy
        | Kind::ValidatingAdmissionPolicyBinding
        | Kind::MutatingAdmissionPolicy
        | Kind::MutatingAdmissionPolicyBinding
        | Kind::ValidatingWebhookConfiguration
        | Kind::MutatingWebhookConfiguration => {
            interception::check(resource.kind, fields, old, &mut causes);
        }
        Kind::VolumeAttributesClass => device::admit_attributes(fields, old, &mut causes),
        _ => {}
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    causes.into_result(resource, name)
}

/// A pod whose ephemeral containers change.
pub(crate) fn admit_guests(
    resource: &'static Resource,
    object: &Value,
    old: &Value,
) -> Result<(), Error> {
    let mut causes = Causes::default();
    pod::check_guests(object, old, &mut causes);
    causes.into_result(resource, object["metadata"]["name"].as_str().unwrap_or_default())
}

/// A pod whose containers are to need something else.
pub(crate) fn admit_resize(
    resource: &'static Resource,
    object: &Value,
    old: &Value,
) -> Result<(), Error> {
    let mut causes = Causes::default();
    pod::check_resize(object, old, &mut causes);
    causes.into_result(resource, object["metadata"]["name"].as_str().unwrap_or_default())
}

/// Completes what a write of a status, or of a part of it, says and refuses what is wrong with it.
pub(crate) fn admit_status(
    resource: &'static Resource,
    object: &mut Value,
    old: &Value,
    part: Part,
) -> Result<(), Error> {
    let mut causes = Causes::default();
    let fields = object.as_object_mut().expect("the registry adopts objects only");
    match resource.kind {
        Kind::CertificateSigningRequest => {
            certificate::check(fields, Some(old), part, &mut causes);
        }
        Kind::Service => service::admit_status(fields, &mut causes),
        Kind::Pod => pod::admit_status(fields, &mut causes),
        Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController => {
            workload::check_status(resource.kind, fields, &mut causes);
        }
        _ => {}
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    causes.into_result(resource, name)
}

/// A null means what a missing field means.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Selectors of namespaces may name them.
fn name_namespace(namespace: &mut Map<String, Value>) {
    let name = namespace["metadata"]["name"].clone();
    let metadata = child(namespace, "metadata");
    child(metadata, "labels").insert("kubernetes.io/metadata.name".into(), name);
}

fn complete_namespace(namespace: &mut Map<String, Value>) {
    let spec = child(namespace, "spec");
    preset(spec, "finalizers", || json!(["kubernetes"]));
    preset(child(namespace, "status"), "phase", || "Active".into());
}

/// The map under a key, made if missing. What is there is a map: types are checked first.
fn child<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| json!({}));
    value.as_object_mut().expect("types are checked first")
}

/// The maps in the list under a key.
fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = map.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Fills in what is missing.
fn preset(map: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> Value) {
    map.entry(key).or_insert_with(value);
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
