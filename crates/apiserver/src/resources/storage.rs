//! Volumes: stored and shown so that real manifests apply.

use super::columns::{AGE, NAME, column, number, wide};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, storage};

pub(super) const PERSISTENT_VOLUME: Resource = Resource {
    kind: Kind::PersistentVolume,
    name: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    status: StatusRule::Separate,
    columns: &[
        NAME,
        column("Capacity", Cell::At("/spec/capacity/storage")),
        column("Access Modes", Cell::Of(storage::volume_modes)),
        column("Reclaim Policy", Cell::At("/spec/persistentVolumeReclaimPolicy")),
        column("Status", Cell::At("/status/phase")),
        column("Claim", Cell::Of(storage::claim)),
        column("StorageClass", Cell::At("/spec/storageClassName")),
        column("Reason", Cell::At("/status/reason")),
        AGE,
        wide("VolumeMode", Cell::At("/spec/volumeMode")),
    ],
    ..CORE
};

pub(super) const PERSISTENT_VOLUME_CLAIM: Resource = Resource {
    kind: Kind::PersistentVolumeClaim,
    name: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    status: StatusRule::Separate,
    columns: &[
        NAME,
        column("Status", Cell::At("/status/phase")),
        column("Volume", Cell::At("/spec/volumeName")),
        column("Capacity", Cell::At("/status/capacity/storage")),
        column("Access Modes", Cell::Of(storage::claim_modes)),
        column("StorageClass", Cell::At("/spec/storageClassName")),
        AGE,
        wide("VolumeMode", Cell::At("/spec/volumeMode")),
    ],
    ..CORE
};

pub(super) const STORAGE_CLASS: Resource = Resource {
    kind: Kind::StorageClass,
    group: "storage.k8s.io",
    name: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    columns: &[
        NAME,
        column("Provisioner", Cell::At("/provisioner")),
        column("ReclaimPolicy", Cell::At("/reclaimPolicy")),
        column("VolumeBindingMode", Cell::At("/volumeBindingMode")),
        column("AllowVolumeExpansion", Cell::Of(storage::expansion)),
        AGE,
    ],
    ..CORE
};

pub(super) const CSI_DRIVER: Resource = Resource {
    kind: Kind::CSIDriver,
    name: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    group: "storage.k8s.io",
    namespaced: false,
    generation: true,
    columns: &[
        NAME,
        column("AttachRequired", Cell::Of(storage::attach_required)),
        column("PodInfoOnMount", Cell::Of(storage::pod_info_on_mount)),
        column("Modes", Cell::Of(storage::lifecycle_modes)),
        AGE,
    ],
    ..CORE
};

pub(super) const CSI_NODE: Resource = Resource {
    kind: Kind::CSINode,
    name: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    group: "storage.k8s.io",
    namespaced: false,
    columns: &[NAME, number("Drivers", Cell::Of(storage::drivers)), AGE],
    ..CORE
};

pub(super) const CSI_STORAGE_CAPACITY: Resource = Resource {
    kind: Kind::CSIStorageCapacity,
    name: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    group: "storage.k8s.io",
    columns: &[
        NAME,
        column("StorageClassName", Cell::At("/storageClassName")),
        column("Capacity", Cell::At("/capacity")),
    ],
    ..CORE
};

pub(super) const VOLUME_ATTACHMENT: Resource = Resource {
    kind: Kind::VolumeAttachment,
    name: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    group: "storage.k8s.io",
    namespaced: false,
    status: StatusRule::Separate,
    columns: &[
        NAME,
        column("Attacher", Cell::At("/spec/attacher")),
        column("PV", Cell::At("/spec/source/persistentVolumeName")),
        column("Node", Cell::At("/spec/nodeName")),
        column("Attached", Cell::Of(storage::attached)),
        AGE,
    ],
    ..CORE
};

pub(super) const VOLUME_ATTRIBUTES_CLASS: Resource = Resource {
    kind: Kind::VolumeAttributesClass,
    name: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    group: "storage.k8s.io",
    namespaced: false,
    columns: &[NAME, column("DriverName", Cell::At("/driverName")), AGE],
    ..CORE
};
