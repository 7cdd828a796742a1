//! What is noteworthy about a path, with stable codes.

use model::Origin;
use std::fmt;

/// A remark on the path: a cause, a surprise, or an assumption that the answer rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub text: String,
    /// The object and field that it is about.
    pub origin: Option<Origin>,
    /// What to do about it, with the path of the field in YAML.
    pub fix: Option<String>,
}

impl Finding {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Finding { code, text: text.into(), origin: None, fix: None }
    }

    pub(crate) fn about(self, origin: Origin) -> Self {
        Finding { origin: Some(origin), ..self }
    }

    pub(crate) fn fix(self, fix: impl Into<String>) -> Self {
        Finding { fix: Some(fix.into()), ..self }
    }
}

macro_rules! codes {
    ($($variant:ident $code:literal $meaning:literal)*) => {
        /// Stable codes in kebab case, never changed once released.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
            /// What the compiler found wrong with an object on the path.
            Compile(compile::Code),
        }

        impl Code {
            /// Every code of this crate, with what it means.
            pub const ALL: &[(Code, &str)] = &[$((Code::$variant, $meaning)),*];
        }

        impl fmt::Display for Code {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Code::$variant => f.write_str($code),)*
                    Code::Compile(code) => code.fmt(f),
                }
            }
        }
    };
}

codes! {
    AsymmetricReply "asymmetric-reply"
        "The reply comes back with other addresses than the request had: the sender discards it."
    BalancerRetries "balancer-retries"
        "A connection attempt that fails is made again at another back end: the client waits, but is served."
    ClientAddressReplaced "client-address-replaced"
        "The receiver sees another source address than the sender's own."
    ClusterIpFromOutside "cluster-ip-from-outside"
        "A cluster IP exists only in the rules of the nodes: hosts outside have no way to it."
    EndpointsBehind "endpoints-behind"
        "Ready pods match the Service, but its EndpointSlices do not list them (yet)."
    EndpointOnDeadNode "endpoint-on-dead-node"
        "Connections still go to an endpoint on a node that is down."
    HostNetwork "host-network"
        "The pod shares its node's network: its packets are the node's."
    Imagined "imagined"
        "The answer is about manifests: what they leave open is made up; assumption: all of it runs and is ready."
    KubeProxy "kube-proxy"
        "kube-proxy serves Services on the node, with the settings of its ConfigMap."
    ListenerUnknown "listener-unknown"
        "No object says whether anything listens there; assumption: undecided."
    NamedPortMissing "named-port-missing"
        "targetPort is a name that no container port of the selected pods has."
    NoEndpoints "no-endpoints"
        "The Service port has no endpoint that could answer: connections are refused."
    NoLocalEndpoint "no-local-endpoint"
        "The traffic policy is Local and this node has no endpoint: connections are dropped."
    NoHealthyBackend "no-healthy-backend"
        "Every back end of the balancer fails its health check."
    NoPods "no-pods"
        "The objects hold no pods at all: workload controllers have not run."
    NoSuchHost "no-such-host"
        "Nobody on the underlay has the address: ARP goes unanswered."
    NoWay "no-way"
        "The address is behind the gateway, and nothing there has it."
    NodeDown "node-down"
        "The node is not Ready and taken to be off; packets to it are lost."
    NodePortNotOnAddress "node-port-not-on-address"
        "Node ports answer on those addresses of a node that --nodeport-addresses names, and this is another one."
    NodePortNotOnVirtualIp "node-port-not-on-virtual-ip"
        "Node ports answer on the nodes' own addresses, never on a virtual IP; that needs a listener."
    NotListening "not-listening"
        "The host is reached, but no program listens on the port."
    OutsideUnknown "outside-unknown"
        "The packet leaves what the objects describe; assumption: undecided."
    PodIpFromOutside "pod-ip-from-outside"
        "Pod addresses are known on nodes and pods only: hosts outside have no way to them."
    PodNotReady "pod-not-ready"
        "The pod is not Ready: Services leave it out, direct connections still reach it."
    PodNotRunning "pod-not-running"
        "The pod's containers do not run."
    PodsNotReady "pods-not-ready"
        "Pods match the Service's selector, but none of them is Ready."
    PortNotDeclared "port-not-declared"
        "No container of the pod declares the port."
    ProxyAssumed "proxy-assumed"
        "Nobody says how the node serves Services; assumption: as podway agent does without options."
    ProxyRelays "proxy-relays"
        "The node's service proxy is in mode userspace: it takes the connection and makes another one to the endpoint."
    ProxyUnreadable "proxy-unreadable"
        "The annotation podway.io/agent of the node makes no sense; assumption: its agent has no options."
    ReplyDirect "reply-direct"
        "The reply goes straight to the sender's node, where connection tracking puts the Service's address back."
    ReplyThroughTranslator "reply-through-translator"
        "The reply goes back through the node that chose the endpoint, because it put in its own address as source."
    RoutingLoop "routing-loop"
        "The packet goes round in circles until its TTL ends."
    SelectorMatchesNothing "selector-matches-nothing"
        "No pod of the namespace has the labels that the Service selects."
    SomeFail "some-fail"
        "Some of the possible choices fail."
    SourceNotAllowed "source-not-allowed"
        "loadBalancerSourceRanges does not hold the sender's address: connections are dropped."
    SourceAssumed "source-assumed"
        "No object has the source address; assumption: a host outside of the cluster."
    UnallocatedServiceAddress "unallocated-service-address"
        "No Service has this address of a ServiceCIDR: packets to it are dropped."
    UnknownAddress "unknown-address"
        "No pod, node, Service or virtual IP has the address."
    UnknownServicePort "unknown-service-port"
        "The Service has the address but not the port: connections are refused."
    VirtualIpOwnerDown "virtual-ip-owner-down"
        "The node last reported to hold the virtual IP is down; another takes over."
    VirtualIpUnheld "virtual-ip-unheld"
        "No living node takes part in the virtual IP: nobody answers for it."
}

impl Code {
    /// The compiler's codes, with what they mean.
    pub const OF_COMPILER: &[(compile::Code, &str)] = &[
        (compile::Code::NodeWithoutAddress, "The node has no InternalIP: it cannot be reached."),
        (compile::Code::NodeWithoutSubnet, "The node has no podCIDR: it can have no pods."),
        (
            compile::Code::SubnetOutsideCluster,
            "The node's podCIDR lies outside of the cluster's pod network.",
        ),
        (
            compile::Code::NodeWithoutTunnel,
            "The node has not announced its end of the VXLAN: its pods cannot be reached from other nodes.",
        ),
        (
            compile::Code::NoEndpoints,
            "A Service port has no endpoint that could answer: connections are refused.",
        ),
        (compile::Code::NoClusterIp, "The Service has no cluster IP yet."),
        (
            compile::Code::SchedulerUnknown,
            "The annotation podway.io/lb-algorithm names a scheduler that there is not.",
        ),
        (
            compile::Code::SchedulerUnsupported,
            "The node's service proxy does not have the scheduler that podway.io/lb-algorithm names.",
        ),
        (compile::Code::VirtualIpTaken, "The virtual IP is also an ordinary address of a node."),
        (
            compile::Code::VirtualRouterIdTaken,
            "Two virtual IPs share a virtualRouterId: only the first one works.",
        ),
        (compile::Code::VirtualIpWithoutNodes, "No node matches the virtual IP's nodeSelector."),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_kebab_case_and_sorted() {
        let codes: Vec<String> = Code::ALL.iter().map(|(code, _)| code.to_string()).collect();
        assert!(codes.iter().all(|code| code.chars().all(|c| c == '-' || c.is_ascii_lowercase())));
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
