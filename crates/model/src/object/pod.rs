//! Pods.

use crate::field::{Field, FieldError};
use crate::object::lifecycle::Lifecycle;
use crate::object::{Meta, PortRef, Protocol};
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub meta: Meta,
    /// `spec.nodeName`; `None`: not scheduled yet.
    pub node: Option<String>,
    pub host_network: bool,
    pub containers: Vec<Container>,
    /// Those of init containers that go on beside the others (`restartPolicy: Always`).
    pub sidecar_ports: Vec<ContainerPort>,
    /// `spec.hostname` and `spec.subdomain`.
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Vec<IpAddr>,
    pub phase: PodPhase,
    /// The Ready condition is True.
    pub ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl PodPhase {
    /// No container will run again, and the address may already belong to another pod.
    pub fn is_over(self) -> bool {
        matches!(self, PodPhase::Succeeded | PodPhase::Failed)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub ports: Vec<ContainerPort>,
    pub readiness: Option<Probe>,
    pub liveness: Option<Probe>,
    pub startup: Option<Probe>,
    pub lifecycle: Lifecycle,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub port: u16,
    pub protocol: Protocol,
}

/// A probe with the API's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub action: ProbeAction,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAction {
    HttpGet {
        path: String,
        port: PortRef,
        host: Option<String>,
        headers: Vec<(String, String)>,
        https: bool,
    },
    TcpSocket {
        port: PortRef,
        host: Option<String>,
    },
    Exec {
        command: Vec<String>,
    },
    Grpc {
        port: u16,
        service: String,
    },
}

impl Pod {
    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let text = |field: Field<'_>| -> Result<Option<String>, FieldError> {
            Ok(field.optional_text()?.filter(|text| !text.is_empty()).map(str::to_owned))
        };
        Ok(Pod {
            node: text(spec.at("nodeName"))?,
            host_network: spec.at("hostNetwork").optional_bool()?.unwrap_or(false),
            containers: containers(&spec)?,
            sidecar_ports: sidecar_ports(&spec)?,
            hostname: text(spec.at("hostname"))?,
            subdomain: text(spec.at("subdomain"))?,
            addresses: addresses(&status)?,
            phase: phase(&status.at("phase"))?,
            ready: is_ready(&status)?,
            meta,
        })
    }

    /// The number of a port given by number or by name and protocol, as `targetPort` is resolved.
    pub fn port(&self, reference: &PortRef, protocol: Protocol) -> Option<u16> {
        match reference {
            PortRef::Number(number) => Some(*number),
            PortRef::Name(name) => self
                .containers
                .iter()
                .flat_map(|container| &container.ports)
                .chain(&self.sidecar_ports)
                .find(|port| port.name.as_ref() == Some(name) && port.protocol == protocol)
                .map(|port| port.port),
        }
    }
}

/// The containers of a pod's or a pod template's `spec`.
pub(super) fn containers(spec: &Field<'_>) -> Result<Vec<Container>, FieldError> {
    let containers = spec.at("containers");
    let parsed: Vec<_> =
        containers.items()?.iter().map(Container::parse).collect::<Result<_, _>>()?;
    if parsed.is_empty() { Err(containers.error("at least one container")) } else { Ok(parsed) }
}

impl Container {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Container {
            name: field.at("name").text()?.to_owned(),
            image: field.at("image").optional_text()?.unwrap_or_default().to_owned(),
            command: texts(&field.at("command"))?,
            args: texts(&field.at("args"))?,
            env: environment(&field.at("env"))?,
            ports: ports(field)?,
            readiness: Probe::parse(&field.at("readinessProbe"))?,
            liveness: Probe::parse(&field.at("livenessProbe"))?,
            startup: Probe::parse(&field.at("startupProbe"))?,
            lifecycle: Lifecycle::parse(&field.at("lifecycle"))?,
        })
    }
}

fn sidecar_ports(spec: &Field<'_>) -> Result<Vec<ContainerPort>, FieldError> {
    let mut all = Vec::new();
    for container in spec.at("initContainers").items()? {
        if container.at("restartPolicy").optional_text()? == Some("Always") {
            all.append(&mut ports(&container)?);
        }
    }
    Ok(all)
}

fn ports(container: &Field<'_>) -> Result<Vec<ContainerPort>, FieldError> {
    container.at("ports").items()?.iter().map(ContainerPort::parse).collect()
}

impl ContainerPort {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(ContainerPort {
            name: field.at("name").optional_text()?.map(str::to_owned),
            port: field.at("containerPort").port()?,
            protocol: Protocol::parse(&field.at("protocol"))?,
        })
    }
}

impl Probe {
    fn parse(field: &Field<'_>) -> Result<Option<Self>, FieldError> {
        if !field.is_present() {
            return Ok(None);
        }
        let number = |name, default: u32| {
            Ok::<_, FieldError>(
                field.at(name).optional_number("a whole number, not negative")?.unwrap_or(default),
            )
        };
        let seconds = |name, default| Ok(Duration::from_secs(number(name, default)?.into()));
        Ok(Some(Probe {
            action: ProbeAction::parse(field)?,
            initial_delay: seconds("initialDelaySeconds", 0)?,
            period: seconds("periodSeconds", 10)?.max(Duration::from_secs(1)),
            timeout: seconds("timeoutSeconds", 1)?.max(Duration::from_secs(1)),
            success_threshold: number("successThreshold", 1)?.max(1),
            failure_threshold: number("failureThreshold", 3)?.max(1),
        }))
    }
}

impl ProbeAction {
    pub(super) fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let host = |action: &Field<'_>| -> Result<Option<String>, FieldError> {
            Ok(action.at("host").optional_text()?.map(str::to_owned))
        };
        let port = |action: &Field<'_>| {
            let port = action.at("port");
            PortRef::parse(&port)?.ok_or_else(|| port.error("a port number or name"))
        };
        let (http, tcp) = (field.at("httpGet"), field.at("tcpSocket"));
        let (exec, grpc) = (field.at("exec"), field.at("grpc"));
        if http.is_present() {
            return Ok(ProbeAction::HttpGet {
                path: http.at("path").optional_text()?.unwrap_or("/").to_owned(),
                port: port(&http)?,
                host: host(&http)?,
                headers: headers(&http.at("httpHeaders"))?,
                https: http.at("scheme").optional_text()? == Some("HTTPS"),
            });
        }
        if tcp.is_present() {
            return Ok(ProbeAction::TcpSocket { port: port(&tcp)?, host: host(&tcp)? });
        }
        if exec.is_present() {
            return Ok(ProbeAction::Exec { command: texts(&exec.at("command"))? });
        }
        if grpc.is_present() {
            let service = grpc.at("service").optional_text()?.unwrap_or_default().to_owned();
            return Ok(ProbeAction::Grpc { port: grpc.at("port").port()?, service });
        }
        Err(field.error("one of httpGet, tcpSocket, exec, grpc"))
    }
}

fn texts(field: &Field<'_>) -> Result<Vec<String>, FieldError> {
    field.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

/// Name and value pairs; entries with `valueFrom` have no value here and are left out.
fn environment(field: &Field<'_>) -> Result<Vec<(String, String)>, FieldError> {
    let entries = field.items()?;
    let entries = entries.iter().filter(|entry| !entry.at("valueFrom").is_present());
    entries
        .map(|entry| {
            let value = entry.at("value").optional_text()?.unwrap_or_default();
            Ok((entry.at("name").text()?.to_owned(), value.to_owned()))
        })
        .collect()
}

fn headers(field: &Field<'_>) -> Result<Vec<(String, String)>, FieldError> {
    let pair = |item: &Field<'_>| {
        Ok((item.at("name").text()?.to_owned(), item.at("value").text()?.to_owned()))
    };
    field.items()?.iter().map(pair).collect()
}

fn addresses(status: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    let mut listed: Vec<_> =
        status.at("podIPs").items()?.iter().map(|entry| entry.at("ip")).collect();
    let single = status.at("podIP");
    if listed.is_empty() && single.optional_text()?.is_some_and(|text| !text.is_empty()) {
        listed.push(single);
    }
    listed.iter().map(Field::ip).collect()
}

fn phase(field: &Field<'_>) -> Result<PodPhase, FieldError> {
    Ok(match field.optional_text()? {
        None | Some("" | "Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some(_) => PodPhase::Unknown,
    })
}

fn is_ready(status: &Field<'_>) -> Result<bool, FieldError> {
    for condition in status.at("conditions").items()? {
        if condition.at("type").text()? == "Ready" {
            return Ok(condition.at("status").text()? == "True");
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use crate::object::{Object, PortRef, Protocol};
    use serde_json::json;

    #[test]
    fn a_port_is_found_by_its_name_in_all_that_goes_on() {
        let container = |name: &str, port: u16, policy: Option<&str>| {
            json!({"name": name, "restartPolicy": policy, "ports": [
                {"name": name, "containerPort": port},
                {"name": name, "containerPort": port + 1, "protocol": "UDP"},
            ]})
        };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "containers": [container("main", 80, None)],
                "initContainers": [container("once", 90, None), container("mesh", 100, Some("Always"))],
            },
        });
        let Ok(Object::Pod(pod)) = Object::parse(&pod) else { panic!("{pod}") };
        for (name, tcp, udp) in
            [("main", Some(80), Some(81)), ("once", None, None), ("mesh", Some(100), Some(101))]
        {
            let name = PortRef::Name(name.into());
            let found = [Protocol::Tcp, Protocol::Udp].map(|protocol| pod.port(&name, protocol));
            assert_eq!(found, [tcp, udp], "{name:?}");
        }
    }
}
