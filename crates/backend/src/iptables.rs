//! The service table in iptables, in kube-proxy's shape and with kube-proxy's names.
//!
//! ```text
//! nat     PREROUTING, OUTPUT ─► KUBE-SERVICES ─► KUBE-SVC-… (cluster IP) ────────────► KUBE-SEP-… ─► DNAT
//!                                 │              KUBE-SVL-… (endpoints on this node) ─►
//!                                 ├─► KUBE-FW-… (allowed sources) ─► KUBE-EXT-… ─► KUBE-SVC-…, KUBE-SVL-…
//!                                 └─► KUBE-NODEPORTS ──────────────► KUBE-EXT-…
//!         POSTROUTING ─► KUBE-POSTROUTING: marked → masquerade;  PODWAY-POSTROUTING: pods leave the cluster
//! filter  INPUT, FORWARD, OUTPUT ─► KUBE-SERVICES, KUBE-EXTERNAL-SERVICES: no endpoints → reject or drop
//!                                   KUBE-PROXY-FIREWALL: not an allowed source → drop;  KUBE-FORWARD
//! ```
//!
//! A chain belongs to a port of a Service, so the change of one is a few chains, and a few rules of the shared ones.

mod apply;
mod clean;
pub mod frame;
pub mod lower;
pub mod names;
mod port;
pub mod read;
pub mod tool;

pub use apply::{Applied, Backend, Written};
pub use clean::{clean, remove_kube_proxys};
pub use netstate::iptables::TableName;
pub use tool::{Error, Tool, Variant};
