//! The schemas of the built-in kinds, as the k8s-openapi crate publishes them.

use super::compile::{Compiler, compile};
use super::{Id, Root, Types};
use crate::resources::{FORMS, Kind, RESOURCES, Resource};
use k8s_openapi::api;
use k8s_openapi::api::admissionregistration as admission;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Rules of lists and maps: `cargo xtask list-rules`.
const RULES: &str = include_str!("lists.txt");

/// Types that are replaced as a whole (`x-kubernetes-map-type: atomic` of the API reference).
pub(crate) const ATOMIC: [&str; 25] = [
    "io.k8s.api.admissionregistration.v1.MatchResources",
    "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations",
    "io.k8s.api.admissionregistration.v1.ParamKind",
    "io.k8s.api.admissionregistration.v1.ParamRef",
    "io.k8s.api.admissionregistration.v1.Variable",
    "io.k8s.api.autoscaling.v1.CrossVersionObjectReference",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.networking.v1.ServiceBackendPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Where definitions of other schemas are referred to.
pub(crate) const PATH: &str = "#/components/schemas/";

struct Compiled {
    types: Types,
    root: Id,
}

/// The types of a built-in kind's objects, compiled when the first of them comes: most clusters use few kinds, and all
/// of them would double the time and the memory that a server needs to start.
pub(crate) fn root(resource: &Resource) -> Option<Root<'static>> {
    const COUNT: usize = RESOURCES.len() + FORMS.len();
    static COMPILED: [OnceLock<Compiled>; COUNT] = [const { OnceLock::new() }; COUNT];
    let index = match resource.is_stored() {
        true => resource.kind.index()?,
        false => RESOURCES.len() + FORMS.iter().position(|it| it.group == resource.group)?,
    };
    let Compiled { types, root } = COMPILED[index].get_or_init(|| compiled(resource));
    Some(Root { types, id: *root })
}

fn compiled(resource: &Resource) -> Compiled {
    let definitions = definitions(&mut std::iter::once(resource));
    let (mut types, mut known) = (Types::default(), BTreeMap::new());
    let rules = rules();
    let compiler = Compiler { definitions: &definitions, rules: &rules, atomic: &ATOMIC };
    let schema = json!({"$ref": format!("{PATH}{}", name(resource))});
    let root = compile(&mut types, &mut known, &compiler, &schema);
    Compiled { types, root }
}

pub(crate) fn rules() -> BTreeMap<(&'static str, &'static str), &'static str> {
    let words = RULES.lines().map(|line| line.split(' '));
    words.filter_map(|mut w| Some(((w.next()?, w.next()?), w.next()?))).collect()
}

/// The schemas of these kinds and of all that they refer to, by name.
pub(crate) fn definitions(kinds: &mut dyn Iterator<Item = &Resource>) -> Map<String, Value> {
    let mut settings = SchemaSettings::openapi3();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    generator.subschema_for::<meta::ObjectMeta>();
    generator.subschema_for::<meta::ListMeta>();
    let mut own = None;
    for resource in kinds {
        match schema(resource) {
            Some(add) => add(&mut generator),
            None if resource.kind == Kind::VirtualIP => own = Some(name(resource)),
            None => {}
        }
    }
    let mut definitions = generator.take_definitions(false);
    if let Some(name) = own {
        definitions.insert(name, super::virtual_ip::schema());
    }
    definitions
}

/// The name of a kind's schema.
pub(crate) fn name(resource: &Resource) -> String {
    let (group, version, kind) = (resource.group, resource.version, resource.name);
    match group {
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        "podway.io" => format!("io.podway.{version}.{kind}"),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        "apiregistration.k8s.io" => {
            format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{kind}")
        }
        _ if matches!(resource.kind, Kind::Custom(_)) => {
            let parts: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", parts.join("."))
        }
        _ => {
            let short = group.split('.').next().unwrap_or(group);
            format!("io.k8s.api.{short}.{version}.{kind}")
        }
    }
}

type Add = fn(&mut SchemaGenerator);

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// None: the schema is ours.
fn schema(resource: &Resource) -> Option<Add> {
    Some(match resource.kind {
        Kind::Event if !resource.is_stored() => of::<api::events::v1::Event>,
        Kind::HorizontalPodAutoscaler if !resource.is_stored() => {
            of::<api::autoscaling::v1::HorizontalPodAutoscaler>
        }
        Kind::Namespace => of::<api::core::v1::Namespace>,
        Kind::Node => of::<api::core::v1::Node>,
        Kind::Pod => of::<api::core::v1::Pod>,
        Kind::Service => of::<api::core::v1::Service>,
        Kind::Endpoints => of::<api::core::v1::Endpoints>,
        Kind::ConfigMap => of::<api::core::v1::ConfigMap>,
        Kind::Secret => of::<api::core::v1::Secret>,
        Kind::ServiceAccount => of::<api::core::v1::ServiceAccount>,
        Kind::Event => of::<api::core::v1::Event>,
        Kind::ReplicationController => of::<api::core::v1::ReplicationController>,
        Kind::PersistentVolume => of::<api::core::v1::PersistentVolume>,
        Kind::PersistentVolumeClaim => of::<api::core::v1::PersistentVolumeClaim>,
        Kind::ResourceQuota => of::<api::core::v1::ResourceQuota>,
        Kind::LimitRange => of::<api::core::v1::LimitRange>,
        Kind::PodTemplate => of::<api::core::v1::PodTemplate>,
        Kind::Deployment => of::<api::apps::v1::Deployment>,
        Kind::ReplicaSet => of::<api::apps::v1::ReplicaSet>,
        Kind::StatefulSet => of::<api::apps::v1::StatefulSet>,
        Kind::DaemonSet => of::<api::apps::v1::DaemonSet>,
        Kind::ControllerRevision => of::<api::apps::v1::ControllerRevision>,
        Kind::Job => of::<api::batch::v1::Job>,
        Kind::CronJob => of::<api::batch::v1::CronJob>,
        Kind::HorizontalPodAutoscaler => of::<api::autoscaling::v2::HorizontalPodAutoscaler>,
        Kind::PodDisruptionBudget => of::<api::policy::v1::PodDisruptionBudget>,
        Kind::Ingress => of::<api::networking::v1::Ingress>,
        Kind::IngressClass => of::<api::networking::v1::IngressClass>,
        Kind::NetworkPolicy => of::<api::networking::v1::NetworkPolicy>,
        Kind::IPAddress => of::<api::networking::v1::IPAddress>,
        Kind::ServiceCIDR => of::<api::networking::v1::ServiceCIDR>,
        Kind::EndpointSlice => of::<api::discovery::v1::EndpointSlice>,
        Kind::Lease => of::<api::coordination::v1::Lease>,
        Kind::Role => of::<api::rbac::v1::Role>,
        Kind::RoleBinding => of::<api::rbac::v1::RoleBinding>,
        Kind::ClusterRole => of::<api::rbac::v1::ClusterRole>,
        Kind::ClusterRoleBinding => of::<api::rbac::v1::ClusterRoleBinding>,
        Kind::StorageClass => of::<api::storage::v1::StorageClass>,
        Kind::CSIDriver => of::<api::storage::v1::CSIDriver>,
        Kind::CSINode => of::<api::storage::v1::CSINode>,
        Kind::CSIStorageCapacity => of::<api::storage::v1::CSIStorageCapacity>,
        Kind::VolumeAttachment => of::<api::storage::v1::VolumeAttachment>,
        Kind::VolumeAttributesClass => of::<api::storage::v1::VolumeAttributesClass>,
        Kind::DeviceClass => of::<api::resource::v1::DeviceClass>,
        Kind::ResourceClaim => of::<api::resource::v1::ResourceClaim>,
        Kind::ResourceClaimTemplate => of::<api::resource::v1::ResourceClaimTemplate>,
        Kind::ResourceSlice => of::<api::resource::v1::ResourceSlice>,
        Kind::PriorityClass => of::<api::scheduling::v1::PriorityClass>,
        Kind::RuntimeClass => of::<api::node::v1::RuntimeClass>,
        Kind::ValidatingWebhookConfiguration => of::<admission::v1::ValidatingWebhookConfiguration>,
        Kind::MutatingWebhookConfiguration => of::<admission::v1::MutatingWebhookConfiguration>,
        Kind::ValidatingAdmissionPolicy => of::<admission::v1::ValidatingAdmissionPolicy>,
        Kind::ValidatingAdmissionPolicyBinding => {
            of::<admission::v1::ValidatingAdmissionPolicyBinding>
        }
        Kind::MutatingAdmissionPolicy => of::<admission::v1::MutatingAdmissionPolicy>,
        Kind::MutatingAdmissionPolicyBinding => of::<admission::v1::MutatingAdmissionPolicyBinding>,
        Kind::FlowSchema => of::<api::flowcontrol::v1::FlowSchema>,
        Kind::PriorityLevelConfiguration => of::<api::flowcontrol::v1::PriorityLevelConfiguration>,
        Kind::APIService => of::<APIService>,
        Kind::CertificateSigningRequest => of::<api::certificates::v1::CertificateSigningRequest>,
        Kind::SelfSubjectReview => of::<api::authentication::v1::SelfSubjectReview>,
        Kind::TokenReview => of::<api::authentication::v1::TokenReview>,
        Kind::LocalSubjectAccessReview => of::<api::authorization::v1::LocalSubjectAccessReview>,
        Kind::SelfSubjectAccessReview => of::<api::authorization::v1::SelfSubjectAccessReview>,
        Kind::SelfSubjectRulesReview => of::<api::authorization::v1::SelfSubjectRulesReview>,
        Kind::SubjectAccessReview => of::<api::authorization::v1::SubjectAccessReview>,
        Kind::CustomResourceDefinition => of::<CustomResourceDefinition>,
        Kind::VirtualIP | Kind::Custom(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{ListRule, Type};
    use super::*;

    #[test]
    fn every_kind_has_a_schema() {
        for resource in crate::resources::built_in() {
            let root = root(resource).expect("a root");
            assert!(matches!(root.node(), Type::Struct(_)), "{}", name(resource));
            assert!(root.field("metadata").is_some(), "{}", name(resource));
        }
    }

    #[test]
    fn every_rule_is_about_a_list_or_a_map() {
        let root = root(Kind::Service.resource()).expect("a root");
        let ports = root.field("spec").and_then(|spec| spec.field("ports")).expect("ports");
        let Type::List { rule, .. } = ports.node() else { panic!("{:?}", ports.node()) };
        assert_eq!(*rule, ListRule::Keyed(vec!["port".into(), "protocol".into()]));
        let selector =
            root.field("spec").and_then(|spec| spec.field("selector")).expect("selector");
        assert!(matches!(selector.node(), Type::Map { atomic: true, .. }));
    }
}
