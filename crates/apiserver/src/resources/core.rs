//! The core group.

use super::columns::{AGE, CREATED, Column, NAME, column, number, wide};
use super::{CORE, Kind, Resource, Scale, StatusRule};
use crate::table::{Cell, cluster, count, pod, service, workload};

pub(super) const NAMESPACE: Resource = Resource {
    kind: Kind::Namespace,
    name: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    status: StatusRule::Separate,
    columns: &[NAME, column("Status", Cell::At("/status/phase")), AGE],
    ..CORE
};

pub(super) const NODE: Resource = Resource {
    kind: Kind::Node,
    name: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    status: StatusRule::SeparateOnceCreated,
    columns: &[
        NAME,
        column("Status", Cell::Of(cluster::node_status)),
        column("Roles", Cell::Of(cluster::node_roles)),
        AGE,
        column("Version", Cell::Of(cluster::node_version)),
        wide("Internal-IP", Cell::Of(cluster::node_internal_ip)),
        wide("External-IP", Cell::Of(cluster::node_external_ip)),
        wide("OS-Image", Cell::Of(cluster::node_image)),
        wide("Kernel-Version", Cell::Of(cluster::node_kernel)),
        wide("Container-Runtime", Cell::Of(cluster::node_runtime)),
    ],
    ..CORE
};

pub(super) const POD: Resource = Resource {
    kind: Kind::Pod,
    name: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    status: StatusRule::Separate,
    generation: true,
    columns: &[
        NAME,
        column("Ready", Cell::Of(pod::ready)),
        column("Status", Cell::Of(pod::status)),
        column("Restarts", Cell::Timed(pod::restarts)),
        AGE,
        wide("IP", Cell::At("/status/podIP")),
        wide("Node", Cell::At("/spec/nodeName")),
        wide("Nominated Node", Cell::At("/status/nominatedNodeName")),
        wide("Readiness Gates", Cell::Of(pod::readiness_gates)),
    ],
    ..CORE
};

pub(super) const SERVICE: Resource = Resource {
    kind: Kind::Service,
    name: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    status: StatusRule::Separate,
    columns: &[
        NAME,
        column("Type", Cell::At("/spec/type")),
        column("Cluster-IP", Cell::At("/spec/clusterIP")),
        column("External-IP", Cell::Of(service::external_ip)),
        column("Port(s)", Cell::Of(service::ports)),
        AGE,
        wide("Selector", Cell::Of(service::selector)),
    ],
    ..CORE
};

pub(super) const ENDPOINTS: Resource = Resource {
    kind: Kind::Endpoints,
    name: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    columns: &[NAME, column("Endpoints", Cell::Of(service::endpoints)), AGE],
    ..CORE
};

pub(super) const CONFIG_MAP: Resource = Resource {
    kind: Kind::ConfigMap,
    name: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    columns: &[NAME, column("Data", Cell::Of(count::data)), AGE],
    ..CORE
};

pub(super) const SECRET: Resource = Resource {
    kind: Kind::Secret,
    name: "Secret",
    plural: "secrets",
    singular: "secret",
    columns: &[NAME, column("Type", Cell::At("/type")), column("Data", Cell::Of(count::data)), AGE],
    ..CORE
};

pub(super) const SERVICE_ACCOUNT: Resource = Resource {
    kind: Kind::ServiceAccount,
    name: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    columns: &[NAME, number("Secrets", Cell::Of(count::secrets)), AGE],
    ..CORE
};

pub(super) const EVENT: Resource = Resource {
    kind: Kind::Event,
    name: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    columns: &[
        column("Last Seen", Cell::Timed(cluster::event_last_seen)),
        column("Type", Cell::At("/type")),
        column("Reason", Cell::At("/reason")),
        column("Object", Cell::Of(cluster::event_object)),
        wide("Subobject", Cell::At("/involvedObject/fieldPath")),
        wide("Source", Cell::Of(cluster::event_source)),
        column("Message", Cell::Of(cluster::event_message)),
        wide("First Seen", Cell::Timed(cluster::event_first_seen)),
        wide("Count", Cell::Of(cluster::event_count)),
        Column { wide: true, ..NAME },
    ],
    ..CORE
};

pub(super) const REPLICATION_CONTROLLER: Resource = Resource {
    kind: Kind::ReplicationController,
    name: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    status: StatusRule::Separate,
    scale: Some(Scale::SELECTING),
    generation: true,
    columns: &[
        NAME,
        number("Desired", Cell::Count("/spec/replicas")),
        number("Current", Cell::Count("/status/replicas")),
        number("Ready", Cell::Count("/status/readyReplicas")),
        AGE,
        wide("Containers", Cell::Of(workload::containers)),
        wide("Images", Cell::Of(workload::images)),
        wide("Selector", Cell::Of(service::selector)),
    ],
    ..CORE
};

pub(super) const RESOURCE_QUOTA: Resource = Resource {
    kind: Kind::ResourceQuota,
    name: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    status: StatusRule::Separate,
    columns: &[
        NAME,
        column("Request", Cell::Of(count::quota_requests)),
        column("Limit", Cell::Of(count::quota_limits)),
        AGE,
    ],
    ..CORE
};

pub(super) const LIMIT_RANGE: Resource = Resource {
    kind: Kind::LimitRange,
    name: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    columns: &[NAME, CREATED],
    ..CORE
};

pub(super) const POD_TEMPLATE: Resource = Resource {
    kind: Kind::PodTemplate,
    name: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    generation: true,
    columns: &[
        NAME,
        column("Containers", Cell::Of(workload::template_containers)),
        column("Images", Cell::Of(workload::template_images)),
        column("Pod Labels", Cell::Of(workload::template_labels)),
    ],
    ..CORE
};
