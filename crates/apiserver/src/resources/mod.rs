//! The kinds: what is served, where, and how `kubectl get` shows it. The built-in ones are a closed table, the
//! others come from CustomResourceDefinitions ([`custom`]).

mod apps;
pub(crate) mod autoscaler;
mod batch;
mod certificate;
mod columns;
mod core;
pub(crate) mod custom;
mod device;
mod event;
mod extension;
mod form;
mod network;
mod review;
mod rights;
mod storage;

pub(crate) use columns::{Column, SCALE_COLUMNS};
pub use custom::Custom;
pub(crate) use form::Renamed;

use crate::schema::{Root, builtin};

/// The built-in kinds and their lines of the table, in one list.
macro_rules! kinds {
    ($($kind:ident => $line:path,)*) => {
        /// A kind of object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($kind,)*
            /// A kind that a CustomResourceDefinition declares.
            Custom(Custom),
        }

        /// The built-in kinds in the form in which they are stored; a group's kinds stand together.
        pub static RESOURCES: [Resource; [$(stringify!($kind)),*].len()] = [$($line),*];

        impl Kind {
            /// Its place in [`RESOURCES`], where it is built in.
            pub(crate) fn index(self) -> Option<usize> {
                enum Place {
                    $($kind,)*
                }
                match self {
                    $(Self::$kind => Some(Place::$kind as usize),)*
                    Self::Custom(_) => None,
                }
            }
        }
    };
}

kinds! {
    Namespace => core::NAMESPACE,
    Node => core::NODE,
    Pod => core::POD,
    Service => core::SERVICE,
    Endpoints => core::ENDPOINTS,
    ConfigMap => core::CONFIG_MAP,
    Secret => core::SECRET,
    ServiceAccount => core::SERVICE_ACCOUNT,
    Event => core::EVENT,
    ReplicationController => core::REPLICATION_CONTROLLER,
    PersistentVolume => storage::PERSISTENT_VOLUME,
    PersistentVolumeClaim => storage::PERSISTENT_VOLUME_CLAIM,
    ResourceQuota => core::RESOURCE_QUOTA,
    LimitRange => core::LIMIT_RANGE,
    PodTemplate => core::POD_TEMPLATE,
    Deployment => apps::DEPLOYMENT,
    ReplicaSet => apps::REPLICA_SET,
    StatefulSet => apps::STATEFUL_SET,
    DaemonSet => apps::DAEMON_SET,
    ControllerRevision => apps::CONTROLLER_REVISION,
    Job => batch::JOB,
    CronJob => batch::CRON_JOB,
    HorizontalPodAutoscaler => batch::HORIZONTAL_POD_AUTOSCALER,
    PodDisruptionBudget => batch::POD_DISRUPTION_BUDGET,
    Ingress => network::INGRESS,
    IngressClass => network::INGRESS_CLASS,
    NetworkPolicy => network::NETWORK_POLICY,
    IPAddress => network::IP_ADDRESS,
    ServiceCIDR => network::SERVICE_CIDR,
    EndpointSlice => network::ENDPOINT_SLICE,
    Lease => batch::LEASE,
    Role => rights::ROLE,
    RoleBinding => rights::ROLE_BINDING,
    ClusterRole => rights::CLUSTER_ROLE,
    ClusterRoleBinding => rights::CLUSTER_ROLE_BINDING,
    StorageClass => storage::STORAGE_CLASS,
    CSIDriver => storage::CSI_DRIVER,
    CSINode => storage::CSI_NODE,
    CSIStorageCapacity => storage::CSI_STORAGE_CAPACITY,
    VolumeAttachment => storage::VOLUME_ATTACHMENT,
    VolumeAttributesClass => storage::VOLUME_ATTRIBUTES_CLASS,
    DeviceClass => device::DEVICE_CLASS,
    ResourceClaim => device::RESOURCE_CLAIM,
    ResourceClaimTemplate => device::RESOURCE_CLAIM_TEMPLATE,
    ResourceSlice => device::RESOURCE_SLICE,
    PriorityClass => batch::PRIORITY_CLASS,
    RuntimeClass => extension::RUNTIME_CLASS,
    ValidatingWebhookConfiguration => extension::VALIDATING_WEBHOOK_CONFIGURATION,
    MutatingWebhookConfiguration => extension::MUTATING_WEBHOOK_CONFIGURATION,
    ValidatingAdmissionPolicy => extension::VALIDATING_ADMISSION_POLICY,
    ValidatingAdmissionPolicyBinding => extension::VALIDATING_ADMISSION_POLICY_BINDING,
    MutatingAdmissionPolicy => extension::MUTATING_ADMISSION_POLICY,
    MutatingAdmissionPolicyBinding => extension::MUTATING_ADMISSION_POLICY_BINDING,
    FlowSchema => extension::FLOW_SCHEMA,
    PriorityLevelConfiguration => extension::PRIORITY_LEVEL_CONFIGURATION,
    APIService => extension::API_SERVICE,
    CertificateSigningRequest => certificate::CERTIFICATE_SIGNING_REQUEST,
    SelfSubjectReview => review::SELF_SUBJECT_REVIEW,
    TokenReview => review::TOKEN_REVIEW,
    LocalSubjectAccessReview => review::LOCAL_SUBJECT_ACCESS_REVIEW,
    SelfSubjectAccessReview => review::SELF_SUBJECT_ACCESS_REVIEW,
    SelfSubjectRulesReview => review::SELF_SUBJECT_RULES_REVIEW,
    SubjectAccessReview => review::SUBJECT_ACCESS_REVIEW,
    CustomResourceDefinition => rights::CUSTOM_RESOURCE_DEFINITION,
    VirtualIP => network::VIRTUAL_IP,
}

/// Forms besides the stored one: the same objects under another group or version.
pub static FORMS: [Resource; 2] = [event::EVENT, autoscaler::AUTOSCALING_V1];

impl Kind {
    /// The kind's line of the table.
    #[must_use]
    pub fn resource(self) -> &'static Resource {
        match (self, self.index()) {
            (Self::Custom(custom), _) => custom.stored(),
            (_, index) => &RESOURCES[index.unwrap_or(0)],
        }
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
    /// A question: its objects are answered when they are created, and kept nowhere.
    pub transient: bool,
    pub status: StatusRule,
    /// Where the numbers of the scale subresource are.
    pub(crate) scale: Option<Scale>,
    /// `metadata.generation` counts the changes of what is wanted.
    pub generation: bool,
    /// Columns of the Table view, in the order in which they are shown.
    pub(crate) columns: &'static [Column],
    /// Fields that are called otherwise than in the stored form.
    pub(crate) renamed: &'static [Renamed],
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

/// JSON pointers of what the scale subresource shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) wanted: &'static str,
    pub(crate) current: &'static str,
    /// A selector, as text or as a map of labels with or without `matchLabels`.
    pub(crate) selector: &'static str,
}

impl Scale {
    const SELECTING: Self =
        Self { wanted: "/spec/replicas", current: "/status/replicas", selector: "/spec/selector" };
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

    /// Kind and group, as errors about objects name them: `Deployment.apps`.
    #[must_use]
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.name, self.group)
        }
    }

    /// Whether the kind would come from a CustomResourceDefinition on a real cluster.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.group == "podway.io" || matches!(self.kind, Kind::Custom(_))
    }

    /// Whether a CustomResourceDefinition declares the kind.
    pub(crate) fn is_defined(&self) -> bool {
        matches!(self.kind, Kind::Custom(_))
    }

    /// Whether who writes the status writes the metadata along with it.
    pub(crate) fn status_covers_metadata(&self) -> bool {
        let apart = matches!(
            self.kind,
            Kind::APIService
                | Kind::FlowSchema
                | Kind::PriorityLevelConfiguration
                | Kind::ResourceClaim
                | Kind::ServiceCIDR
                | Kind::ValidatingAdmissionPolicy
                | Kind::VolumeAttachment
        );
        !apart && !self.is_custom()
    }

    /// Whether a `PUT` of an object that is not there makes it (`AllowCreateOnUpdate`).
    pub(crate) fn is_made_by_replacing(&self) -> bool {
        matches!(
            self.kind,
            Kind::Service
                | Kind::Endpoints
                | Kind::Event
                | Kind::LimitRange
                | Kind::Lease
                | Kind::Role
                | Kind::RoleBinding
                | Kind::ClusterRole
                | Kind::ClusterRoleBinding
        )
    }

    /// Whether the answer to a deletion is the object (`ReturnDeletedObject`), not a `Status`.
    pub(crate) fn is_shown_when_deleted(&self) -> bool {
        matches!(
            self.kind,
            Kind::Pod
                | Kind::Service
                | Kind::PersistentVolume
                | Kind::PersistentVolumeClaim
                | Kind::ResourceQuota
                | Kind::ServiceAccount
                | Kind::StorageClass
                | Kind::VolumeAttributesClass
                | Kind::DeviceClass
                | Kind::ResourceClaim
                | Kind::ResourceClaimTemplate
                | Kind::ResourceSlice
        )
    }

    /// Fields besides name and namespace that a field selector may name.
    pub(crate) fn selectable(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Pod => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.podIPs",
                "status.nominatedNodeName",
            ],
            Kind::Node => &["spec.unschedulable"],
            Kind::Service => &["spec.clusterIP", "spec.type"],
            Kind::Namespace => &["status.phase"],
            Kind::Secret => &["type"],
            Kind::ReplicationController | Kind::ReplicaSet => &["status.replicas"],
            Kind::Job => &["status.successful"],
            Kind::Event => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            Kind::ResourceSlice => &["spec.nodeName", "spec.driver"],
            Kind::CertificateSigningRequest => &["spec.signerName"],
            Kind::IPAddress => &[
                "spec.parentRef.group",
                "spec.parentRef.resource",
                "spec.parentRef.namespace",
                "spec.parentRef.name",
            ],
            _ => &[],
        }
    }

    /// The types of its objects.
    pub(crate) fn root(&self) -> Option<Root<'static>> {
        match self.kind {
            Kind::Custom(custom) => custom.version(self.version).map(custom::Version::root),
            _ => builtin::root(self),
        }
    }
}

/// The built-in kinds in all their forms.
pub(crate) fn built_in() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().chain(&FORMS)
}

/// The resource served under this group, version and plural.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    built_in().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The resource of manifests with these `apiVersion` and `kind`.
#[must_use]
pub fn of_manifest(api_version: &str, kind: &str) -> Option<&'static Resource> {
    built_in().find(|r| r.name == kind && r.api_version() == api_version)
}

/// The served resources: the built-in ones, then each version of each custom one.
pub(crate) fn served(customs: &[Custom]) -> impl Iterator<Item = &'static Resource> {
    built_in().chain(customs.iter().flat_map(|custom| custom.served()))
}

/// Groups with their versions, the preferred one first, in the order of the table, the core group left out.
pub(crate) fn groups(customs: &[Custom]) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in served(customs).filter(|resource| !resource.group.is_empty()) {
        match groups.iter_mut().find(|(group, _)| *group == resource.group) {
            Some((_, versions)) if versions.contains(&resource.version) => {}
            Some((_, versions)) => versions.push(resource.version),
            None => groups.push((resource.group, vec![resource.version])),
        }
    }
    groups.iter_mut().for_each(|(_, versions)| versions.sort_by_key(|it| custom::priority(it)));
    groups
}

/// What most kinds have in common.
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
    transient: false,
    status: StatusRule::Absent,
    scale: None,
    generation: false,
    columns: &[],
    renamed: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_finds_its_own_line() {
        for (index, resource) in RESOURCES.iter().enumerate() {
            assert_eq!(resource.kind.index(), Some(index));
            assert_eq!(resource.kind.resource().name, resource.name);
            assert_eq!(resource.name, format!("{:?}", resource.kind));
            assert_eq!(resource.singular, resource.name.to_lowercase());
            let found =
                find(resource.group, resource.version, resource.plural).expect("in the table");
            assert_eq!(found.kind, resource.kind);
            let of_manifest = of_manifest(&resource.api_version(), resource.name);
            assert_eq!(of_manifest.map(|r| r.kind), Some(resource.kind));
            let named = resource.columns.iter().any(|column| column.name == "Name");
            assert!(named || resource.transient);
        }
    }

    #[test]
    fn groups_have_their_versions() {
        let groups = groups(&[]);
        assert_eq!(groups[0], ("apps", vec!["v1"]));
        assert!(groups.contains(&("autoscaling", vec!["v2", "v1"])));
        assert!(groups.iter().any(|(group, _)| *group == "events.k8s.io"));
    }
}
