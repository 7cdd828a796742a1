//! Who serves a Service, and the way to a pod.

use super::containers::{ask, place_of};
use crate::containers::ContainerRequest;
use crate::error::Error;
use crate::registry::Registry;
use crate::resources::Kind;
use crate::server::ApiServer;
use crate::store::{Key, Object};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// One of those that serve a Service.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// None: no pod of this cluster, or one that is gone.
    pub(super) pod: Option<Arc<Object>>,
    pub(super) address: String,
    pub(super) port: u16,
}

/// The name of a Service's port, which may be empty.
pub(super) fn port_name<'a>(service: &'a Value, key: &Key, number: u64) -> Result<&'a str, String> {
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.find(|it| it["port"] == number);
    let missing = || format!("no service port {number} found for service {:?}", key.name);
    found.map(|it| it["name"].as_str().unwrap_or_default()).ok_or_else(missing)
}

/// Any of those that are ready and have a port of this name. None: nobody is.
pub(super) fn endpoint(
    registry: &Registry,
    key: &Key,
    port: &str,
    fits: impl Fn(&Endpoint) -> bool,
) -> Option<Endpoint> {
    let slices = registry.store.list(Kind::EndpointSlice, Some(&key.namespace), None);
    let own = slices.filter(|(_, slice)| {
        slice.value["metadata"]["labels"]["kubernetes.io/service-name"] == *key.name
    });
    let mut found: Vec<_> =
        own.flat_map(|(_, slice)| ready(registry, key, &slice.value, port)).filter(fits).collect();
    let draw = RandomState::new().hash_one(&key.name) % (found.len().max(1) as u64);
    let at = usize::try_from(draw).ok().filter(|at| *at < found.len())?;
    Some(found.swap_remove(at))
}

fn ready(registry: &Registry, key: &Key, slice: &Value, port: &str) -> Vec<Endpoint> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.find(|it| it["name"].as_str().unwrap_or_default() == port);
    let Some(port) = port.and_then(|it| u16::try_from(it["port"].as_u64()?).ok()) else {
        return Vec::new();
    };
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|it| it["conditions"]["ready"] != false);
    let endpoint = |it: &Value| {
        let target = &it["targetRef"];
        let pod = target["name"].as_str().filter(|_| target["kind"] == "Pod");
        let pod = pod.and_then(|pod| registry.store.get(Kind::Pod, &Key::new(&key.namespace, pod)));
        Some(Endpoint { pod, address: it["addresses"][0].as_str()?.to_owned(), port })
    };
    ready.filter_map(endpoint).collect()
}

/// Connects with a pod from its node.
pub(super) async fn connect(
    server: &ApiServer,
    pod: &Value,
    port: u16,
) -> Result<TcpStream, Error> {
    let container = place_of(pod)?;
    let (reply, answer) = oneshot::channel();
    ask(server, ContainerRequest::Connect { container, port, reply }, answer).await
}
