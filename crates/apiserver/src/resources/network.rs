//! Groups `networking.k8s.io`, `discovery.k8s.io` and `podway.io`.

use super::columns::{AGE, NAME, column};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, network, service};

const NETWORKING: Resource = Resource { group: "networking.k8s.io", generation: true, ..CORE };

pub(super) const INGRESS: Resource = Resource {
    kind: Kind::Ingress,
    name: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    status: StatusRule::Separate,
    columns: &[
        NAME,
        column("Class", Cell::At("/spec/ingressClassName")),
        column("Hosts", Cell::Of(network::ingress_hosts)),
        column("Address", Cell::Of(network::ingress_addresses)),
        column("Ports", Cell::Of(network::ingress_ports)),
        AGE,
    ],
    ..NETWORKING
};

pub(super) const INGRESS_CLASS: Resource = Resource {
    kind: Kind::IngressClass,
    name: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    columns: &[
        NAME,
        column("Controller", Cell::At("/spec/controller")),
        column("Parameters", Cell::Of(network::class_parameters)),
        AGE,
    ],
    ..NETWORKING
};

pub(super) const NETWORK_POLICY: Resource = Resource {
    kind: Kind::NetworkPolicy,
    name: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    columns: &[NAME, column("Pod-Selector", Cell::Of(network::pod_selector)), AGE],
    ..NETWORKING
};

pub(super) const IP_ADDRESS: Resource = Resource {
    kind: Kind::IPAddress,
    name: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    columns: &[NAME, column("ParentRef", Cell::Of(network::address_parent))],
    generation: false,
    ..NETWORKING
};

pub(super) const SERVICE_CIDR: Resource = Resource {
    kind: Kind::ServiceCIDR,
    name: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    status: StatusRule::Separate,
    columns: &[NAME, column("CIDRs", Cell::Of(network::cidrs)), AGE],
    generation: false,
    ..NETWORKING
};

pub(super) const ENDPOINT_SLICE: Resource = Resource {
    kind: Kind::EndpointSlice,
    group: "discovery.k8s.io",
    name: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    generation: true,
    columns: &[
        NAME,
        column("AddressType", Cell::At("/addressType")),
        column("Ports", Cell::Of(service::slice_ports)),
        column("Endpoints", Cell::Of(service::slice_endpoints)),
        AGE,
    ],
    ..CORE
};

pub(super) const VIRTUAL_IP: Resource = Resource {
    kind: Kind::VirtualIP,
    group: "podway.io",
    version: "v1alpha1",
    name: "VirtualIP",
    plural: "virtualips",
    singular: "virtualip",
    short_names: &["vip"],
    namespaced: false,
    status: StatusRule::Separate,
    generation: true,
    columns: &[
        NAME,
        column("Addresses", Cell::Of(network::virtual_ip_addresses)),
        column("Listeners", Cell::Of(network::virtual_ip_listeners)),
        column("Node", Cell::At("/status/node")),
        AGE,
    ],
    ..CORE
};
