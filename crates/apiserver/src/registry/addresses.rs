//! `IPAddress` objects: each cluster IP has one, which says whose it is.

use super::{Part, Registry, Write};
use crate::resources::Kind;
use crate::store::{Change, Key, Object};
use crate::time;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The range that is there from the beginning.
const DEFAULT: &str = "kubernetes";

impl Registry {
    /// Makes and removes the addresses of a service that changed.
    pub(super) fn settle_addresses(&mut self, change: &Change, now: i64) {
        if change.kind != Kind::Service {
            return;
        }
        let of = |object: &Option<std::sync::Arc<Object>>| {
            object.as_ref().map(|object| addresses(&object.value)).unwrap_or_default()
        };
        let (old, new) = (of(&change.old), of(&change.new));
        for address in old.difference(&new) {
            self.store.remove(Kind::IPAddress, &Key::new("", &address.to_string()));
        }
        for address in new.difference(&old) {
            let made =
                self.create(Kind::IPAddress, "", object(*address, &change.key), Write::own(now));
            if let Err(error) = made {
                tracing::warn!(%error, "an address has no object");
            }
        }
    }
}

impl Registry {
    /// A range is ready as soon as it is there: addresses are given out here.
    pub(super) fn settle_range(&mut self, change: &Change, now: i64) {
        const CONTROLLER: &str = "kubernetes-service-cidr-controller";
        let Some(new) = change.new.as_ref().filter(|_| change.kind == Kind::ServiceCIDR) else {
            return;
        };
        if !new.value["status"]["conditions"].is_null() {
            return;
        }
        let name = &change.key.name;
        let default = if name == DEFAULT { "default " } else { "" };
        let ready = json!({"type": "Ready", "status": "True",
            "message": format!("Kubernetes {default}Service CIDR is ready"),
            "lastTransitionTime": time::rfc3339(now)});
        let status = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name}, "status": {"conditions": [ready]}});
        let write = Write { manager: CONTROLLER, ..Write::own(now) };
        let told = self.apply(change.kind, &change.key, Part::Status, status, true, write);
        if let Err(error) = told {
            tracing::warn!(%error, name, "a range is not ready");
        }
    }
}

fn addresses(service: &Value) -> BTreeSet<IpAddr> {
    let addresses = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    addresses.filter_map(|address| address.as_str()?.parse().ok()).collect()
}

fn object(address: IpAddr, service: &Key) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let labels = json!({
        "ipaddress.kubernetes.io/ip-family": family,
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    });
    let parent = json!({
        "group": "", "resource": "services", "namespace": service.namespace, "name": service.name,
    });
    json!({"metadata": {"name": address.to_string(), "labels": labels}, "spec": {"parentRef": parent}})
}
