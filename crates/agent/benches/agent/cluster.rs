//! An API with a node and many Services, the same ones as `cargo xtask kube-proxy-shape` describes.

use crate::AT_ONCE;
use apiserver::{ApiServer, Config};
use client::Client;
use futures::StreamExt;
use kernel::netlink::Socket;
use kernel::route::{self, Change};
use netstate::{Address, Link, LinkKind};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
}

impl Size {
    /// `SERVICESxENDPOINTS`.
    pub(crate) fn of(text: &str) -> Self {
        let (services, endpoints) = text.split_once('x').unwrap();
        Size { services: services.parse().unwrap(), endpoints: endpoints.parse().unwrap() }
    }
}

/// Writes all of it; returns the newest version of an EndpointSlice.
pub(crate) async fn fill(client: &Client, size: Size) -> u64 {
    let objects = (0..size.services).flat_map(|it| [service(it), slice(it, size.endpoints, 0)]);
    let writes = objects.map(|object| {
        let client = client.clone();
        async move { client::create(&client, &object).await.unwrap() }
    });
    futures::stream::iter(writes).buffer_unordered(AT_ONCE).fold(0, newest).await
}

/// A node's underlay, and an API that knows the node.
pub(crate) async fn api() -> (Client, String) {
    let eth0 = Link { name: "eth0".into(), kind: LinkKind::Bridge, mac: None, mtu: None, up: true };
    let address = Address { device: "eth0".into(), net: "10.1.1.110/24".parse().unwrap() };
    let lo = Change::SetUp { device: "lo".into(), up: true };
    let changes = [lo, Change::AddLink(eth0), Change::AddAddress(address)];
    route::apply(&mut Socket::route().unwrap(), &changes).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = ApiServer::new(&Config::new(address)).unwrap();
    tokio::spawn(api.serve(listener, std::future::pending()));
    let server = format!("http://{address}");
    let client = client::connect(None, Some(&server)).await.unwrap();
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]},
    });
    client::create(&client, &node).await.unwrap();
    (client, server)
}

pub(crate) async fn newest(newest: u64, object: Value) -> u64 {
    let is_slice = object["kind"] == "EndpointSlice";
    let version = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    if is_slice { newest.max(version) } else { newest }
}

fn service(number: u32) -> Value {
    let address = Ipv4Addr::from(0x0a60_0100 + number);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{number}"), "namespace": "default",
                     "labels": {"app": format!("service-{number}")}},
        "spec": {"clusterIP": address, "selector": {"app": format!("service-{number}")}, "ports": [{"port": 80}]},
    })
}

/// As the endpoint slice controller writes it. The first endpoint's address depends on `round`.
pub(crate) fn slice(service: u32, endpoints: u32, round: u32) -> Value {
    let endpoint = |index: u32| {
        let number = service * endpoints + index;
        let shift = if index == 0 { round * 131 } else { 0 };
        let name = format!("service-{service}-7d4b9c6f58-{number:05x}");
        json!({
            "addresses": [Ipv4Addr::from(0x0a80_0001 + (number + shift) % 0x7f_0000)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", number % 100),
            "targetRef": {"kind": "Pod", "namespace": "default", "name": name},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("service-{service}-x7k2p"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": format!("service-{service}"),
                                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}
