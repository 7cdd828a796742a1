//! Where a packet ends: in a pod, in a program of a node, outside, nowhere.

use super::Walk;
use crate::finding::{Code, Finding};
use crate::path::{End, Host, Receiver, Stage, Verdict};
use crate::settings::Environment;
use model::{Kind, ObjectKey, Origin, Pod, PodPhase};
use program::{Arrival, Packet};
use std::net::IpAddr;
use std::sync::Arc;

/// Whether a pod's programs listen on a port, as far as its object tells.
enum Listening {
    /// This container declares it.
    Declared { container: String, origin: Origin },
    /// The built-in server, which opens declared ports only.
    No,
    /// Some program of its own may or may not.
    Perhaps,
}

impl Walk<'_> {
    pub(super) fn at_pod(&mut self, node: &Arc<str>, key: &ObjectKey) -> End {
        let host = Host::Pod(key.clone());
        let Some(pod) = self.cluster.world.pod(key) else {
            let text = format!("pod {key} does not exist any more");
            return self.stop(Verdict::Dropped, &host, Code::UnknownAddress, &text);
        };
        if pod.phase != PodPhase::Running {
            let text = format!("pod {key} does not run (phase {:?})", pod.phase);
            let origin = Some(pod_origin(key, "status.phase"));
            let code = Code::PodNotRunning;
            return self.stop_at(Stage::Refuse, Verdict::Refused, &host, code, &text, origin);
        }
        if !pod.ready {
            let text = format!(
                "pod {key} is not Ready: Services leave it out, a direct connection reaches it"
            );
            let finding = Finding::new(Code::PodNotReady, text);
            self.findings.push(finding.about(pod_origin(key, "status.conditions")));
        }
        self.enter_pod(pod, &host, node)
    }

    fn enter_pod(&mut self, pod: &Pod, host: &Host, node: &Arc<str>) -> End {
        let key = &pod.meta.key;
        let port = self.packet.destination.port();
        let declared: Vec<_> = pod
            .containers
            .iter()
            .flat_map(|container| &container.ports)
            .map(|port| format!("{}/{}", port.port, port.protocol))
            .collect();
        let declared = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        let undeclared = Finding::new(
            Code::PortNotDeclared,
            format!("no container of pod {key} declares port {port}; declared: {declared}"),
        )
        .about(pod_origin(key, "spec.containers"));
        match self.listening(pod) {
            Listening::Declared { container, origin } => {
                let sees = self.packet.source.ip();
                let rule = format!(
                    "container {container} listens on {port}; it sees {sees} as its client"
                );
                self.deliver(host, &rule, Some(origin), Some(node))
            }
            Listening::No => {
                let fix = format!(
                    "spec.containers[0].ports: add containerPort: {port}, or ask for a declared port"
                );
                self.findings.push(undeclared.fix(fix));
                let text = format!(
                    "nothing in pod {key} listens on {port}; its declared ports: {declared}"
                );
                self.stop(Verdict::Refused, host, Code::NotListening, &text)
            }
            Listening::Perhaps => {
                self.findings.push(undeclared);
                let text = format!(
                    "the packet reaches pod {key}; no object says whether anything there listens on {port}"
                );
                self.arrive_unsure(host, Code::ListenerUnknown, &text)
            }
        }
    }

    fn listening(&self, pod: &Pod) -> Listening {
        let packet = self.packet;
        for (i, container) in pod.containers.iter().enumerate() {
            for (j, port) in container.ports.iter().enumerate() {
                if port.port == packet.destination.port() && port.protocol == packet.protocol {
                    let field = format!("spec.containers[{i}].ports[{j}]");
                    let origin = pod_origin(&pod.meta.key, &field);
                    return Listening::Declared { container: container.name.clone(), origin };
                }
            }
        }
        let built_in = pod.containers.iter().all(|container| container.command.is_empty());
        match self.cluster.settings.environment {
            Environment::Lab if built_in => Listening::No,
            Environment::Lab | Environment::Cluster => Listening::Perhaps,
        }
    }

    /// To the node itself, on a port that is no Service's.
    pub(super) fn at_process(&mut self, node: &Arc<str>) -> End {
        let host = Host::Node(node.clone());
        if let Some((pod, origin)) = self.host_network_listener(node, self.packet) {
            let rule = format!("pod {pod} listens on the node's own network");
            let end = self.deliver(&host, &rule, Some(origin), Some(node));
            if let Some(receiver) = &mut self.receiver {
                receiver.host = Host::Pod(pod);
            }
            return end;
        }
        let to = self.destination();
        let hint = self.listener_elsewhere();
        let node_port = self.not_on_this_address(node);
        match self.cluster.settings.environment {
            Environment::Lab => {
                let text = node_port.unwrap_or_else(|| {
                    format!("nothing on the node listens on {to}, and no Service has it as node port{hint}")
                });
                self.stop(Verdict::Refused, &host, Code::NotListening, &text)
            }
            Environment::Cluster => {
                let service =
                    node_port.unwrap_or_else(|| "no Service has it as node port".to_owned());
                let text = format!(
                    "{to} is the node's own, and {service}; whether a program listens there is not known{hint}"
                );
                self.arrive_unsure(&host, Code::ListenerUnknown, &text)
            }
        }
    }

    /// A virtual IP's listener with the same port, which somebody may have meant.
    fn listener_elsewhere(&self) -> String {
        let port = self.packet.destination.port();
        let mut vips = self.cluster.world.virtual_ips();
        let vip = vips.find(|vip| vip.listeners.iter().any(|listener| listener.port == port));
        let address = vip.and_then(|vip| vip.addresses.first());
        address.map_or_else(String::new, |address| {
            format!(" (the balancer listens on the virtual IP {address} only)")
        })
    }

    /// The pod on the node's own network that listens where the packet goes.
    pub(super) fn host_network_listener(
        &self,
        node: &str,
        packet: Packet,
    ) -> Option<(ObjectKey, Origin)> {
        let pods = self.cluster.world.pods_on(node);
        let mut pods = pods.filter(|pod| pod.host_network && pod.phase == PodPhase::Running);
        pods.find_map(|pod| {
            let here = |port: &&model::object::pod::ContainerPort| {
                port.port == packet.destination.port() && port.protocol == packet.protocol
            };
            let mut containers = pod.containers.iter().enumerate();
            let (index, _) = containers.find(|(_, it)| it.ports.iter().any(|port| here(&port)))?;
            let origin = pod_origin(&pod.meta.key, &format!("spec.containers[{index}].ports"));
            Some((pod.meta.key.clone(), origin))
        })
    }

    /// On the nodes' own network: whoever has the address takes the packet.
    pub(super) fn on_underlay(&mut self) -> End {
        let destination = self.packet.destination.ip();
        let world = self.cluster.world;
        if let Some(node) = world.node_with_address(destination) {
            return self.at_node(&node.meta.key.name, Arrival::Underlay);
        }
        if let Some(vip) = world.virtual_ips().find(|vip| vip.addresses.contains(&destination)) {
            let Some(holder) = super::holder(self.cluster, vip) else {
                let key = &vip.meta.key;
                let text = format!(
                    "nobody holds {destination}: no living node takes part in VirtualIP {key}"
                );
                let origin =
                    Origin::new(Kind::VirtualIp, &key.namespace, &key.name, "spec.nodeSelector");
                let code = Code::VirtualIpUnheld;
                return self.stop_at(
                    Stage::Drop,
                    Verdict::Dropped,
                    &self.sender(),
                    code,
                    &text,
                    Some(origin),
                );
            };
            return self.at_node(&holder.node, Arrival::Underlay);
        }
        if self.cluster.settings.client == Some(destination) {
            let text =
                "the packet reaches the client; no object says whether anything listens there";
            return self.arrive_unsure(&Host::Client, Code::ListenerUnknown, text);
        }
        self.beyond(destination)
    }

    fn beyond(&mut self, destination: IpAddr) -> End {
        let settings = self.cluster.settings;
        if settings.api_server == Some(self.packet.destination) {
            return self.deliver(&Host::Gateway, "the API server listens here", None, None);
        }
        if settings.is_service_address(destination) || settings.is_pod_address(destination) {
            return self.cluster_address_outside(destination);
        }
        if settings.is_on_underlay(destination) {
            if settings.api_server.is_some_and(|api| api.ip() == destination) {
                let text = format!("nothing listens on {}", self.destination());
                return self.stop(Verdict::Refused, &Host::Gateway, Code::NotListening, &text);
            }
            let text = format!("nobody has {destination}: ARP goes unanswered");
            return match settings.environment {
                Environment::Lab => {
                    self.stop(Verdict::Dropped, &self.sender(), Code::NoSuchHost, &text)
                }
                Environment::Cluster => self.outside_unknown(destination),
            };
        }
        match settings.environment {
            Environment::Lab => {
                let text = format!(
                    "nothing is behind the lab's gateway, so there is no way to {destination}"
                );
                self.stop(Verdict::Dropped, &Host::Gateway, Code::NoWay, &text)
            }
            Environment::Cluster => self.outside_unknown(destination),
        }
    }

    fn outside_unknown(&mut self, destination: IpAddr) -> End {
        let text = format!("the packet leaves for {destination}, of which no object says anything");
        self.arrive_unsure(&Host::Outside(destination), Code::OutsideUnknown, &text)
    }

    /// Addresses that only nodes know what to do with have come to the gateway.
    fn cluster_address_outside(&mut self, destination: IpAddr) -> End {
        let world = self.cluster.world;
        if let Some(end) = self.without_tunnel(destination) {
            return end;
        }
        let service = world.services().find(|service| service.cluster_ips.contains(&destination));
        let pod = world.pod_with_address(destination);
        let (code, text, fix) = match (service, pod) {
            (Some(service), _) => (
                Code::ClusterIpFromOutside,
                format!(
                    "{destination} is the cluster IP of Service {}: it exists only in the rules of nodes",
                    service.meta.key
                ),
                Some(
                    "from outside, ask for a node port or a virtual IP (Service .spec.type: NodePort)",
                ),
            ),
            (None, Some(pod)) => (
                Code::PodIpFromOutside,
                format!(
                    "{destination} is pod {}: only nodes and pods know the way to it",
                    pod.meta.key
                ),
                Some(
                    "from outside, ask for a node port or a virtual IP (Service .spec.type: NodePort)",
                ),
            ),
            (None, None) if self.cluster.settings.is_service_address(destination) => {
                let text = format!("no Service has the cluster IP {destination}");
                (Code::UnknownAddress, text, None)
            }
            (None, None) => {
                let text = format!(
                    "no pod has the address {destination}, and no node has a subnet with it that it announced"
                );
                (Code::UnknownAddress, text, None)
            }
        };
        let mut finding = Finding::new(code, text.clone());
        finding.fix = fix.map(str::to_owned);
        self.findings.push(finding);
        let text = format!("{text}; the gateway has no way to it");
        self.stop(Verdict::Dropped, &Host::Gateway, code, &text)
    }

    /// A node sent it to the gateway because it has no tunnel to the pod's node.
    fn without_tunnel(&mut self, destination: IpAddr) -> Option<End> {
        let Host::Node(from) = self.sender() else { return None };
        let holds =
            |node: &&model::Node| node.pod_cidrs.iter().any(|net| net.contains(&destination));
        let to = &self.cluster.world.nodes().find(holds)?.meta.key.name;
        let text = format!(
            "{destination} lies on node/{to}, to which node/{from} has no tunnel: it has not announced its end"
        );
        let origin = Origin::new(Kind::Node, &"".into(), to, "metadata.annotations");
        let code = Code::Compile(compile::Code::NodeWithoutTunnel);
        let fix = format!(
            "see why no agent runs on node/{to}: it writes the annotations flannel.alpha.coreos.com/*"
        );
        self.findings.push(Finding::new(code, text.clone()).about(origin.clone()).fix(fix));
        Some(self.stop_at(Stage::Drop, Verdict::Dropped, &Host::Gateway, code, &text, Some(origin)))
    }

    fn deliver(
        &mut self,
        host: &Host,
        rule: &str,
        origin: Option<Origin>,
        node: Option<&Arc<str>>,
    ) -> End {
        self.hop(host, Stage::Deliver, rule, origin);
        let (address, sees) = (self.packet.destination, self.packet.source.ip());
        self.receiver = Some(Receiver { host: host.clone(), address, sees, node: node.cloned() });
        End { verdict: Verdict::Delivered, host: host.clone(), text: rule.to_owned(), code: None }
    }

    /// The packet gets there, but the answer is not in the objects.
    fn arrive_unsure(&mut self, host: &Host, code: Code, text: &str) -> End {
        self.findings.push(Finding::new(code, text));
        self.stop_at(Stage::Deliver, Verdict::Unknown, host, code, text, None)
    }

    /// Whoever sent the packet last.
    fn sender(&self) -> Host {
        self.hops.last().map_or(Host::Gateway, |hop| hop.host.clone())
    }
}

fn pod_origin(key: &ObjectKey, field: &str) -> Origin {
    Origin::new(Kind::Pod, &key.namespace, &key.name, field)
}
