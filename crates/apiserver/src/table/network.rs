//! Cells of ingresses, policies, addresses and virtual IPs.

use super::{NONE, items, joined, texts};
use serde_json::Value;

pub(crate) fn ingress_hosts(ingress: &Value) -> Value {
    let rules = items(&ingress["spec"]["rules"]);
    let mut hosts: Vec<&str> = rules.filter_map(|rule| rule["host"].as_str()).collect();
    hosts.retain(|host| !host.is_empty());
    match hosts.len() {
        0 => "*".into(),
        1..=3 => hosts.join(",").into(),
        more => format!("{} + {} more...", hosts[..3].join(","), more - 3).into(),
    }
}

pub(crate) fn ingress_addresses(ingress: &Value) -> Value {
    let points = items(&ingress["status"]["loadBalancer"]["ingress"]);
    let addresses = points.filter_map(|it| it["ip"].as_str().or_else(|| it["hostname"].as_str()));
    addresses.collect::<Vec<_>>().join(",").into()
}

pub(crate) fn ingress_ports(ingress: &Value) -> Value {
    let encrypted = items(&ingress["spec"]["tls"]).next().is_some();
    if encrypted { "80, 443" } else { "80" }.into()
}

pub(crate) fn class_parameters(class: &Value) -> Value {
    let parameters = &class["spec"]["parameters"];
    let text = |field: &str| parameters[field].as_str().unwrap_or_default();
    match text("apiGroup") {
        _ if parameters.is_null() => NONE.into(),
        "" => format!("{}/{}", text("kind"), text("name")).into(),
        group => format!("{}.{group}/{}", text("kind"), text("name")).into(),
    }
}

pub(crate) fn pod_selector(policy: &Value) -> Value {
    super::selector(&policy["spec"]["podSelector"], NONE)
}

pub(crate) fn address_parent(address: &Value) -> Value {
    let parent = &address["spec"]["parentRef"];
    let parts = ["group", "resource", "namespace", "name"];
    let parts = parts.iter().filter_map(|part| parent[*part].as_str());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("/").into()
}

pub(crate) fn cidrs(range: &Value) -> Value {
    joined(texts(&range["spec"]["cidrs"]))
}

pub(crate) fn virtual_ip_addresses(vip: &Value) -> Value {
    joined(texts(&vip["spec"]["addresses"]))
}

pub(crate) fn virtual_ip_listeners(vip: &Value) -> Value {
    let listener = |l: &Value| format!("{}/{}", l["port"], l["protocol"].as_str().unwrap_or("TCP"));
    joined(items(&vip["spec"]["listeners"]).map(listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words() {
        let ingress = json!({"spec": {"rules": [{"host": "a"}, {}], "tls": [{}]}});
        assert_eq!(
            (ingress_hosts(&ingress), ingress_ports(&ingress)),
            ("a".into(), "80, 443".into())
        );
        let expressions = json!([{"key": "tier", "operator": "NotIn", "values": ["x", "y"]}]);
        let policy = json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": expressions}}});
        assert_eq!(pod_selector(&policy), "app=web,tier notin (x,y)");
        assert_eq!(pod_selector(&json!({"spec": {"podSelector": {}}})), NONE);
        let parent = json!({"resource": "services", "namespace": "default", "name": "web"});
        assert_eq!(address_parent(&json!({"spec": {"parentRef": parent}})), "services/default/web");
    }
}
