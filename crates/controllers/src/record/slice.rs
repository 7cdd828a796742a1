use super::{Family, items, owned_text, strings, text, version};
use model::{Meta, ObjectKey, Protocol};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who keeps a slice, from its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manager {
    /// Made from a Service and the pods that it selects.
    Service,
    /// Made from Endpoints that somebody wrote by hand.
    Mirroring,
}

impl Manager {
    pub(crate) const ALL: [Manager; 2] = [Manager::Service, Manager::Mirroring];

    /// Value of the label [`Slice::MANAGED_BY`].
    pub(crate) fn label(self) -> &'static str {
        match self {
            Manager::Service => "endpointslice-controller.k8s.io",
            Manager::Mirroring => "endpointslicemirroring-controller.k8s.io",
        }
    }
}

/// An EndpointSlice of ours, with everything that we write into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) key: ObjectKey,
    pub(crate) version: u64,
    pub(crate) manager: Manager,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
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
    /// What it is; endpoints written by hand may not say.
    pub(crate) target: Option<Target>,
    pub(crate) hints: Hints,
    /// Its share of new connections against that of others; kept in the slice's annotation [`Slice::WEIGHTS`].
    pub(crate) weight: u8,
}

/// `targetRef`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// From where traffic should prefer this endpoint; empty: from everywhere alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) zones: Vec<String>,
    pub(crate) nodes: Vec<String>,
}

impl Slice {
    /// The Service that slices name in this label.
    pub(crate) const SERVICE_NAME: &str = model::EndpointSlice::SERVICE_NAME;
    pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
    /// Annotation: `ADDRESS=WEIGHT,…` of the endpoints whose weight is not 1.
    pub(crate) const WEIGHTS: &str = "podway.io/weights";
    /// Annotation: when the change happened that the last write of the slice tells of.
    pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

    /// `None`: somebody else's slice, or none at all.
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let labels = strings(value, "/metadata/labels");
        let managed_by = labels.get(Self::MANAGED_BY)?;
        let manager = Manager::ALL.into_iter().find(|manager| manager.label() == managed_by)?;
        let annotations = strings(value, "/metadata/annotations");
        let weights = annotations.get(Self::WEIGHTS).map(|text| parse_weights(text));
        let weights = weights.unwrap_or_default();
        let weighted = |endpoint: Endpoint| Endpoint {
            weight: weights.get(&endpoint.address).copied().unwrap_or(1),
            ..endpoint
        };
        let endpoints = items(value, "/endpoints").iter().filter_map(Endpoint::parse);
        let family = match text(value, "/addressType")? {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        Some(Slice {
            key: super::key(value)?,
            version: version(value),
            manager,
            labels,
            annotations,
            family,
            ports: items(value, "/ports").iter().filter_map(Port::parse).collect(),
            endpoints: endpoints.map(weighted).collect(),
        })
    }

    pub(crate) fn service(&self) -> Option<ObjectKey> {
        let name = self.labels.get(Self::SERVICE_NAME)?;
        Some(ObjectKey { namespace: self.key.namespace.clone(), name: name.as_str().into() })
    }
}

/// The annotation [`Slice::WEIGHTS`] for these endpoints; `None` where all weigh the same.
pub(crate) fn weights(endpoints: &[Endpoint]) -> Option<String> {
    let heavy = endpoints.iter().filter(|endpoint| endpoint.weight != 1);
    let weights: BTreeMap<_, _> =
        heavy.map(|endpoint| (endpoint.address, endpoint.weight)).collect();
    let entries = weights.iter().map(|(address, weight)| format!("{address}={weight}"));
    let text = entries.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then_some(text)
}

/// Entries that say nothing are left out.
fn parse_weights(text: &str) -> BTreeMap<IpAddr, u8> {
    let entry = |entry: &str| {
        let (address, weight) = entry.split_once('=')?;
        Some((address.parse().ok()?, weight.parse().ok()?))
    };
    text.split(',').filter_map(entry).collect()
}

impl Port {
    pub(super) fn parse(value: &Value) -> Option<Self> {
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
        Some(Endpoint {
            address: text(value, "/addresses/0")?.parse().ok()?,
            ready: condition("ready", true),
            serving: condition("serving", true),
            terminating: condition("terminating", false),
            hostname: owned_text(value, "/hostname"),
            node: owned_text(value, "/nodeName"),
            zone: owned_text(value, "/zone"),
            target: value.get("targetRef").map(Target::parse),
            hints: Hints::parse(value),
            weight: 1,
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({
            "addresses": [self.address.to_string()],
            "conditions": {
                "ready": self.ready, "serving": self.serving, "terminating": self.terminating,
            },
        });
        if let Some(target) = &self.target {
            value["targetRef"] = target.to_value();
        }
        if self.hints != Hints::default() {
            value["hints"] = self.hints.to_value();
        }
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

impl Target {
    pub(crate) fn pod(meta: &Meta) -> Self {
        Target {
            kind: "Pod".to_owned(),
            namespace: meta.key.namespace.to_string(),
            name: meta.key.name.to_string(),
            uid: meta.uid.clone(),
        }
    }

    pub(super) fn parse(value: &Value) -> Self {
        let field = |name: &str| owned_text(value, name).unwrap_or_default();
        Target {
            kind: field("/kind"),
            namespace: field("/namespace"),
            name: field("/name"),
            uid: field("/uid"),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        let fields = [
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
        ];
        let said = fields.into_iter().filter(|(_, text)| !text.is_empty());
        Value::Object(said.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect())
    }
}

impl Hints {
    fn parse(endpoint: &Value) -> Self {
        let names = |pointer: &str| {
            let entries = items(endpoint, pointer).iter();
            entries.filter_map(|entry| owned_text(entry, "/name")).collect()
        };
        Hints { zones: names("/hints/forZones"), nodes: names("/hints/forNodes") }
    }

    fn to_value(&self) -> Value {
        let lists = [("forZones", &self.zones), ("forNodes", &self.nodes)];
        let lists =
            lists.into_iter().filter(|(_, names)| !names.is_empty()).map(|(list, names)| {
                let entries = names.iter().map(|name| json!({"name": name}));
                (list.to_owned(), entries.collect())
            });
        Value::Object(lists.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, any, prop, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy;

    fn names() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-z]{1,4}", 0..3)
    }

    fn target() -> impl Strategy<Value = Target> {
        ("[A-Z][a-z]{2}", "[a-z]{0,3}", "[a-z]{1,5}", "[a-z0-9]{0,6}")
            .prop_map(|(kind, namespace, name, uid)| Target { kind, namespace, name, uid })
    }

    fn endpoints() -> impl Strategy<Value = Endpoint> {
        let conditions = any::<(bool, bool, bool)>();
        let texts = prop::collection::vec(prop::option::of("[a-z]{1,4}"), 3);
        let weight = prop_oneof![Just(1u8), 1u8..=100];
        let rest = (prop::option::of(target()), names(), names(), weight);
        (any::<IpAddr>(), conditions, texts, rest).prop_map(
            |(address, (ready, serving, terminating), texts, (target, zones, nodes, weight))| {
                Endpoint {
                    address,
                    ready,
                    serving,
                    terminating,
                    hostname: texts[0].clone(),
                    node: texts[1].clone(),
                    zone: texts[2].clone(),
                    target,
                    hints: Hints { zones, nodes },
                    weight,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(
            endpoints in prop::collection::btree_map(any::<IpAddr>(), endpoints(), 0..5),
            manager in prop::sample::select(Manager::ALL.to_vec()),
            port in 1u16..,
        ) {
            let endpoints: Vec<_> =
                endpoints.into_iter().map(|(address, it)| Endpoint { address, ..it }).collect();
            let ports = vec![Port {
                name: "web".to_owned(),
                protocol: Protocol::Udp,
                port,
                app_protocol: Some("http".to_owned()),
            }];
            let mut value = json!({
                "metadata": {
                    "name": "a", "namespace": "b", "resourceVersion": "7",
                    "labels": {(Slice::MANAGED_BY): manager.label()},
                },
                "addressType": "IPv6",
                "ports": ports.iter().map(Port::to_value).collect::<Value>(),
                "endpoints": endpoints.iter().map(Endpoint::to_value).collect::<Value>(),
            });
            if let Some(weights) = weights(&endpoints) {
                value["metadata"]["annotations"][Slice::WEIGHTS] = weights.into();
            }
            let slice = Slice::parse(&value).unwrap();
            prop_assert_eq!(slice.manager, manager);
            prop_assert_eq!(slice.ports, ports);
            prop_assert_eq!(slice.endpoints, endpoints);
        }

        #[test]
        fn any_text_is_some_set_of_weights(text in "[0-9.=:,a-z]{0,40}|\\PC{0,40}") {
            for (address, weight) in parse_weights(&text) {
                prop_assert_eq!(parse_weights(&format!("{address}={weight}"))[&address], weight);
            }
        }
    }
}
