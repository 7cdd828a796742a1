//! What holds for the whole cluster or node and is in no object.

use ipnet::IpNet;
use model::Scheduler;
use program::NodePortAddresses;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// All pods' addresses (`--cluster-cidr`).
    pub cluster_cidrs: Vec<IpNet>,
    /// How this cluster's pods are told from others (`--detect-local-mode`).
    pub local_detection: LocalDetection,
    /// Connections to cluster IPs get the node's address as source even if they are of pods (`--masquerade-all`).
    pub masquerade_all: bool,
    pub node_ports: NodePortAddresses,
    /// What the node's back end can do.
    pub schedulers: Vec<Scheduler>,
}

/// The modes of kube-proxy's `--detect-local-mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalDetection {
    /// Sources in the cluster's pod network.
    ClusterCidr,
    /// Sources in the node's own pod subnets.
    NodeCidr,
    /// What comes in through this bridge.
    BridgeInterface(String),
    /// What comes in through interfaces whose names begin so.
    InterfaceNamePrefix(String),
}

impl Settings {
    /// As kube-proxy is without options, on a node whose back end draws slots.
    pub fn new(cluster_cidrs: Vec<IpNet>) -> Self {
        Settings {
            cluster_cidrs,
            local_detection: LocalDetection::ClusterCidr,
            masquerade_all: false,
            node_ports: NodePortAddresses::default(),
            schedulers: program::slots::SCHEDULERS.to_vec(),
        }
    }
}
