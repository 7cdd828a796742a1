//! Volumes: stored and shown so that real manifests apply.

use super::columns::{AGE, NAME, column, wide};
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
