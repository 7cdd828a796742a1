//! Why a Service has nobody to answer: its selector joined with the pods there are.

use crate::finding::{Code, Finding};
use crate::question::PortText;
use model::ObjectKey;
use model::{Kind, Node, Origin, Pod, PodPhase, PortRef, Service, World};
use program::{Packet, ServicePortName};
use std::collections::BTreeMap;

/// Names shown before the rest is counted.
const SHOWN: usize = 3;

/// The causes for a Service port without endpoints, the decisive one first.
pub(crate) fn no_endpoints(world: &World, port: &ServicePortName) -> Vec<Finding> {
    let Some(service) = world.service(&port.service) else { return Vec::new() };
    let key = &service.meta.key;
    let Some(selector) = &service.selector else {
        let text = format!(
            "Service {key} has no selector, and no EndpointSlice made by hand lists an endpoint"
        );
        let fix = format!(
            "label an EndpointSlice kubernetes.io/service-name: {}, or give .spec.selector",
            key.name
        );
        let finding = Finding::new(Code::NoEndpoints, text).about(origin(key, "spec.selector"));
        return vec![finding.fix(fix)];
    };
    let here = |pod: &&Pod| pod.meta.key.namespace == key.namespace;
    let selected: Vec<&Pod> =
        world.pods().filter(here).filter(|pod| selector.matches(&pod.meta.labels)).collect();
    if selected.is_empty() {
        return vec![nothing_selected(world, service, &selector.match_labels())];
    }
    let ready: Vec<&Pod> = selected.iter().copied().filter(|pod| is_ready(pod)).collect();
    if ready.is_empty() && !service.publish_not_ready_addresses {
        return vec![none_ready(world, &selected)];
    }
    vec![missing_port(service, port, &ready).unwrap_or_else(|| behind(service, &ready))]
}

fn is_ready(pod: &Pod) -> bool {
    pod.ready && !pod.phase.is_over() && !pod.meta.terminating
}

fn nothing_selected(
    world: &World,
    service: &Service,
    wanted: &BTreeMap<String, String>,
) -> Finding {
    let key = &service.meta.key;
    let labels = label_text(wanted);
    let making = world.deployments().find(|deployment| {
        deployment.meta.key.namespace == key.namespace && {
            let makes = deployment.selector.match_labels();
            wanted.iter().all(|(name, value)| makes.get(name) == Some(value))
        }
    });
    if let Some(deployment) = making {
        let text = format!(
            "its selector {labels} matches no pod; Deployment {} (replicas: {}) would make such pods, but there are none",
            deployment.meta.key, deployment.replicas
        );
        let field = Origin::new(
            Kind::Deployment,
            &deployment.meta.key.namespace,
            &deployment.meta.key.name,
            "spec.replicas",
        );
        let finding = Finding::new(Code::NoPods, text).about(field);
        return if deployment.replicas == 0 {
            finding.fix(format!("Deployment {} .spec.replicas: at least 1", deployment.meta.key))
        } else {
            finding
        };
    }
    let text = format!("its selector {labels} matches no pod in namespace {}", key.namespace);
    let near = near_miss(world, key, wanted);
    let text =
        near.as_ref().map_or(text.clone(), |(pod, has)| format!("{text}; pod {pod} has {has}"));
    let fix = match &near {
        Some((pod, has)) => format!(
            "Service {key} .spec.selector: {has} (as pod {pod}), or Pod .metadata.labels: {labels}"
        ),
        None => format!("Service {key} .spec.selector: the labels of the pods that should answer"),
    };
    let code = Code::SelectorMatchesNothing;
    Finding::new(code, text).about(origin(key, "spec.selector")).fix(fix)
}

/// The pod that comes nearest to the labels, and what it has under their names.
fn near_miss(
    world: &World,
    service: &ObjectKey,
    wanted: &BTreeMap<String, String>,
) -> Option<(ObjectKey, String)> {
    let has = |pod: &Pod| -> BTreeMap<String, String> {
        let labels = &pod.meta.labels;
        wanted.keys().filter_map(|name| Some((name.clone(), labels.get(name)?.clone()))).collect()
    };
    let right = |pod: &Pod| {
        wanted.iter().filter(|(name, value)| pod.meta.labels.get(*name) == Some(value)).count()
    };
    let close = |pod: &Pod| -> usize {
        let labels = has(pod);
        labels.iter().filter(|(name, value)| shares_letters(value, &wanted[*name])).count()
    };
    let pods = world.pods().filter(|pod| pod.meta.key.namespace == service.namespace);
    let candidates = pods.filter(|pod| right(pod) + close(pod) > 0);
    let best =
        candidates.max_by_key(|pod| (right(pod), close(pod), std::cmp::Reverse(&pod.meta.key)))?;
    Some((best.meta.key.clone(), label_text(&has(best))))
}

fn shares_letters(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    a.contains(b) || b.contains(a) || sorted(a) == sorted(b)
}

fn none_ready(world: &World, selected: &[&Pod]) -> Finding {
    let dead_node = |pod: &Pod| {
        pod.node.as_deref().and_then(|name| world.node(name)).filter(|node| !node.ready)
    };
    let state = |pod: &&Pod| format!("{} ({})", pod.meta.key, pod_state(pod, dead_node(pod)));
    let pods: Vec<String> = selected.iter().take(SHOWN).map(state).collect();
    let more = selected.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let text = format!(
        "{} its selector, but none is Ready: {}{more}",
        match_text(selected.len()),
        pods.join(", ")
    );
    let finding = Finding::new(Code::PodsNotReady, text);
    // A pod that could be mended is worth more words than one that is lost with its node.
    let Some(pod) = selected.iter().find(|pod| dead_node(pod).is_none()).or(selected.first())
    else {
        return finding;
    };
    mend(finding, pod, dead_node(pod))
}

fn mend(finding: Finding, pod: &Pod, dead_node: Option<&Node>) -> Finding {
    let key = &pod.meta.key;
    if let Some(node) = dead_node {
        let name = &node.meta.key.name;
        let origin = Origin::new(Kind::Node, &"".into(), name, "status.conditions");
        return finding
            .about(origin)
            .fix(format!("bring node/{name} back, or let the pods run elsewhere"));
    }
    let origin = |field: &str| Origin::new(Kind::Pod, &key.namespace, &key.name, field);
    match pod.containers.iter().position(|container| container.readiness.is_some()) {
        Some(index) => {
            let field = format!("spec.containers[{index}].readinessProbe");
            let fix = format!("make the probe succeed, or correct it: Pod {key} .{field}");
            finding.about(origin(&field)).fix(fix)
        }
        None => {
            let fix = format!(
                "see what keeps it: kubectl describe pod -n {} {}",
                key.namespace, key.name
            );
            finding.about(origin("status.conditions")).fix(fix)
        }
    }
}

fn pod_state(pod: &Pod, down: Option<&Node>) -> String {
    match (pod.phase, down) {
        (_, Some(node)) => format!("on node/{}, which is down", node.meta.key),
        _ if pod.meta.terminating => "terminating".to_owned(),
        (PodPhase::Running, None) if pod.containers.iter().any(|it| it.readiness.is_some()) => {
            "running, readiness probe fails".to_owned()
        }
        (PodPhase::Running, None) => "running, not Ready".to_owned(),
        (PodPhase::Pending, None) if pod.node.is_none() => "not on any node yet".to_owned(),
        (PodPhase::Pending, None) => "starting".to_owned(),
        (PodPhase::Succeeded, None) => "has ended".to_owned(),
        (PodPhase::Failed, None) => "has failed".to_owned(),
        (PodPhase::Unknown, None) => "state unknown".to_owned(),
    }
}

fn missing_port(service: &Service, port: &ServicePortName, ready: &[&Pod]) -> Option<Finding> {
    let key = &service.meta.key;
    let index = service.ports.iter().position(|have| *have.name == *port.port)?;
    let have = &service.ports[index];
    let PortRef::Name(name) = &have.target else { return None };
    if ready.iter().any(|pod| pod.port(&have.target, have.protocol).is_some()) {
        return None;
    }
    let ports = ready.iter().flat_map(|pod| &pod.containers).flat_map(|container| &container.ports);
    let mut names: Vec<String> = ports
        .map(|port| match &port.name {
            Some(name) => format!("{name} ({})", port.port),
            None => format!("{} (no name)", port.port),
        })
        .collect();
    names.sort();
    names.dedup();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let text = format!("its targetPort is named {name}, but its pods have the ports {names}");
    let field = format!("spec.ports[{index}].targetPort");
    let fix = format!("Service {key} .{field}: the name or number of a container port");
    Some(Finding::new(Code::NamedPortMissing, text).about(origin(key, &field)).fix(fix))
}

fn behind(service: &Service, ready: &[&Pod]) -> Finding {
    let key = &service.meta.key;
    let pods: Vec<_> = ready.iter().take(SHOWN).map(|pod| pod.meta.key.to_string()).collect();
    let text = format!(
        "{} its selector, Ready ({}), but no EndpointSlice lists them: the controller that makes slices is behind or off",
        match_text(ready.len()),
        pods.join(", ")
    );
    Finding::new(Code::EndpointsBehind, text).about(origin(key, "spec.selector"))
}

/// A cluster IP was asked for a port that its Service does not have.
pub(crate) fn unknown_port(world: &World, service: &ObjectKey, packet: Packet) -> Finding {
    let wanted = packet.destination.port();
    let ports = world.service(service).map_or(&[][..], |service| &service.ports);
    let has: Vec<String> = ports.iter().map(|port| PortText(port).to_string()).collect();
    let mut text =
        format!("Service {service} has {}, not {wanted}/{}", has.join(", "), packet.protocol);
    let target = ports
        .iter()
        .find(|port| port.target == PortRef::Number(wanted) || port.node_port == Some(wanted));
    if let Some(port) = target {
        let what =
            if port.node_port == Some(wanted) { "the node port" } else { "the pods' own port" };
        text.push_str(&format!("; {wanted} is {what} behind {}", port.port));
    }
    let fix = format!("ask for one of these, or add it to Service {service} .spec.ports");
    Finding::new(Code::UnknownServicePort, text).about(origin(service, "spec.ports")).fix(fix)
}

fn origin(service: &ObjectKey, field: &str) -> Origin {
    Origin::new(Kind::Service, &service.namespace, &service.name, field)
}

fn label_text(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

fn match_text(pods: usize) -> String {
    if pods == 1 { "1 pod matches".to_owned() } else { format!("{pods} pods match") }
}
