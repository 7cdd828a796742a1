//! What a container is told in its environment beyond its own entries: the Services of its namespace, and the contents
//! of ConfigMaps and Secrets. Pure, but for [`Sources::fetch`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Kind};
use model::{ObjectKey, Service, ServicePort, ServiceType};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// All Services of the cluster.
pub(super) type Services = BTreeMap<ObjectKey, Service>;

/// The variables that tell of Services: those of the namespace where `links` are wanted, and the API's in any case.
pub(super) fn of_services(
    services: &Services,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let api = services.get(&ObjectKey::new("default", "kubernetes"));
    let near = services.values().filter(|it| links && &*it.meta.key.namespace == namespace);
    api.into_iter().chain(near).flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let address = service.cluster_ips.first().filter(|_| service.kind != ServiceType::ExternalName);
    let (Some(address), Some(first)) = (address, service.ports.first()) else { return Vec::new() };
    let name = spelled(&service.meta.key.name);
    let at = |port: &ServicePort| {
        let scheme = port.protocol.to_string().to_lowercase();
        format!("{scheme}://{}", SocketAddr::new(*address, port.port))
    };
    let mut variables = vec![
        (format!("{name}_SERVICE_HOST"), address.to_string()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
        (format!("{name}_PORT"), at(first)),
    ];
    for port in &service.ports {
        if !port.name.is_empty() {
            let variable = format!("{name}_SERVICE_PORT_{}", spelled(&port.name));
            variables.push((variable, port.port.to_string()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, port.protocol);
        variables.extend([
            (format!("{prefix}_PROTO"), port.protocol.to_string().to_lowercase()),
            (format!("{prefix}_PORT"), port.port.to_string()),
            (format!("{prefix}_ADDR"), address.to_string()),
            (prefix, at(port)),
        ]);
    }
    variables
}

fn spelled(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// The contents of the ConfigMaps and Secrets that a container names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources(BTreeMap<(Source, String), BTreeMap<String, String>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    ConfigMap,
    Secret,
}

impl Source {
    fn kind(self) -> Kind {
        match self {
            Source::ConfigMap => Kind::CONFIG_MAP,
            Source::Secret => Kind::SECRET,
        }
    }
}

/// Why a container cannot be told what it wants to know.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Api(#[from] client::Error),
    #[error("{} {name:?} not found", kind.kind.to_lowercase())]
    Absent { kind: Kind, name: String },
    #[error("cannot be written: {source}")]
    Volume { source: std::io::Error },
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    Mount { volume: String, why: Box<SourceError> },
    #[error("couldn't find key {key} in {kind} {object}")]
    NoKey { kind: Kind, object: String, key: String },
}

/// A container's mention of something in a ConfigMap or Secret.
struct Mention<'a> {
    source: Source,
    name: &'a str,
    /// None: all of it, each name with this in front.
    key: Result<&'a str, &'a str>,
    optional: bool,
}

impl Sources {
    /// Reads all that the container (as its object has it) mentions and must have.
    pub(super) async fn fetch(
        client: &Client,
        namespace: &str,
        container: &Value,
    ) -> Result<Self, SourceError> {
        let mut sources = Sources::default();
        let mentioned: BTreeSet<_> =
            mentions(container).map(|mention| (mention.source, mention.name.to_owned())).collect();
        for (source, name) in mentioned {
            let found = client::get(client, source.kind(), Some(namespace), &name).await?;
            sources.0.extend(found.map(|object| ((source, name), contents(source, &object))));
        }
        sources.check(namespace, container)?;
        Ok(sources)
    }

    fn check(&self, namespace: &str, container: &Value) -> Result<(), SourceError> {
        for Mention { source, name, key, .. } in mentions(container).filter(|it| !it.optional) {
            let (kind, name) = (source.kind(), name.to_owned());
            let Some(contents) = self.0.get(&(source, name.clone())) else {
                return Err(SourceError::Absent { kind, name });
            };
            if let Some(key) = key.ok().filter(|key| !contents.contains_key(*key)) {
                let (object, key) = (format!("{namespace}/{name}"), key.to_owned());
                return Err(SourceError::NoKey { kind, object, key });
            }
        }
        Ok(())
    }

    /// The value that an entry of `env` takes from elsewhere.
    pub(super) fn value(&self, entry: &Value) -> Option<&String> {
        let mention = mention_of(entry.get("valueFrom")?)?;
        self.0.get(&(mention.source, mention.name.to_owned()))?.get(mention.key.ok()?)
    }

    /// What `envFrom` brings, later entries last.
    pub(super) fn whole(&self, container: &Value) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for Mention { source, name, key, .. } in whole_mentions(container) {
            let contents = self.0.get(&(source, name.to_owned())).into_iter().flatten();
            let prefix = key.err().unwrap_or_default();
            variables
                .extend(contents.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
        }
        variables
    }
}

fn list<'a>(container: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    container.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn mentions(container: &Value) -> impl Iterator<Item = Mention<'_>> {
    let single = list(container, "env").filter_map(|entry| mention_of(entry.get("valueFrom")?));
    single.chain(whole_mentions(container))
}

fn mention_of(value: &Value) -> Option<Mention<'_>> {
    let sources = [("configMapKeyRef", Source::ConfigMap), ("secretKeyRef", Source::Secret)];
    sources.into_iter().find_map(|(field, source)| {
        let reference = value.get(field)?;
        Some(Mention {
            source,
            name: reference.get("name")?.as_str()?,
            key: Ok(reference.get("key")?.as_str()?),
            optional: reference["optional"] == true,
        })
    })
}

fn whole_mentions(container: &Value) -> impl Iterator<Item = Mention<'_>> {
    let sources = [("configMapRef", Source::ConfigMap), ("secretRef", Source::Secret)];
    list(container, "envFrom").filter_map(move |entry| {
        sources.into_iter().find_map(|(field, source)| {
            let reference = entry.get(field)?;
            Some(Mention {
                source,
                name: reference.get("name")?.as_str()?,
                key: Err(entry["prefix"].as_str().unwrap_or_default()),
                optional: reference["optional"] == true,
            })
        })
    })
}

/// What is no text cannot be a variable.
fn contents(source: Source, object: &Value) -> BTreeMap<String, String> {
    let entries = object.get("data").and_then(Value::as_object).into_iter().flatten();
    let text = |value: &Value| match source {
        Source::ConfigMap => value.as_str().map(str::to_owned),
        Source::Secret => String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok(),
    };
    entries.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Object;
    use serde_json::json;

    fn services(specs: &[(&str, &str, Value)]) -> Services {
        let parse = |(namespace, name, spec): &(&str, &str, Value)| {
            let value = json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
                "metadata": {"namespace": namespace, "name": name}});
            match Object::parse(&value) {
                Ok(Object::Service(service)) => (service.meta.key.clone(), service),
                other => panic!("{other:?}"),
            }
        };
        specs.iter().map(parse).collect()
    }

    #[test]
    fn services_are_told_as_kubernetes_tells_them() {
        let all = services(&[
            (
                "default",
                "kubernetes",
                json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}),
            ),
            (
                "shop",
                "redis-main",
                json!({"clusterIP": "10.96.0.11", "ports": [{"port": 6379},
                {"name": "dns-udp", "port": 53, "protocol": "UDP"}]}),
            ),
            ("shop", "six", json!({"clusterIP": "fd00::1", "ports": [{"port": 80}]})),
            ("shop", "headless", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
            ("other", "far", json!({"clusterIP": "10.96.0.12", "ports": [{"port": 80}]})),
        ]);
        let told = of_services(&all, "shop", true);
        let expected = [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
            ("REDIS_MAIN_SERVICE_HOST", "10.96.0.11"),
            ("REDIS_MAIN_SERVICE_PORT", "6379"),
            ("REDIS_MAIN_SERVICE_PORT_DNS_UDP", "53"),
            ("REDIS_MAIN_PORT", "tcp://10.96.0.11:6379"),
            ("REDIS_MAIN_PORT_6379_TCP", "tcp://10.96.0.11:6379"),
            ("REDIS_MAIN_PORT_6379_TCP_PROTO", "tcp"),
            ("REDIS_MAIN_PORT_6379_TCP_PORT", "6379"),
            ("REDIS_MAIN_PORT_6379_TCP_ADDR", "10.96.0.11"),
            ("REDIS_MAIN_PORT_53_UDP", "udp://10.96.0.11:53"),
            ("SIX_PORT", "tcp://[fd00::1]:80"),
        ];
        for (name, value) in expected {
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!told.keys().any(|name| name.starts_with("FAR") || name.starts_with("HEADLESS")));
        let unlinked = of_services(&all, "shop", false);
        assert!(
            unlinked.keys().all(|name| name.starts_with("KUBERNETES_")) && !unlinked.is_empty()
        );
    }

    #[test]
    fn contents_of_config_maps_and_secrets() {
        let config = json!({"data": {"color": "blue", "size": "9"}});
        let secret = json!({"data": {"password": "aHVudGVyMg==", "octets": "/w==", "bad": "?"}});
        let mut sources = Sources::default();
        for (source, name, object) in
            [(Source::ConfigMap, "c", config), (Source::Secret, "s", secret)]
        {
            sources.0.insert((source, name.to_owned()), contents(source, &object));
        }
        let from = |field: &str, name: &str, key: &str, optional: bool| json!({"name": "X", "valueFrom": {(field): {"name": name, "key": key, "optional": optional}}});
        let rows = [
            (from("configMapKeyRef", "c", "color", false), Some("blue"), None),
            (from("secretKeyRef", "s", "password", false), Some("hunter2"), None),
            (from("secretKeyRef", "s", "octets", true), None, None),
            (
                from("configMapKeyRef", "c", "shape", false),
                None,
                Some("couldn't find key shape in ConfigMap n/c"),
            ),
            (from("configMapKeyRef", "d", "shape", false), None, Some("configmap \"d\" not found")),
            (from("configMapKeyRef", "d", "shape", true), None, None),
        ];
        for (entry, value, refusal) in rows {
            assert_eq!(sources.value(&entry).map(String::as_str), value, "{entry}");
            let checked =
                sources.check("n", &json!({"env": [entry]})).map_err(|error| error.to_string());
            assert_eq!(checked.err().as_deref(), refusal, "{entry}");
        }
        let whole = json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}]});
        let expected = [("P_color", "blue"), ("P_size", "9")];
        assert_eq!(sources.whole(&whole), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
