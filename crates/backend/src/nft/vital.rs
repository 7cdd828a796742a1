//! What others need before they can do anything: the API and DNS.

use program::{Binding, Frontend};

/// Where DNS answers.
const DNS: u16 = 53;

pub(super) fn is_vital(frontend: &Frontend, binding: &Binding) -> bool {
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

    #[test]
    fn vital_are_the_api_and_dns() {
        let is_vital = |namespace: &str, name: &str, port| {
            let service = ObjectKey::new(namespace, name);
            let scope = Scope::Address(IpAddr::from([10, 96, 0, 1]));
            let frontend = Frontend { scope, protocol: Protocol::Tcp, port };
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
            is_vital(&frontend, &binding)
        };
        assert!(is_vital("default", "kubernetes", 443));
        assert!(is_vital("kube-system", "kube-dns", 53));
        assert!(!is_vital("kube-system", "metrics", 443));
        assert!(!is_vital("a", "dns", 53));
        assert!(!is_vital("a", "web", 80));
    }
}
