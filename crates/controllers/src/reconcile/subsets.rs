//! Addresses and ports packed into the subsets of Endpoints, as kube-controller-manager lays them out.
//!
//! Ports that the same addresses have are one subset, so a pod is listed once for each set of ports.

use crate::record::{Endpoint, Port, Subset};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An address, and whose it is: two pods may have one, as on the network of their node.
type Identity = (String, String);

fn identity(endpoint: &Endpoint) -> Identity {
    let uid = endpoint.target.as_ref().map(|target| target.uid.clone());
    (endpoint.address.to_string(), uid.unwrap_or_default())
}

/// Packs endpoints at single ports; `None` is an endpoint without any. Not ready is stronger than ready.
pub(super) fn pack(entries: impl Iterator<Item = (Option<Port>, Endpoint)>) -> Vec<Subset> {
    let mut by_port = BTreeMap::<Option<Port>, BTreeMap<Identity, Endpoint>>::new();
    for (port, endpoint) in entries {
        let endpoints = by_port.entry(port).or_default();
        let kept = endpoints.entry(identity(&endpoint)).or_insert_with(|| endpoint.clone());
        if !endpoint.ready {
            *kept = endpoint;
        }
    }
    let mut by_endpoints = BTreeMap::<Vec<(Identity, bool)>, Subset>::new();
    for (port, endpoints) in by_port {
        let key = endpoints.iter().map(|(identity, it)| (identity.clone(), it.ready)).collect();
        let subset = by_endpoints.entry(key).or_insert_with(|| {
            let mut endpoints: Vec<_> = endpoints.into_values().collect();
            endpoints.sort_by_key(|endpoint| !endpoint.ready);
            Subset { ports: Vec::new(), endpoints }
        });
        subset.ports.extend(port);
    }
    let mut subsets: Vec<_> = by_endpoints.into_values().collect();
    for subset in &mut subsets {
        subset
            .ports
            .sort_by_cached_key(|port| digest(&format!("(v1.EndpointPort){}", go_port(port))));
    }
    subsets.sort_by_cached_key(|subset| digest(&go_subset(subset)));
    subsets
}

/// The same for all orders of the same.
pub(super) fn canonical(subsets: &[Subset]) -> Vec<Subset> {
    let mut subsets = subsets.to_vec();
    for subset in &mut subsets {
        subset.ports.sort_unstable();
        subset.endpoints.sort_by_cached_key(|it| (!it.ready, identity(it)));
    }
    subsets.sort_by(|a, b| {
        let first = |subset: &Subset| subset.endpoints.first().map(identity);
        (&a.ports, first(a)).cmp(&(&b.ports, first(b)))
    });
    subsets
}

/// Leaves `most` addresses, of each subset as large a part as it is of all: of those that are not ready, or, where the
/// ready ones alone are too many, of these and none of the others. True: some were left out.
pub(super) fn truncate(subsets: &mut [Subset], most: usize) -> bool {
    let count = |subset: &Subset, ready: bool| {
        subset.endpoints.iter().filter(|endpoint| endpoint.ready == ready).count()
    };
    let total = |ready| subsets.iter().map(|subset| count(subset, ready)).sum::<usize>();
    let (ready, unready) = (total(true), total(false));
    if ready + unready <= most {
        return false;
    }
    let cut = ready > most;
    let (room, total) = if cut { (most, ready) } else { (most - ready, unready) };
    let mut left = room;
    for subset in subsets {
        let share = (count(subset, cut) * room).div_ceil(total).min(left);
        let mut taken = 0;
        subset.endpoints.retain(|endpoint| {
            let is_cut = endpoint.ready == cut;
            taken += usize::from(is_cut);
            if is_cut { taken <= share } else { !cut }
        });
        left -= share;
    }
    true
}

pub(super) fn subset_value(subset: &Subset) -> Value {
    let mut value = json!({});
    for (list, ready) in [("addresses", true), ("notReadyAddresses", false)] {
        let endpoints = subset.endpoints.iter().filter(|endpoint| endpoint.ready == ready);
        let addresses: Vec<_> = endpoints.map(address_value).collect();
        if !addresses.is_empty() {
            value[list] = addresses.into();
        }
    }
    if !subset.ports.is_empty() {
        value["ports"] = subset.ports.iter().map(port_value).collect();
    }
    value
}

fn address_value(endpoint: &Endpoint) -> Value {
    let mut value = json!({"ip": endpoint.address.to_string()});
    for (name, text) in [("hostname", &endpoint.hostname), ("nodeName", &endpoint.node)] {
        if let Some(text) = text {
            value[name] = text.as_str().into();
        }
    }
    if let Some(target) = &endpoint.target {
        value["targetRef"] = target.to_value();
    }
    value
}

fn port_value(port: &Port) -> Value {
    let mut value = port.to_value();
    if let Some(fields) = value.as_object_mut().filter(|_| port.name.is_empty()) {
        fields.remove("name");
    }
    value
}

/// FNV-1a of 128 bits. kube-controller-manager orders ports and subsets by it, of what Go prints of them, and so the
/// order is what `kubectl get endpoints` shows.
fn digest(text: &str) -> u128 {
    const START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.bytes().fold(START, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

fn go_port(port: &Port) -> String {
    let (name, number, protocol) = (&port.name, port.port, port.protocol);
    let application = port.app_protocol.as_deref().unwrap_or("<nil>");
    format!(
        "{{Name:(string){name} Port:(int32){number} Protocol:(v1.Protocol){protocol} \
         AppProtocol:(*string){application}}}"
    )
}

fn go_address(endpoint: &Endpoint) -> String {
    let hostname = endpoint.hostname.as_deref().unwrap_or_default();
    let node = endpoint.node.as_deref().unwrap_or("<nil>");
    let target = endpoint.target.as_ref().map_or_else(
        || "<nil>".to_owned(),
        |it| {
            format!(
                "{{Kind:(string){} Namespace:(string){} Name:(string){} UID:(types.UID){} \
                 APIVersion:(string) ResourceVersion:(string) FieldPath:(string)}}",
                it.kind, it.namespace, it.name, it.uid
            )
        },
    );
    format!(
        "{{IP:(string){} Hostname:(string){hostname} NodeName:(*string){node} \
         TargetRef:(*v1.ObjectReference){target}}}",
        endpoint.address
    )
}

fn go_list(entries: impl Iterator<Item = String>) -> String {
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() { "<nil>".to_owned() } else { format!("[{}]", entries.join(" ")) }
}

fn go_subset(subset: &Subset) -> String {
    let of = |ready: bool| {
        go_list(subset.endpoints.iter().filter(|it| it.ready == ready).map(go_address))
    };
    format!(
        "(v1.EndpointSubset){{Addresses:([]v1.EndpointAddress){} \
         NotReadyAddresses:([]v1.EndpointAddress){} Ports:([]v1.EndpointPort){}}}",
        of(true),
        of(false),
        go_list(subset.ports.iter().map(go_port))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Endpoints, Hints, Target};
    use model::Protocol;

    fn endpoint(number: u8, ready: bool, hostname: Option<&str>) -> Endpoint {
        Endpoint {
            address: std::net::Ipv4Addr::new(10, 0, 0, number).into(),
            ready,
            serving: ready,
            terminating: false,
            hostname: hostname.map(str::to_owned),
            node: Some("node-a".to_owned()),
            zone: None,
            target: Some(Target {
                kind: "Pod".to_owned(),
                namespace: "default".to_owned(),
                name: format!("p{number}"),
                uid: format!("u-{number}"),
            }),
            hints: Hints::default(),
            weight: 1,
        }
    }

    fn port(name: &str, port: u16, protocol: Protocol) -> Port {
        let app_protocol = (name == "http").then(|| "http".to_owned());
        Port { name: name.to_owned(), protocol, port, app_protocol }
    }

    /// The order is that of kube-controller-manager v1.36 for the same entries.
    #[test]
    fn ports_and_subsets_are_in_the_order_of_the_real_controller() {
        let at = |name, number, protocol| Some(port(name, number, protocol));
        let ports = [
            at("http", 80, Protocol::Tcp),
            at("https", 443, Protocol::Tcp),
            at("dns", 53, Protocol::Udp),
            at("", 9, Protocol::Sctp),
        ];
        let mut entries = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            entries.push((port.clone(), endpoint(1, true, Some("hh"))));
            entries.push((port, endpoint(2, index >= 2, None)));
        }
        entries.push((at("only", 1, Protocol::Tcp), endpoint(2, false, None)));
        entries.push((None, endpoint(1, true, Some("hh"))));
        let subsets = pack(entries.into_iter());
        let ports = |subset: &Subset| {
            subset.ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let ports: Vec<_> = subsets.iter().map(ports).collect();
        assert_eq!(ports, ["https http", "", "only", " dns"]);
        let value = json!({
            "metadata": {"name": "a", "namespace": "b"},
            "subsets": subsets.iter().map(subset_value).collect::<Value>(),
        });
        assert_eq!(canonical(&Endpoints::parse(&value).unwrap().subsets), canonical(&subsets));
    }

    #[test]
    fn not_ready_is_stronger() {
        for readiness in [[true, false], [false, true]] {
            let at = Some(port("a", 1, Protocol::Tcp));
            let entries = readiness.map(|ready| (at.clone(), endpoint(1, ready, None)));
            let subsets = pack(entries.into_iter());
            assert_eq!(subsets.len(), 1);
            assert_eq!(subsets[0].endpoints, [endpoint(1, false, None)], "{readiness:?}");
        }
    }

    #[test]
    fn each_subset_keeps_its_part() {
        let subsets = |counts: &[(u8, u8)]| -> Vec<Subset> {
            let of = |(ready, unready): &(u8, u8)| {
                let ready = (0..*ready).map(|number| endpoint(number, true, None));
                let unready = (0..*unready).map(|number| endpoint(100 + number, false, None));
                Subset { ports: Vec::new(), endpoints: ready.chain(unready).collect() }
            };
            counts.iter().map(of).collect()
        };
        let rows = [
            (vec![(5, 5)], false, vec![(5, 5)]),
            (vec![(4, 4), (2, 2)], true, vec![(4, 3), (2, 1)]),
            (vec![(15, 9), (5, 0)], true, vec![(8, 0), (2, 0)]),
            (vec![(10, 1), (0, 3)], true, vec![(10, 0), (0, 0)]),
        ];
        for (counts, expected, left) in rows {
            let mut cut = subsets(&counts);
            assert_eq!(truncate(&mut cut, 10), expected, "{counts:?}");
            let count = |subset: &Subset, ready| {
                u8::try_from(subset.endpoints.iter().filter(|it| it.ready == ready).count())
            };
            let found: Vec<_> = cut
                .iter()
                .map(|subset| (count(subset, true).unwrap(), count(subset, false).unwrap()))
                .collect();
            assert_eq!(found, left, "{counts:?}");
        }
    }
}
