//! Ports on which load balancers ask whether this node has endpoints (`healthCheckNodePort`).

use crate::health::Status;
use crate::http::{self, Answer};
use program::{Change, HealthCheckPort, Program};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The servers, one for each port, on all addresses of the node.
pub(crate) struct HealthPorts {
    status: watch::Receiver<Status>,
    servers: BTreeMap<u16, Server>,
}

struct Server {
    wanted: watch::Sender<HealthCheckPort>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthPorts {
    pub(crate) fn new(status: watch::Receiver<Status>) -> Self {
        HealthPorts { status, servers: BTreeMap::new() }
    }

    /// Makes the servers those of the program.
    pub(crate) fn follow(&mut self, program: &Program) {
        self.servers.retain(|port, _| program.health_checks.get(port).is_some());
        for (port, wanted) in program.health_checks.iter() {
            self.set(*port, Some(wanted));
        }
    }

    /// Makes the servers those after a change.
    pub(crate) fn change(&mut self, change: &Change) {
        if let Change::HealthCheck { port, after, .. } = change {
            self.set(*port, after.as_ref());
        }
    }

    fn set(&mut self, port: u16, wanted: Option<&HealthCheckPort>) {
        match (wanted, self.servers.get(&port)) {
            (Some(wanted), Some(server)) => drop(server.wanted.send_replace(wanted.clone())),
            (Some(wanted), None) => {
                let server = self.start(port, wanted);
                self.servers.insert(port, server);
            }
            (None, _) => drop(self.servers.remove(&port)),
        }
    }

    fn start(&self, port: u16, wanted: &HealthCheckPort) -> Server {
        let (sender, receiver) = watch::channel(wanted.clone());
        let status = self.status.clone();
        let answer = move |_path| {
            let answer = answer(&receiver.borrow(), status.borrow().keeps_up());
            std::future::ready(answer)
        };
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let what = format!("health check of {}", wanted.service);
        let task = tokio::spawn(async move { http::serve(address, &what, answer).await });
        Server { wanted: sender, task: task.abort_handle() }
    }
}

fn answer(port: &HealthCheckPort, healthy: bool) -> Answer {
    let local = port.local_endpoints;
    let body = json!({
        "service": {"namespace": &*port.service.namespace, "name": &*port.service.name},
        "localEndpoints": local,
        "serviceProxyHealthy": healthy,
    });
    let mut answer = Answer::json(if local > 0 && healthy { 200 } else { 503 }, &body);
    answer.headers.push(("x-content-type-options", "nosniff".to_owned()));
    answer.headers.push(("x-load-balancing-endpoint-weight", local.to_string()));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Kind, ObjectKey, Origin};

    #[test]
    fn a_node_with_endpoints_and_a_healthy_proxy_is_sent_connections() {
        let port = |local_endpoints| HealthCheckPort {
            service: ObjectKey::new("default", "web"),
            local_endpoints,
            origin: Origin::new(Kind::Service, &"default".into(), &"web".into(), ""),
        };
        for (local, healthy, status) in
            [(2, true, 200), (0, true, 503), (2, false, 503), (0, false, 503)]
        {
            let answer = answer(&port(local), healthy);
            assert_eq!(answer.status, status, "{local} endpoints, healthy: {healthy}");
            assert_eq!(answer.content_type, "application/json");
            let weight = ("x-load-balancing-endpoint-weight", local.to_string());
            assert_eq!(answer.headers[0], ("x-content-type-options", "nosniff".to_owned()));
            assert_eq!(answer.headers[1], weight);
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            let expected = json!({"service": {"namespace": "default", "name": "web"},
                "localEndpoints": local, "serviceProxyHealthy": healthy});
            assert_eq!(body, expected);
        }
    }
}
