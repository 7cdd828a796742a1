//! Where things are inside a lab: all below its own `/run`, which nobody outside sees and which goes with it.

use std::path::{Path, PathBuf};

pub(crate) const RUN: &str = "/run";
pub(crate) const NETNS: &str = "/run/netns";
pub(crate) const CONTROL: &str = "/run/podway/control.sock";
/// Plain HTTP to the API, for those who may open it.
pub const API: &str = "/run/podway/api.sock";
/// How everybody inside reaches the API.
pub const KUBECONFIG: &str = "/run/podway/kubeconfig";
pub(crate) const LOGS: &str = "/run/podway/logs";
pub(crate) const NODES: &str = "/run/podway/nodes";

/// The network namespace with this name; `ip netns` finds it too.
pub fn netns(name: &str) -> PathBuf {
    Path::new(NETNS).join(name)
}

/// The network namespace of a node.
pub fn node_netns(node: &str) -> PathBuf {
    netns(&format!("node-{node}"))
}

/// The network namespace of a pod, by `metadata.uid`.
pub fn pod_netns(uid: &str) -> PathBuf {
    netns(&format!("pod-{uid}"))
}

/// The network of a pod: its own, or that of its node.
pub(crate) fn netns_of(uid: &str, node: &str) -> PathBuf {
    let own = pod_netns(uid);
    if own.exists() { own } else { node_netns(node) }
}

pub fn client_netns() -> PathBuf {
    netns("client")
}

/// Logs of what runs on a node: `agent.log`, `edge.log`, `kubelet.log`.
pub fn node_logs(node: &str) -> PathBuf {
    Path::new(LOGS).join(node)
}

/// Logs of a pod, one file `CONTAINER.log` for each container.
pub fn pod_logs(node: &str, namespace: &str, pod: &str) -> PathBuf {
    node_logs(node).join("pods").join(format!("{namespace}_{pod}"))
}

/// Where a node's agent tells its container runtime how to wire pods.
pub fn cni_conf(node: &str) -> PathBuf {
    node_root(node).join("cni")
}

/// More arguments for a node's agent, a JSON list.
pub(crate) fn agent_arguments(node: &str) -> PathBuf {
    node_root(node).join("agent-arguments")
}

/// What stands for which image.
pub(crate) const IMAGES: &str = "/run/podway/images";

/// What the kubelet of a node keeps.
pub fn node_root(node: &str) -> PathBuf {
    Path::new(NODES).join(node)
}
