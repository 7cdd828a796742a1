//! The names of chains: kube-proxy's, and Podway's for what kube-proxy has no chain for.

use model::{Family, Protocol};
use program::ServicePortName;
use ring::digest::{SHA256, digest};
use std::net::SocketAddr;

pub const SERVICES: &str = "KUBE-SERVICES";
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
pub const MARK_MASQUERADE: &str = "KUBE-MARK-MASQ";
pub const FORWARD: &str = "KUBE-FORWARD";
pub const FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// Made by kube-proxy to notice that somebody flushed its tables; here: the sign that it has been at work.
pub const KUBE_PROXY_CANARY: &str = "KUBE-PROXY-CANARY";

/// The sign that Podway has been at work.
pub const CANARY: &str = "PODWAY-CANARY";
/// Pods that leave the cluster.
pub const LEAVING: &str = "PODWAY-POSTROUTING";
/// Marks what is not of a pod, where more than one prefix tells.
pub const FROM_OUTSIDE: &str = "PODWAY-FROM-OUTSIDE";
/// Cluster IPs: their unknown ports are refused.
pub const SERVICE_ADDRESSES: &str = "PODWAY-SERVICE-ADDRESSES";
/// Those outside of the ServiceCIDRs.
pub const STRAY_ADDRESSES: &str = "PODWAY-STRAY-ADDRESSES";
/// Node ports without endpoints.
pub const REFUSED_NODE_PORTS: &str = "PODWAY-NODE-PORTS";
/// Keeps others from the node's loopback addresses.
pub const LOOPBACK: &str = "PODWAY-LOOPBACK";

/// The beginnings of the names of chains that belong to one Service port.
pub mod prefix {
    pub const CLUSTER: &str = "KUBE-SVC-";
    pub const LOCAL: &str = "KUBE-SVL-";
    pub const EXTERNAL: &str = "KUBE-EXT-";
    pub const FIREWALL: &str = "KUBE-FW-";
    pub const ENDPOINT: &str = "KUBE-SEP-";
    /// kube-proxy's up to version 1.23.
    const OLD_LOCAL: &str = "KUBE-XLB-";

    pub(super) const ALL: [&str; 6] = [CLUSTER, LOCAL, EXTERNAL, FIREWALL, ENDPOINT, OLD_LOCAL];
}

/// kube-proxy's other chains, in its modes iptables and ipvs.
const KUBE_PROXY: [&str; 13] = [
    SERVICES,
    EXTERNAL_SERVICES,
    NODE_PORTS,
    POSTROUTING,
    MARK_MASQUERADE,
    FORWARD,
    FIREWALL,
    KUBE_PROXY_CANARY,
    "KUBE-LOAD-BALANCER",
    "KUBE-NODE-PORT",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

/// Whether it is a chain that the rules are kept in.
pub fn is_own(chain: &str) -> bool {
    is_kube_proxys(chain) || is_podways(chain)
}

/// Whether kube-proxy makes a chain of this name, in its modes iptables and ipvs. The kubelet's are others.
pub fn is_kube_proxys(chain: &str) -> bool {
    KUBE_PROXY.contains(&chain) || prefix::ALL.iter().any(|prefix| chain.starts_with(prefix))
}

/// Whether Podway makes chains of this name and nobody else.
pub fn is_podways(chain: &str) -> bool {
    chain.starts_with("PODWAY-")
}

/// A port of a Service in one family: what chains are named after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    pub name: ServicePortName,
    pub protocol: Protocol,
    pub family: Family,
}

impl PortKey {
    /// The chain with one of the prefixes of a whole Service port.
    pub fn chain(&self, prefix: &str) -> String {
        self.hashed(prefix, "")
    }

    pub fn endpoint_chain(&self, endpoint: SocketAddr) -> String {
        self.hashed(prefix::ENDPOINT, &endpoint.to_string())
    }

    /// `portProtoHash` and `servicePortEndpointChainName` of pkg/proxy/iptables.
    fn hashed(&self, prefix: &str, rest: &str) -> String {
        let protocol = self.protocol.to_string().to_lowercase();
        let digest = digest(&SHA256, format!("{}{protocol}{rest}", self.name).as_bytes());
        let mut name = prefix.to_owned();
        base32(&digest.as_ref()[..HASHED_OCTETS], &mut name);
        name
    }
}

/// As many as sixteen characters of base 32 stand for.
const HASHED_OCTETS: usize = 10;

/// RFC 4648, §6, of whole groups of five octets.
fn base32(octets: &[u8], into: &mut String) {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    for group in octets.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
        for place in (0..8).rev() {
            let index = usize::try_from(bits >> (place * 5) & 31).unwrap_or_default();
            into.push(char::from(ALPHABET[index]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ObjectKey;

    /// Names that are in the dumps of every cluster.
    #[test]
    fn names_are_kube_proxys() {
        let key = |service: &str, port: &str, protocol| PortKey {
            name: ServicePortName {
                service: ObjectKey::new("default", service),
                port: port.into(),
            },
            protocol,
            family: Family::V4,
        };
        let api = key("kubernetes", "https", Protocol::Tcp);
        assert_eq!(api.chain(prefix::CLUSTER), "KUBE-SVC-NPX46M4PTMTKRN6Y");
        let dns = PortKey {
            name: ServicePortName {
                service: ObjectKey::new("kube-system", "kube-dns"),
                port: "dns".into(),
            },
            ..key("", "", Protocol::Udp)
        };
        assert_eq!(dns.chain(prefix::CLUSTER), "KUBE-SVC-TCOU7JCQXEZGVUNU");
        for ours in ["KUBE-SERVICES", "KUBE-SEP-ABC", "KUBE-XLB-1", "KUBE-PROXY-CANARY"] {
            assert!(is_kube_proxys(ours), "{ours}");
        }
        for other in ["KUBE-KUBELET-CANARY", "KUBE-FIREWALL", "KUBE-IPTABLES-HINT", "DOCKER"] {
            assert!(!is_kube_proxys(other) && !is_podways(other), "{other}");
        }
    }
}
