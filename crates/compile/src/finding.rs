//! What is wrong or noteworthy in somebody's objects.

use model::Origin;
use std::fmt;

/// A remark on an object, with a stable code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub origin: Origin,
    pub text: String,
}

/// Stable codes of findings: words in kebab case, never changed once released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A node without an InternalIP cannot be reached.
    NodeWithoutAddress,
    /// A node without podCIDR has no pods.
    NodeWithoutSubnet,
    /// A node's podCIDR lies outside of the cluster's.
    SubnetOutsideCluster,
    /// A node has not announced its tunnel end.
    NodeWithoutTunnel,
    /// A Service port has no endpoint that could answer.
    NoEndpoints,
    /// A Service has no cluster address yet.
    NoClusterIp,
    /// The annotation of a Service names a scheduler that there is not.
    SchedulerUnknown,
    /// The node's back end does not have the scheduler that a Service names.
    SchedulerUnsupported,
    /// A virtual IP is also an ordinary address of a node.
    VirtualIpTaken,
    /// Two virtual IPs share a virtual router id.
    VirtualRouterIdTaken,
    /// No node takes part in a virtual IP.
    VirtualIpWithoutNodes,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::NodeWithoutAddress => "node-without-address",
            Code::NodeWithoutSubnet => "node-without-subnet",
            Code::SubnetOutsideCluster => "subnet-outside-cluster",
            Code::NodeWithoutTunnel => "node-without-tunnel",
            Code::NoEndpoints => "no-endpoints",
            Code::NoClusterIp => "no-cluster-ip",
            Code::SchedulerUnknown => "scheduler-unknown",
            Code::SchedulerUnsupported => "scheduler-unsupported",
            Code::VirtualIpTaken => "virtual-ip-taken",
            Code::VirtualRouterIdTaken => "virtual-router-id-taken",
            Code::VirtualIpWithoutNodes => "virtual-ip-without-nodes",
        })
    }
}
