//! How a node tells its own traffic from others', and where it answers.

use ipnet::IpNet;

/// Which of the node's addresses node ports answer on (`--nodeport-addresses`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePortAddresses {
    /// All local addresses within these prefixes; `None`: the first address of each family.
    pub within: Option<Vec<IpNet>>,
    /// Loopback addresses too, for processes of the node.
    pub localhost: bool,
}

/// How connections of this cluster's pods are recognised (`--detect-local-mode`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodSources {
    /// By their source addresses.
    Cidrs(Vec<IpNet>),
    /// They come in through this interface.
    Interface(String),
    /// They come in through an interface whose name begins so.
    InterfacePrefix(String),
}

impl Default for PodSources {
    fn default() -> Self {
        PodSources::Cidrs(Vec::new())
    }
}
