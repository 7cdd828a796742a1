//! What others need before they can do anything: the API and DNS.

use program::{Binding, Frontend, Program};
use std::collections::BTreeMap;

/// Where DNS answers.
const DNS: u16 = 53;

/// The program with nothing but its vital Services; `None` where there is none, or nothing else.
pub(super) fn program(all: &Program) -> Option<Program> {
    let mut by_service = BTreeMap::new();
    let mut left_out = 0;
    for (frontend, binding) in all.services.iter() {
        if is_vital(frontend, binding) {
            let of_service: &mut BTreeMap<_, _> =
                by_service.entry(&binding.port.service).or_default();
            of_service.insert(*frontend, binding.clone());
        } else {
            left_out += 1;
        }
    }
    if by_service.is_empty() || left_out == 0 {
        return None;
    }
    let mut vital = Program {
        addresses: all.addresses.clone(),
        node_ports: all.node_ports.clone(),
        pod_sources: all.pod_sources.clone(),
        networks: all.networks.clone(),
        service_cidrs: all.service_cidrs.clone(),
        pods: all.pods.clone(),
        ..Program::default()
    };
    for (service, bindings) in by_service {
        vital.replace_service(service, bindings, BTreeMap::new());
    }
    Some(vital)
}

fn is_vital(frontend: &Frontend, binding: &Binding) -> bool {
    let service = &binding.port.service;
    match (&*service.namespace, &*service.name) {
        ("default", "kubernetes") => true,
        ("kube-system", _) => frontend.port == DNS,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Kind, ObjectKey, Origin, Protocol};
    use program::{Action, FrontendKind, Scope, ServicePortName};
    use std::net::IpAddr;

    fn with(services: &[(&str, &str, u16)]) -> Program {
        let mut program = Program::default();
        for (host, (namespace, name, port)) in (1..).zip(services) {
            let service = ObjectKey::new(namespace, name);
            let address = IpAddr::from([10, 96, 0, host]);
            let scope = Scope::Address(address);
            let frontend = Frontend { scope, protocol: Protocol::Tcp, port: *port };
            let binding = Binding {
                port: ServicePortName { service: service.clone(), port: "".into() },
                kind: FrontendKind::ClusterIp,
                origin: Origin::new(Kind::Service, &service.namespace, &service.name, ""),
                sources: None,
                action: Action::Reject,
                affinity: None,
                scheduler: None,
                standing: [].into(),
            };
            program.replace_service(&service, [(frontend, binding)].into(), BTreeMap::new());
        }
        program
    }

    #[test]
    fn vital_are_the_api_and_dns() {
        let api = ("default", "kubernetes", 443);
        let dns = ("kube-system", "kube-dns", 53);
        let all = [("a", "web", 80), api, dns, ("kube-system", "metrics", 443), ("a", "dns", 53)];
        let vital = program(&with(&all)).unwrap();
        let names = vital.services.iter().map(|(_, binding)| binding.port.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["default/kubernetes", "kube-system/kube-dns"]);
        assert!(program(&with(&[api, dns])).is_none(), "all of it is vital");
        assert!(program(&with(&all[..1])).is_none(), "none of it is");
    }
}
