use super::{Family, items, owned_text, strings, text, version};
use model::{ObjectKey, Protocol};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An EndpointSlice of ours, with everything that we write into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) key: ObjectKey,
    pub(crate) version: u64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) family: Family,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// Equal to the Service port's name; empty for an unnamed one.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) app_protocol: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    /// For traffic.
    pub(crate) ready: bool,
    /// The pod is Ready.
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) pod: ObjectKey,
    pub(crate) uid: String,
}

impl Slice {
    /// The Service that slices name in this label.
    pub(crate) const SERVICE_NAME: &str = model::EndpointSlice::SERVICE_NAME;
    pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";
    pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

    /// `None`: somebody else's slice, or none at all.
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let labels = strings(value, "/metadata/labels");
        if labels.get(Self::MANAGED_BY).map(String::as_str) != Some(Self::MANAGER) {
            return None;
        }
        let family = match text(value, "/addressType")? {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        Some(Slice {
            key: super::key(value)?,
            version: version(value),
            labels,
            family,
            ports: items(value, "/ports").iter().filter_map(Port::parse).collect(),
            endpoints: items(value, "/endpoints").iter().filter_map(Endpoint::parse).collect(),
        })
    }

    pub(crate) fn service(&self) -> Option<ObjectKey> {
        let name = self.labels.get(Self::SERVICE_NAME)?;
        Some(ObjectKey { namespace: self.key.namespace.clone(), name: name.as_str().into() })
    }
}

impl Port {
    fn parse(value: &Value) -> Option<Self> {
        Some(Port {
            name: text(value, "/name").unwrap_or_default().to_owned(),
            protocol: match text(value, "/protocol") {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(_) => return None,
            },
            port: value.get("port")?.as_u64()?.try_into().ok()?,
            app_protocol: owned_text(value, "/appProtocol"),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut value =
            json!({"name": self.name, "protocol": self.protocol.to_string(), "port": self.port});
        if let Some(protocol) = &self.app_protocol {
            value["appProtocol"] = protocol.as_str().into();
        }
        value
    }
}

impl Endpoint {
    fn parse(value: &Value) -> Option<Self> {
        let condition = |name: &str, default| {
            value
                .pointer(&format!("/conditions/{name}"))
                .and_then(Value::as_bool)
                .unwrap_or(default)
        };
        let target = value.get("targetRef")?;
        Some(Endpoint {
            address: text(value, "/addresses/0")?.parse().ok()?,
            ready: condition("ready", true),
            serving: condition("serving", true),
            terminating: condition("terminating", false),
            hostname: owned_text(value, "/hostname"),
            node: owned_text(value, "/nodeName"),
            zone: owned_text(value, "/zone"),
            pod: ObjectKey::new(text(target, "/namespace")?, text(target, "/name")?),
            uid: text(target, "/uid").unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({
            "addresses": [self.address.to_string()],
            "conditions": {
                "ready": self.ready, "serving": self.serving, "terminating": self.terminating,
            },
            "targetRef": {
                "kind": "Pod", "namespace": &*self.pod.namespace, "name": &*self.pod.name,
                "uid": self.uid,
            },
        });
        let optional =
            [("hostname", &self.hostname), ("nodeName", &self.node), ("zone", &self.zone)];
        for (name, text) in optional {
            if let Some(text) = text {
                value[name] = text.as_str().into();
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let port = Port {
            name: "web".to_owned(),
            protocol: Protocol::Udp,
            port: 53,
            app_protocol: Some("http".to_owned()),
        };
        assert_eq!(Port::parse(&port.to_value()), Some(port));
        let endpoint = Endpoint {
            address: "10.244.0.7".parse().unwrap(),
            ready: false,
            serving: true,
            terminating: true,
            hostname: Some("web-0".to_owned()),
            node: None,
            zone: Some("a".to_owned()),
            pod: ObjectKey::new("default", "web-0"),
            uid: "u".to_owned(),
        };
        assert_eq!(Endpoint::parse(&endpoint.to_value()), Some(endpoint));
    }
}
