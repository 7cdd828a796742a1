//! How a node tells its own traffic from others', and where it answers.

use ipnet::IpNet;

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
