use ipnet::IpNet;

/// Why the controllers do not run. An API that is away is no reason: they wait for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cluster CIDR {cluster_cidr} cannot be cut into subnets of /{node_mask}")]
    NodeMask { cluster_cidr: IpNet, node_mask: u8 },
    #[error("an EndpointSlice holds 1 to 1000 endpoints, not {max}")]
    SliceSize { max: usize },
}
