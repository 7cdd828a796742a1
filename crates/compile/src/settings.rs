//! What holds for the whole cluster or node and is in no object.

use ipnet::IpNet;
use model::{LocalDetection, Proxy, ProxyMode, Scheduler};
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

impl Settings {
    /// As kube-proxy is without options, on a node whose back end draws slots.
    pub fn new(cluster_cidrs: Vec<IpNet>) -> Self {
        Settings {
            cluster_cidrs,
            local_detection: LocalDetection::ClusterCidr,
            masquerade_all: false,
            node_ports: NodePortAddresses::default(),
            schedulers: ProxyMode::Nft.schedulers().to_vec(),
        }
    }

    /// Those of a node whose service proxy said them.
    pub fn of(proxy: &Proxy) -> Self {
        Settings {
            cluster_cidrs: proxy.cluster_cidrs.clone(),
            local_detection: proxy.local_detection.clone(),
            masquerade_all: proxy.masquerade_all,
            node_ports: proxy.node_ports.clone(),
            schedulers: proxy.mode.schedulers().to_vec(),
        }
    }
}
