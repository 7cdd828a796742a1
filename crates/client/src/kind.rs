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

const fn apps(kind: &'static str, plural: &'static str) -> Kind {
    Kind { group: "apps", version: "v1", kind, plural, namespaced: true }
}

impl Kind {
    pub const NODE: Self = core("Node", "nodes", false);
    pub const NAMESPACE: Self = core("Namespace", "namespaces", false);
    pub const POD: Self = core("Pod", "pods", true);
    pub const SERVICE: Self = core("Service", "services", true);
    pub const CONFIG_MAP: Self = core("ConfigMap", "configmaps", true);
    pub const EVENT: Self = core("Event", "events", true);
    pub const DEPLOYMENT: Self = apps("Deployment", "deployments");
    pub const REPLICA_SET: Self = apps("ReplicaSet", "replicasets");
    pub const ENDPOINT_SLICE: Self = Self {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        namespaced: true,
    };
    pub const LEASE: Self = Self {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        namespaced: true,
    };
    pub const VIRTUAL_IP: Self = Self {
        group: "podway.io",
        version: "v1alpha1",
        kind: "VirtualIP",
        plural: "virtualips",
        namespaced: false,
    };

    /// Every kind this crate knows.
    pub const ALL: [Self; 11] = [
        Self::NODE,
        Self::NAMESPACE,
        Self::POD,
        Self::SERVICE,
        Self::CONFIG_MAP,
        Self::EVENT,
        Self::DEPLOYMENT,
        Self::REPLICA_SET,
        Self::ENDPOINT_SLICE,
        Self::LEASE,
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
