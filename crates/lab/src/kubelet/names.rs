//! How a pod finds others by name: its `/etc/hosts` and `/etc/resolv.conf`. Pure.

use super::environment::Services;
use super::spec::{Spec, Surroundings};
use model::ObjectKey;
use serde_json::Value;
use std::fmt::Write;

pub(super) const HOSTS: &str = "/etc/hosts";
pub(super) const RESOLVER: &str = "/etc/resolv.conf";
const DOMAIN: &str = "cluster.local";

/// What stands in a pod's `/etc/hosts`; `machine` is that of the node, which pods of its network share.
pub(super) fn hosts(spec: &Spec, surroundings: &Surroundings, machine: &str) -> String {
    let own = spec.own_hostname().map(|name| {
        let subdomain = spec.text("/spec/subdomain").filter(|it| !it.is_empty());
        let namespace = &spec.pod.meta.key.namespace;
        let whole = subdomain.map(|it| format!("{name}.{it}.{namespace}.svc.{DOMAIN}\t"));
        whole.unwrap_or_default() + &name
    });
    let mut text = match own {
        None => machine.to_owned(),
        Some(names) => {
            let lines = surroundings.pod_ips.iter().map(|address| format!("{address}\t{names}\n"));
            let all = "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
            let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n";
            format!("{head}{all}{}", lines.collect::<String>())
        }
    };
    let aliases = list(spec.field("/spec/hostAliases"));
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        let names = words(alias.get("hostnames")).join("\t");
        // Writing into a String cannot fail.
        writeln!(text, "{}\t{names}", alias["ip"].as_str().unwrap_or_default()).ok();
    }
    text
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// What stands in a pod's `/etc/resolv.conf`. None: what the machine has. A cluster without Service `kube-dns` has no DNS.
pub(super) fn resolver(spec: &Spec, services: &Services, machine: &str) -> Option<String> {
    let dns = services.get(&ObjectKey::new("kube-system", "kube-dns"));
    let addresses = dns.map(|dns| &dns.cluster_ips[..]).unwrap_or_default();
    let policy = spec.text("/spec/dnsPolicy").unwrap_or("ClusterFirst");
    let clusters = policy == "ClusterFirstWithHostNet" || !spec.pod.host_network;
    let config = spec.field("/spec/dnsConfig").filter(|it| !it.is_null());
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "ClusterFirst" | "ClusterFirstWithHostNet" if clusters && !addresses.is_empty() => {
            let namespace = &spec.pod.meta.key.namespace;
            let near = [format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}")];
            Resolver {
                servers: addresses.iter().map(ToString::to_string).collect(),
                searches: near.into_iter().chain([DOMAIN.to_owned()]).collect(),
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ if config.is_none() => return None,
        _ => Resolver::parse(machine),
    };
    if let Some(config) = config {
        resolver.servers.extend(words(config.get("nameservers")));
        resolver.searches.extend(words(config.get("searches")));
        for option in list(config.get("options")) {
            let name = option["name"].as_str().unwrap_or_default();
            resolver.options.retain(|it| it.split(':').next() != Some(name));
            let value = option["value"].as_str().map(|value| format!(":{value}"));
            resolver.options.push(format!("{name}{}", value.unwrap_or_default()));
        }
    }
    Some(resolver.write())
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut rest = line.split_whitespace().map(str::to_owned);
            match rest.next().as_deref() {
                Some("nameserver") => resolver.servers.extend(rest.next()),
                Some("search") => resolver.searches = rest.collect(),
                Some("options") => resolver.options.extend(rest),
                _ => {}
            }
        }
        resolver
    }

    fn write(&self) -> String {
        let servers = self.servers.iter().map(|server| format!("nameserver {server}\n"));
        let lists = [("search", &self.searches), ("options", &self.options)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let lists = lists.map(|(name, list)| format!("{name} {}\n", list.join(" ")));
        servers.chain(lists).collect()
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn words(value: Option<&Value>) -> Vec<String> {
    list(value).iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Object;
    use serde_json::json;

    fn spec(more: Value) -> Spec {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "c"}]},
        });
        for (field, value) in more.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        Spec::parse(&object).unwrap()
    }

    #[test]
    fn pods_know_their_own_names_and_aliases() {
        let surroundings = Surroundings {
            pod_ips: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            ..Surroundings::default()
        };
        let aliases = json!([{"ip": "1.2.3.4", "hostnames": ["a", "b.c"]}]);
        let added = "\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.c\n";
        for (more, expected) in [
            (json!({}), "10.1.0.2\tp\nfd00::2\tp\n".to_owned()),
            (
                json!({"hostname": "h", "subdomain": "s"}),
                "10.1.0.2\th.s.n.svc.cluster.local\th\nfd00::2\th.s.n.svc.cluster.local\th\n"
                    .into(),
            ),
            (json!({"hostAliases": aliases}), format!("fd00::2\tp\n{added}")),
            (json!({"hostNetwork": true, "hostAliases": aliases}), format!("machine\n{added}")),
        ] {
            let text = hosts(&spec(more.clone()), &surroundings, "machine\n");
            assert!(text.ends_with(&expected), "{more}: {text}");
            let own = text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
            assert_eq!(own, more.get("hostNetwork").is_none(), "{more}");
        }
    }

    #[test]
    fn pods_ask_the_dns_of_the_cluster_where_there_is_one() {
        let dns = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "10.96.0.10"},
            "metadata": {"namespace": "kube-system", "name": "kube-dns"}});
        let Object::Service(dns) = Object::parse(&dns).unwrap() else { panic!("a Service") };
        let with = Services::from([(dns.meta.key.clone(), dns)]);
        let config = json!({"nameservers": ["1.1.1.1"], "searches": ["x.y"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let cluster = "nameserver 10.96.0.10\nsearch n.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        let merged = "nameserver 10.96.0.10\nnameserver 1.1.1.1\nsearch n.svc.cluster.local svc.cluster.local cluster.local x.y\noptions ndots:2 edns0\n";
        let own = "nameserver 1.1.1.1\nsearch x.y\noptions ndots:2 edns0\n";
        let machine = "# a comment\nnameserver 9.9.9.9\nsearch z\noptions rotate\n";
        let both =
            "nameserver 9.9.9.9\nnameserver 1.1.1.1\nsearch z x.y\noptions rotate ndots:2 edns0\n";
        for (more, has_dns, expected) in [
            (json!({}), true, Some(cluster)),
            (json!({}), false, None),
            (json!({"dnsConfig": config}), true, Some(merged)),
            (json!({"dnsConfig": config}), false, Some(both)),
            (json!({"dnsPolicy": "None", "dnsConfig": config}), true, Some(own)),
            (json!({"dnsPolicy": "Default"}), true, None),
            (json!({"dnsPolicy": "Default", "dnsConfig": config}), true, Some(both)),
            (json!({"hostNetwork": true}), true, None),
            (
                json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                true,
                Some(cluster),
            ),
        ] {
            let services = if has_dns { with.clone() } else { Services::new() };
            let text = resolver(&spec(more.clone()), &services, machine);
            assert_eq!(text.as_deref(), expected, "{more}");
        }
    }
}
