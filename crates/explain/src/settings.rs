//! What a path depends on that is in no object.

use ipnet::IpNet;
use model::World;
use std::net::{IpAddr, SocketAddr};

/// The surroundings of a cluster's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// All pods' addresses.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where cluster IPs come from.
    pub service_cidrs: Vec<IpNet>,
    /// The network of the nodes: hosts in it find each other by ARP, all others are behind the gateway.
    pub underlay: Option<IpNet>,
    /// The host that `client` stands for.
    pub client: Option<IpAddr>,
    /// The API server, where it is neither pod nor node.
    pub api_server: Option<SocketAddr>,
    pub environment: Environment,
}

/// How much is known about what listens and what is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// All of it: nothing listens but pods and balancers, containers without a command run the
    /// built-in server on their declared ports, and nothing is behind the gateway.
    Lab,
    /// Only what the objects say.
    Cluster,
}

impl Settings {
    /// The defaults of `podway lab` and kubeadm with flannel; the underlay is taken to be the /24 (or /64)
    /// of the first node.
    pub fn of(world: &World, environment: Environment) -> Self {
        let nets = |text: &str| vec![text.parse().expect("a constant prefix")];
        Settings {
            cluster_cidrs: nets("10.244.0.0/16"),
            service_cidrs: nets("10.96.0.0/12"),
            underlay: world.nodes().find_map(|node| node.addresses.first()).map(|ip| around(*ip)),
            client: None,
            api_server: None,
            environment,
        }
    }

    pub(crate) fn is_pod_address(&self, address: IpAddr) -> bool {
        self.cluster_cidrs.iter().any(|net| net.contains(&address))
    }

    pub(crate) fn is_service_address(&self, address: IpAddr) -> bool {
        self.service_cidrs.iter().any(|net| net.contains(&address))
    }

    /// Whether hosts of the underlay ask for this address by ARP.
    pub(crate) fn is_on_underlay(&self, address: IpAddr) -> bool {
        self.underlay.is_some_and(|net| net.contains(&address))
    }
}

fn around(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).expect("24 and 64 are lengths of prefixes").trunc()
}
