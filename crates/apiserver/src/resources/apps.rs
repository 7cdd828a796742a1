//! Group `apps`.

use super::columns::{AGE, NAME, column, number, wide};
use super::{CORE, Kind, Resource, Scale, StatusRule};
use crate::table::{Cell, workload};

const APPS: Resource = Resource {
    group: "apps",
    status: StatusRule::Separate,
    generation: true,
    categories: &["all"],
    ..CORE
};

pub(super) const DEPLOYMENT: Resource = Resource {
    kind: Kind::Deployment,
    name: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    scale: Some(Scale::SELECTING),
    columns: &[
        NAME,
        column("Ready", Cell::Of(workload::ready)),
        column("Up-to-date", Cell::Count("/status/updatedReplicas")),
        column("Available", Cell::Count("/status/availableReplicas")),
        AGE,
        wide("Containers", Cell::Of(workload::containers)),
        wide("Images", Cell::Of(workload::images)),
        wide("Selector", Cell::Of(workload::selector)),
    ],
    ..APPS
};

pub(super) const REPLICA_SET: Resource = Resource {
    kind: Kind::ReplicaSet,
    name: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    scale: Some(Scale::SELECTING),
    columns: &[
        NAME,
        number("Desired", Cell::Count("/spec/replicas")),
        number("Current", Cell::Count("/status/replicas")),
        number("Ready", Cell::Count("/status/readyReplicas")),
        AGE,
        wide("Containers", Cell::Of(workload::containers)),
        wide("Images", Cell::Of(workload::images)),
        wide("Selector", Cell::Of(workload::selector)),
    ],
    ..APPS
};

pub(super) const STATEFUL_SET: Resource = Resource {
    kind: Kind::StatefulSet,
    name: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    scale: Some(Scale::SELECTING),
    columns: &[
        NAME,
        column("Ready", Cell::Of(workload::ready)),
        AGE,
        wide("Containers", Cell::Of(workload::containers)),
        wide("Images", Cell::Of(workload::images)),
    ],
    ..APPS
};

pub(super) const DAEMON_SET: Resource = Resource {
    kind: Kind::DaemonSet,
    name: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    columns: &[
        NAME,
        number("Desired", Cell::Count("/status/desiredNumberScheduled")),
        number("Current", Cell::Count("/status/currentNumberScheduled")),
        number("Ready", Cell::Count("/status/numberReady")),
        number("Up-to-date", Cell::Count("/status/updatedNumberScheduled")),
        number("Available", Cell::Count("/status/numberAvailable")),
        column("Node Selector", Cell::Of(workload::node_selector)),
        AGE,
        wide("Containers", Cell::Of(workload::containers)),
        wide("Images", Cell::Of(workload::images)),
        wide("Selector", Cell::Of(workload::selector)),
    ],
    ..APPS
};

pub(super) const CONTROLLER_REVISION: Resource = Resource {
    kind: Kind::ControllerRevision,
    name: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    status: StatusRule::Absent,
    generation: false,
    categories: &[],
    columns: &[
        NAME,
        column("Controller", Cell::Of(workload::controller)),
        number("Revision", Cell::Count("/revision")),
        AGE,
    ],
    ..APPS
};
