//! What a path depends on that is in no object.

use ipnet::IpNet;
use model::{LocalDetection, Node, Proxy, ProxyMode, World};
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
    /// What serves Services on nodes whose agent has not announced itself; `None`: nobody says.
    pub kube_proxy: Option<Proxy>,
    pub wishes: ProxyWishes,
}

/// Settings of service proxies that are to be taken instead of what the nodes have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyWishes {
    pub mode: Option<ProxyMode>,
    pub cluster_cidrs: Option<Vec<IpNet>>,
    pub local_detection: Option<LocalDetection>,
    pub masquerade_all: Option<bool>,
    /// As `within` of [`model::NodePortAddresses`].
    pub node_ports: Option<Option<Vec<IpNet>>>,
    pub localhost: Option<bool>,
}

impl ProxyWishes {
    fn granted(&self, mut proxy: Proxy) -> Proxy {
        fn set<T: Clone>(target: &mut T, wish: &Option<T>) {
            if let Some(wish) = wish {
                target.clone_from(wish);
            }
        }
        set(&mut proxy.mode, &self.mode);
        set(&mut proxy.cluster_cidrs, &self.cluster_cidrs);
        set(&mut proxy.local_detection, &self.local_detection);
        set(&mut proxy.masquerade_all, &self.masquerade_all);
        set(&mut proxy.node_ports.within, &self.node_ports);
        set(&mut proxy.node_ports.localhost, &self.localhost.map(|it| proxy.program.loopback(it)));
        proxy
    }
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
            kube_proxy: None,
            wishes: ProxyWishes::default(),
        }
    }

    /// The settings of a node's service proxy: as its agent announced them, as kube-proxy's are, or the defaults.
    pub(crate) fn proxy_of(&self, node: &Node) -> Proxy {
        let announced = node.proxy.as_ref().and_then(|proxy| proxy.as_ref().ok());
        let known = announced.or(self.kube_proxy.as_ref()).cloned();
        let mut proxy =
            self.wishes.granted(known.unwrap_or_else(|| Proxy::podway(self.cluster_cidrs.clone())));
        if proxy.cluster_cidrs.is_empty() {
            proxy.cluster_cidrs.clone_from(&self.cluster_cidrs);
        }
        proxy
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
