//! Kubernetes objects as one valid, indexed snapshot of a cluster.
//!
//! *Here*: typed objects parsed from JSON values (manifests and API objects alike), the [`World`] that
//! indexes them, label selectors, and [`Origin`], the name of a line of somebody's YAML.
//! *Not here*: watching or writing the API (crates `client`, `apiserver`), deciding what a node does
//! with it all (crate `compile`).
//! *Start at* [`Object::parse`], then [`World::apply`].

pub mod field;
pub mod manifest;
mod name;
mod named;
pub mod object;
pub mod origin;
pub mod selector;
pub mod world;

pub use field::{Field, FieldError};
pub use object::endpoints::{Endpoint, EndpointPort, EndpointSlice};
pub use object::node::{Node, Vtep};
pub use object::pod::{Container, Pod, PodPhase, Probe, ProbeAction};
pub use object::proxy::{
    LocalDetection, NodePortAddresses, Proxy, ProxyMode, ProxyProgram, UnknownMode,
};
pub use object::service::{
    IngressMode, LoadBalancerIngress, Scheduler, Service, ServicePort, ServiceType, TrafficPolicy,
};
pub use object::service_cidr::ServiceCidr;
pub use object::virtual_ip::{Algorithm, HealthCheck, Listener, VirtualIp, Vrrp};
pub use object::workload::Deployment;
pub use object::{Family, Kind, Meta, Object, ObjectKey, PortRef, Protocol};
pub use origin::Origin;
pub use selector::Selector;
pub use world::{Change, Touched, World};
