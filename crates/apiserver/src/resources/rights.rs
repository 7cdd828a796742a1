//! Groups `rbac.authorization.k8s.io` and `apiextensions.k8s.io`.

use super::columns::{AGE, CREATED, NAME, column, wide};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, rights};

const RBAC: Resource = Resource { group: "rbac.authorization.k8s.io", ..CORE };

pub(super) const ROLE: Resource = Resource {
    kind: Kind::Role,
    name: "Role",
    plural: "roles",
    singular: "role",
    columns: &[NAME, CREATED],
    ..RBAC
};

pub(super) const ROLE_BINDING: Resource = Resource {
    kind: Kind::RoleBinding,
    name: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    columns: &[
        NAME,
        column("Role", Cell::Of(rights::role)),
        AGE,
        wide("Users", Cell::Of(rights::users)),
        wide("Groups", Cell::Of(rights::groups)),
        wide("ServiceAccounts", Cell::Of(rights::accounts)),
    ],
    ..RBAC
};

pub(super) const CLUSTER_ROLE: Resource = Resource {
    kind: Kind::ClusterRole,
    name: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    columns: &[NAME, CREATED],
    ..RBAC
};

pub(super) const CLUSTER_ROLE_BINDING: Resource = Resource {
    kind: Kind::ClusterRoleBinding,
    name: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    columns: ROLE_BINDING.columns,
    ..RBAC
};

pub(super) const CUSTOM_RESOURCE_DEFINITION: Resource = Resource {
    kind: Kind::CustomResourceDefinition,
    group: "apiextensions.k8s.io",
    name: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    status: StatusRule::Separate,
    generation: true,
    columns: &[NAME, CREATED],
    ..CORE
};
