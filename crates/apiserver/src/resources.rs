//! The closed table of kinds: what is served, where, and how `kubectl get` shows it.

use crate::table::{self, Cell};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    Endpoints,
    ConfigMap,
    Secret,
    ServiceAccount,
    Event,
    Deployment,
    ReplicaSet,
    EndpointSlice,
    Lease,
    VirtualIP,
}

impl Kind {
    /// The kind's line of the table.
    #[must_use]
    pub fn resource(self) -> &'static Resource {
        &RESOURCES[self as usize]
    }
}

/// All that is to know about a kind without looking at its objects.
#[derive(Debug)]
pub struct Resource {
    pub kind: Kind,
    /// API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// `kind` of the manifest.
    pub name: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub status: StatusRule,
    /// `metadata.generation` counts the changes of what is wanted.
    pub generation: bool,
    /// Columns of the Table view between Name and Age.
    pub(crate) columns: &'static [Column],
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// Who may write `.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusRule {
    /// There is no status subresource.
    Absent,
    /// Only the subresource writes it.
    Separate,
    /// As [`Self::Separate`], but an object may be born with it: a kubelet registers its node so.
    SeparateOnceCreated,
}

/// A column of the Table view.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// OpenAPI type: `string`, `integer`.
    pub(crate) shape: &'static str,
    /// Shown only by `kubectl get -o wide`.
    pub(crate) wide: bool,
    pub(crate) cell: Cell,
}

const fn column(name: &'static str, cell: Cell) -> Column {
    Column { name, shape: "string", wide: false, cell }
}

const fn number(name: &'static str, cell: Cell) -> Column {
    Column { name, shape: "integer", wide: false, cell }
}

const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { name, shape: "string", wide: true, cell }
}

impl Resource {
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.status != StatusRule::Absent
    }

    /// `apiVersion` of the manifest.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Plural and group, as error messages name a resource: `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether the kind would come from a CustomResourceDefinition on a real cluster.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.group == "podway.io"
    }
}

/// The resource served under this group, version and plural.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// Groups and their one version, in the order of the table, the core group left out.
#[must_use]
pub fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> =
        RESOURCES.iter().map(|r| (r.group, r.version)).filter(|g| !g.0.is_empty()).collect();
    groups.dedup();
    groups
}

const CORE: Resource = Resource {
    kind: Kind::Namespace,
    group: "",
    version: "v1",
    name: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    status: StatusRule::Absent,
    generation: false,
    columns: &[],
};

const APPS: Resource = Resource {
    group: "apps",
    status: StatusRule::Separate,
    generation: true,
    categories: &["all"],
    ..CORE
};

/// Indexed by [`Kind`]; a group's kinds stand together.
pub static RESOURCES: [Resource; 14] = [
    Resource {
        kind: Kind::Namespace,
        name: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        status: StatusRule::Separate,
        columns: &[column("Status", Cell::At("/status/phase"))],
        ..CORE
    },
    Resource {
        kind: Kind::Node,
        name: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        status: StatusRule::SeparateOnceCreated,
        columns: &[
            column("Status", Cell::Of(table::node_status)),
            column("Roles", Cell::Of(table::node_roles)),
            column("Version", Cell::At("/status/nodeInfo/kubeletVersion")),
            wide("Internal-IP", Cell::Of(table::node_internal_ip)),
            wide("OS-Image", Cell::At("/status/nodeInfo/osImage")),
            wide("Kernel-Version", Cell::At("/status/nodeInfo/kernelVersion")),
            wide("Container-Runtime", Cell::At("/status/nodeInfo/containerRuntimeVersion")),
        ],
        ..CORE
    },
    Resource {
        kind: Kind::Pod,
        name: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        status: StatusRule::Separate,
        generation: true,
        columns: &[
            column("Ready", Cell::Of(table::pod_ready)),
            column("Status", Cell::Of(table::pod_status)),
            column("Restarts", Cell::Of(table::pod_restarts)),
            wide("IP", Cell::At("/status/podIP")),
            wide("Node", Cell::At("/spec/nodeName")),
            wide("Nominated Node", Cell::At("/status/nominatedNodeName")),
            wide("Readiness Gates", Cell::At("/spec/readinessGates/0/conditionType")),
        ],
        ..CORE
    },
    Resource {
        kind: Kind::Service,
        name: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        status: StatusRule::Separate,
        columns: &[
            column("Type", Cell::At("/spec/type")),
            column("Cluster-IP", Cell::At("/spec/clusterIP")),
            column("External-IP", Cell::Of(table::service_external_ip)),
            column("Port(s)", Cell::Of(table::service_ports)),
            wide("Selector", Cell::Of(table::service_selector)),
        ],
        ..CORE
    },
    Resource {
        kind: Kind::Endpoints,
        name: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        columns: &[column("Endpoints", Cell::Of(table::endpoints))],
        ..CORE
    },
    Resource {
        kind: Kind::ConfigMap,
        name: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        columns: &[number("Data", Cell::Of(table::data_entries))],
        ..CORE
    },
    Resource {
        kind: Kind::Secret,
        name: "Secret",
        plural: "secrets",
        singular: "secret",
        columns: &[
            column("Type", Cell::At("/type")),
            number("Data", Cell::Of(table::data_entries)),
        ],
        ..CORE
    },
    Resource {
        kind: Kind::ServiceAccount,
        name: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        columns: &[number("Secrets", Cell::Of(table::secrets))],
        ..CORE
    },
    Resource {
        kind: Kind::Event,
        name: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        columns: &[
            column("Type", Cell::At("/type")),
            column("Reason", Cell::At("/reason")),
            column("Object", Cell::Of(table::event_object)),
            column("Message", Cell::At("/message")),
        ],
        ..CORE
    },
    Resource {
        kind: Kind::Deployment,
        name: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        version: "v1",
        columns: &[
            column("Ready", Cell::Of(table::deployment_ready)),
            number("Up-to-date", Cell::Count("/status/updatedReplicas")),
            number("Available", Cell::Count("/status/availableReplicas")),
            wide("Containers", Cell::Of(table::template_containers)),
            wide("Images", Cell::Of(table::template_images)),
            wide("Selector", Cell::Of(table::match_labels)),
        ],
        ..APPS
    },
    Resource {
        kind: Kind::ReplicaSet,
        name: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        columns: &[
            number("Desired", Cell::Count("/spec/replicas")),
            number("Current", Cell::Count("/status/replicas")),
            number("Ready", Cell::Count("/status/readyReplicas")),
            wide("Containers", Cell::Of(table::template_containers)),
            wide("Images", Cell::Of(table::template_images)),
            wide("Selector", Cell::Of(table::match_labels)),
        ],
        ..APPS
    },
    Resource {
        kind: Kind::EndpointSlice,
        group: "discovery.k8s.io",
        name: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        generation: true,
        columns: &[
            column("AddressType", Cell::At("/addressType")),
            column("Ports", Cell::Of(table::slice_ports)),
            column("Endpoints", Cell::Of(table::slice_endpoints)),
        ],
        ..CORE
    },
    Resource {
        kind: Kind::Lease,
        group: "coordination.k8s.io",
        name: "Lease",
        plural: "leases",
        singular: "lease",
        columns: &[column("Holder", Cell::At("/spec/holderIdentity"))],
        ..CORE
    },
    Resource {
        kind: Kind::VirtualIP,
        group: "podway.io",
        version: "v1alpha1",
        name: "VirtualIP",
        plural: "virtualips",
        singular: "virtualip",
        short_names: &["vip"],
        namespaced: false,
        status: StatusRule::Separate,
        generation: true,
        columns: &[
            column("Addresses", Cell::Of(table::virtual_ip_addresses)),
            column("Listeners", Cell::Of(table::virtual_ip_listeners)),
            column("Node", Cell::At("/status/node")),
        ],
        ..CORE
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_finds_its_own_line() {
        for (index, resource) in RESOURCES.iter().enumerate() {
            assert_eq!(resource.kind as usize, index);
            assert_eq!(resource.name, format!("{:?}", resource.kind));
            let found =
                find(resource.group, resource.version, resource.plural).expect("in the table");
            assert_eq!(found.kind, resource.kind);
        }
    }

    #[test]
    fn groups_come_once() {
        let groups = groups();
        let names: Vec<_> = groups.iter().map(|group| group.0).collect();
        assert_eq!(names, ["apps", "discovery.k8s.io", "coordination.k8s.io", "podway.io"]);
    }
}
