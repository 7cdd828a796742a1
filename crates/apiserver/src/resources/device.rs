//! Devices for pods (dynamic resource allocation): stored, defaulted and shown, so that a real scheduler and a real
//! controller manager find them.

use super::columns::{AGE, NAME, column};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, device};

const GROUP: &str = "resource.k8s.io";

pub(super) const DEVICE_CLASS: Resource = Resource {
    kind: Kind::DeviceClass,
    name: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    group: GROUP,
    namespaced: false,
    generation: true,
    columns: &[NAME, AGE],
    ..CORE
};

pub(super) const RESOURCE_CLAIM: Resource = Resource {
    kind: Kind::ResourceClaim,
    name: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    group: GROUP,
    status: StatusRule::Separate,
    columns: &[NAME, column("State", Cell::Of(device::state)), AGE],
    ..CORE
};

pub(super) const RESOURCE_CLAIM_TEMPLATE: Resource = Resource {
    kind: Kind::ResourceClaimTemplate,
    name: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    group: GROUP,
    columns: &[NAME, AGE],
    ..CORE
};

pub(super) const RESOURCE_SLICE: Resource = Resource {
    kind: Kind::ResourceSlice,
    name: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    group: GROUP,
    namespaced: false,
    generation: true,
    columns: &[
        NAME,
        column("Node", Cell::Of(device::node)),
        column("Driver", Cell::At("/spec/driver")),
        column("Pool", Cell::At("/spec/pool/name")),
        AGE,
    ],
    ..CORE
};
