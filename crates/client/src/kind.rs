//! The kinds that Podway follows, as the API names them.

use kube::core::{ApiResource, GroupVersionKind};
use std::fmt;

/// A kind of object and the place where the API serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// `kind` of the manifest.
    pub kind: &'static str,
    /// Last element of the resource's path.
    pub plural: &'static str,
    pub namespaced: bool,
}

const fn core(kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind { group: "", version: "v1", kind, plural, namespaced }
}

const fn grouped(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version: "v1", kind, plural, namespaced: true }
}

const fn apps(kind: &'static str, plural: &'static str) -> Kind {
    grouped("apps", kind, plural)
}

const fn batch(kind: &'static str, plural: &'static str) -> Kind {
    grouped("batch", kind, plural)
}

const fn networking(kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind { namespaced, ..grouped("networking.k8s.io", kind, plural) }
}

const fn rights(kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind { namespaced, ..grouped("rbac.authorization.k8s.io", kind, plural) }
}

impl Kind {
    pub const NODE: Self = core("Node", "nodes", false);
    pub const NAMESPACE: Self = core("Namespace", "namespaces", false);
    pub const POD: Self = core("Pod", "pods", true);
    pub const SERVICE: Self = core("Service", "services", true);
    pub const ENDPOINTS: Self = core("Endpoints", "endpoints", true);
    pub const CONFIG_MAP: Self = core("ConfigMap", "configmaps", true);
    pub const SECRET: Self = core("Secret", "secrets", true);
    pub const SERVICE_ACCOUNT: Self = core("ServiceAccount", "serviceaccounts", true);
    pub const EVENT: Self = core("Event", "events", true);
    pub const REPLICATION_CONTROLLER: Self =
        core("ReplicationController", "replicationcontrollers", true);
    pub const PERSISTENT_VOLUME: Self = core("PersistentVolume", "persistentvolumes", false);
    pub const PERSISTENT_VOLUME_CLAIM: Self =
        core("PersistentVolumeClaim", "persistentvolumeclaims", true);
    pub const RESOURCE_QUOTA: Self = core("ResourceQuota", "resourcequotas", true);
    pub const LIMIT_RANGE: Self = core("LimitRange", "limitranges", true);
    pub const DEPLOYMENT: Self = apps("Deployment", "deployments");
    pub const REPLICA_SET: Self = apps("ReplicaSet", "replicasets");
    pub const STATEFUL_SET: Self = apps("StatefulSet", "statefulsets");
    pub const DAEMON_SET: Self = apps("DaemonSet", "daemonsets");
    pub const CONTROLLER_REVISION: Self = apps("ControllerRevision", "controllerrevisions");
    pub const JOB: Self = batch("Job", "jobs");
    pub const CRON_JOB: Self = batch("CronJob", "cronjobs");
    pub const HORIZONTAL_POD_AUTOSCALER: Self = Self {
        version: "v2",
        ..grouped("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
    };
    pub const POD_DISRUPTION_BUDGET: Self =
        grouped("policy", "PodDisruptionBudget", "poddisruptionbudgets");
    pub const INGRESS: Self = networking("Ingress", "ingresses", true);
    pub const INGRESS_CLASS: Self = networking("IngressClass", "ingressclasses", false);
    pub const NETWORK_POLICY: Self = networking("NetworkPolicy", "networkpolicies", true);
    pub const IP_ADDRESS: Self = networking("IPAddress", "ipaddresses", false);
    pub const SERVICE_CIDR: Self = networking("ServiceCIDR", "servicecidrs", false);
    pub const ENDPOINT_SLICE: Self = grouped("discovery.k8s.io", "EndpointSlice", "endpointslices");
    pub const LEASE: Self = grouped("coordination.k8s.io", "Lease", "leases");
    pub const ROLE: Self = rights("Role", "roles", true);
    pub const ROLE_BINDING: Self = rights("RoleBinding", "rolebindings", true);
    pub const CLUSTER_ROLE: Self = rights("ClusterRole", "clusterroles", false);
    pub const CLUSTER_ROLE_BINDING: Self =
        rights("ClusterRoleBinding", "clusterrolebindings", false);
    pub const STORAGE_CLASS: Self =
        Self { namespaced: false, ..grouped("storage.k8s.io", "StorageClass", "storageclasses") };
    pub const PRIORITY_CLASS: Self = Self {
        namespaced: false,
        ..grouped("scheduling.k8s.io", "PriorityClass", "priorityclasses")
    };
    pub const CUSTOM_RESOURCE_DEFINITION: Self = Self {
        namespaced: false,
        ..grouped("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions")
    };
    pub const VIRTUAL_IP: Self = Self {
        version: "v1alpha1",
        namespaced: false,
        ..grouped("podway.io", "VirtualIP", "virtualips")
    };

    /// Every kind this crate knows.
    pub const ALL: [Self; 38] = [
        Self::NODE,
        Self::NAMESPACE,
        Self::POD,
        Self::SERVICE,
        Self::ENDPOINTS,
        Self::CONFIG_MAP,
        Self::SECRET,
        Self::SERVICE_ACCOUNT,
        Self::EVENT,
        Self::REPLICATION_CONTROLLER,
        Self::PERSISTENT_VOLUME,
        Self::PERSISTENT_VOLUME_CLAIM,
        Self::RESOURCE_QUOTA,
        Self::LIMIT_RANGE,
        Self::DEPLOYMENT,
        Self::REPLICA_SET,
        Self::STATEFUL_SET,
        Self::DAEMON_SET,
        Self::CONTROLLER_REVISION,
        Self::JOB,
        Self::CRON_JOB,
        Self::HORIZONTAL_POD_AUTOSCALER,
        Self::POD_DISRUPTION_BUDGET,
        Self::INGRESS,
        Self::INGRESS_CLASS,
        Self::NETWORK_POLICY,
        Self::IP_ADDRESS,
        Self::SERVICE_CIDR,
        Self::ENDPOINT_SLICE,
        Self::LEASE,
        Self::ROLE,
        Self::ROLE_BINDING,
        Self::CLUSTER_ROLE,
        Self::CLUSTER_ROLE_BINDING,
        Self::STORAGE_CLASS,
        Self::PRIORITY_CLASS,
        Self::CUSTOM_RESOURCE_DEFINITION,
        Self::VIRTUAL_IP,
    ];

    /// The kind of a manifest with these `apiVersion` and `kind`.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.kind == kind && known.api_version() == api_version)
    }

    /// `apiVersion` as manifests write it: `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Path of the collection, in one namespace or (with `None`) in all.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let api_version = self.api_version();
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => {
                format!("{root}/{api_version}/namespaces/{namespace}/{}", self.plural)
            }
            None => format!("{root}/{api_version}/{}", self.plural),
        }
    }

    pub(crate) fn resource(&self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(Kind::POD.path(Some("default")), "/api/v1/namespaces/default/pods");
        assert_eq!(Kind::POD.path(None), "/api/v1/pods");
        assert_eq!(Kind::VIRTUAL_IP.path(Some("default")), "/apis/podway.io/v1alpha1/virtualips");
    }

    #[test]
    fn manifests_name_their_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(&kind.api_version(), kind.kind), Some(kind));
        }
        assert_eq!(Kind::of("v2", "Pod"), None);
    }
}
