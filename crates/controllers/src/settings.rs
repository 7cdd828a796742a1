//! What an operator can choose.

use crate::Error;
use crate::cluster::LEASES;
use crate::record::{Manager, Slice};
use client::{Kind, Watch};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

/// One controller; each can run alone beside somebody else's others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Services and pods → EndpointSlices.
    EndpointSlice,
    /// Endpoints written by hand → EndpointSlices.
    EndpointSliceMirroring,
    /// Services and pods → Endpoints.
    Endpoints,
    /// Deployments → ReplicaSets.
    Deployment,
    /// ReplicaSets → Pods.
    ReplicaSet,
    /// ReplicationControllers → Pods.
    ReplicationController,
    /// StatefulSets → Pods with names that stay.
    StatefulSet,
    /// DaemonSets → a Pod on every node that suits.
    DaemonSet,
    /// Jobs → Pods that end.
    Job,
    /// CronJobs → Jobs.
    CronJob,
    /// Pods → nodes.
    Scheduler,
    /// Silent nodes → not ready, and taints that say how nodes are.
    NodeLifecycle,
    /// Taints that drive pods away → these pods deleted.
    TaintEviction,
    /// Nodes → pod CIDRs.
    NodeIpam,
}

impl Controller {
    pub const ALL: [Controller; 14] = [
        Controller::EndpointSlice,
        Controller::EndpointSliceMirroring,
        Controller::Endpoints,
        Controller::Deployment,
        Controller::ReplicaSet,
        Controller::ReplicationController,
        Controller::StatefulSet,
        Controller::DaemonSet,
        Controller::Job,
        Controller::CronJob,
        Controller::Scheduler,
        Controller::NodeLifecycle,
        Controller::TaintEviction,
        Controller::NodeIpam,
    ];

    /// What kube-controller-manager calls it.
    pub fn name(self) -> &'static str {
        match self {
            Controller::EndpointSlice => "endpointslice-controller",
            Controller::EndpointSliceMirroring => "endpointslice-mirroring-controller",
            Controller::Endpoints => "endpoints-controller",
            Controller::Deployment => "deployment-controller",
            Controller::ReplicaSet => "replicaset-controller",
            Controller::ReplicationController => "replicationcontroller-controller",
            Controller::StatefulSet => "statefulset-controller",
            Controller::DaemonSet => "daemonset-controller",
            Controller::Job => "job-controller",
            Controller::CronJob => "cronjob-controller",
            Controller::Scheduler => "scheduler",
            Controller::NodeLifecycle => "node-lifecycle-controller",
            Controller::TaintEviction => "taint-eviction-controller",
            Controller::NodeIpam => "node-ipam-controller",
        }
    }

    /// The kinds that it must see.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Controller::EndpointSlice => {
                &[Kind::SERVICE, Kind::POD, Kind::NODE, Kind::ENDPOINT_SLICE]
            }
            Controller::EndpointSliceMirroring => {
                &[Kind::SERVICE, Kind::ENDPOINTS, Kind::ENDPOINT_SLICE]
            }
            Controller::Endpoints => &[Kind::SERVICE, Kind::POD, Kind::ENDPOINTS],
            Controller::Deployment => &[Kind::DEPLOYMENT, Kind::REPLICA_SET, Kind::POD],
            Controller::ReplicaSet => &[Kind::REPLICA_SET, Kind::POD],
            Controller::ReplicationController => &[Kind::REPLICATION_CONTROLLER, Kind::POD],
            Controller::StatefulSet => &[
                Kind::STATEFUL_SET,
                Kind::CONTROLLER_REVISION,
                Kind::POD,
                Kind::PERSISTENT_VOLUME_CLAIM,
            ],
            Controller::DaemonSet => {
                &[Kind::DAEMON_SET, Kind::CONTROLLER_REVISION, Kind::POD, Kind::NODE]
            }
            Controller::Job => &[Kind::JOB, Kind::POD],
            Controller::CronJob => &[Kind::CRON_JOB, Kind::JOB],
            Controller::Scheduler => &[Kind::POD, Kind::NODE],
            Controller::NodeLifecycle => &[Kind::NODE, Kind::LEASE, Kind::POD],
            Controller::TaintEviction => &[Kind::NODE, Kind::POD],
            Controller::NodeIpam => &[Kind::NODE],
        }
    }
}

/// A name that is no controller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no controller of this name")]
pub struct UnknownController;

impl FromStr for Controller {
    type Err = UnknownController;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Controller::ALL.into_iter().find(|controller| controller.name() == text);
        named.ok_or(UnknownController)
    }
}

/// Defaults are Kubernetes' own; [`Settings::lab`] has the quick ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub controllers: BTreeSet<Controller>,
    /// Pods' networks, one or one of each family, cut into subnets, of each of them one per node.
    pub cluster_cidrs: Vec<IpNet>,
    /// Prefix length of a node's subnet of IPv4.
    pub node_mask: u8,
    /// The same of IPv6.
    pub node_mask_v6: u8,
    /// A node whose Lease is not renewed for so long is not ready.
    pub node_monitor_grace: Duration,
    /// The same for a node that never had a Lease: its kubelet may still be starting.
    pub node_startup_grace: Duration,
    /// Pods of a node that is not ready for so long are deleted, where they do not say another time.
    pub pod_eviction: Duration,
    /// Between two nodes of a zone that lose their pods.
    pub eviction_pause: Duration,
    /// The same where much of a large zone is not ready.
    pub slow_eviction_pause: Duration,
    /// How long a Job waits after its first failed pod; after each further one twice as long.
    pub job_backoff: Duration,
    /// At most so many endpoints in one slice; the API allows 1000.
    pub max_endpoints_per_slice: usize,
    /// Seed of the random names.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            controllers: Controller::ALL.into(),
            cluster_cidrs: vec![IpNet::new_assert([10, 244, 0, 0].into(), 16)],
            node_mask: 24,
            node_mask_v6: 64,
            node_monitor_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            pod_eviction: Duration::from_secs(300),
            eviction_pause: Duration::from_secs(10),
            slow_eviction_pause: Duration::from_secs(100),
            job_backoff: Duration::from_secs(10),
            max_endpoints_per_slice: 100,
            seed: 0,
        }
    }
}

impl Settings {
    /// For a lab, where a power cut should be seen soon, but a busy machine is no dead node.
    #[must_use]
    pub fn lab() -> Self {
        Settings {
            node_monitor_grace: Duration::from_secs(2),
            pod_eviction: Duration::from_secs(5),
            eviction_pause: Duration::ZERO,
            job_backoff: Duration::from_secs(1),
            ..Settings::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        for cluster_cidr in &self.cluster_cidrs {
            let (cluster_cidr, node_mask) = (*cluster_cidr, self.mask_of(cluster_cidr));
            if node_mask < cluster_cidr.prefix_len() || node_mask > cluster_cidr.max_prefix_len() {
                return Err(Error::NodeMask { cluster_cidr, node_mask });
            }
        }
        let max = self.max_endpoints_per_slice;
        if (1..=1000).contains(&max) { Ok(()) } else { Err(Error::SliceSize { max }) }
    }

    /// Prefix length of the subnets that this network is cut into.
    pub(crate) fn mask_of(&self, cluster_cidr: &IpNet) -> u8 {
        match cluster_cidr {
            IpNet::V4(_) => self.node_mask,
            IpNet::V6(_) => self.node_mask_v6,
        }
    }

    /// What the chosen controllers must follow, and no more.
    pub(crate) fn watches(&self) -> Vec<Watch> {
        let kinds = self.controllers.iter().flat_map(|controller| controller.kinds());
        kinds.collect::<BTreeSet<_>>().into_iter().map(|kind| watch(*kind)).collect()
    }
}

fn watch(kind: Kind) -> Watch {
    let mut watch = Watch::from(kind);
    if kind == Kind::LEASE {
        watch.namespace = Some(LEASES.to_owned());
    }
    if kind == Kind::ENDPOINT_SLICE {
        let managers = Manager::ALL.map(Manager::label).join(",");
        watch.labels = Some(format!("{} in ({managers})", Slice::MANAGED_BY));
    }
    watch
}
