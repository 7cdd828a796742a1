use super::*;
use crate::fixture::{apply, merge, node, pod, service};
use client::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const MOST: usize = 4;

/// A cluster, and an API server that does what it is told.
struct Bench {
    cluster: Cluster,
    stored: BTreeMap<String, Value>,
    version: u64,
    names: Names,
}

impl Bench {
    fn new() -> Self {
        Bench {
            cluster: Cluster::default(),
            stored: BTreeMap::new(),
            version: 0,
            names: Names::new(7),
        }
    }

    /// Reconciles the Service, carries the writes out and gives them back.
    fn reconcile(&mut self, name: &str) -> Vec<Write> {
        let settings = Settings { max_endpoints_per_slice: MOST, ..Settings::default() };
        let key = ObjectKey::new("default", name);
        let writes = plan(&self.cluster, &key, &settings, &mut self.names);
        for write in &writes {
            self.execute(write);
        }
        writes
    }

    fn execute(&mut self, write: &Write) {
        let key = write.key().unwrap();
        let name = key.name.to_string();
        self.version += 1;
        let object = match write {
            Write::Create(object) => object.clone(),
            Write::Patch { patch, .. } => patched(&self.stored[&name], patch),
            Write::Delete { kind, .. } => {
                self.stored.remove(&name).unwrap();
                self.cluster.remove(*kind, &key, Duration::ZERO);
                return;
            }
            other => panic!("{other:?}"),
        };
        let mut object = object;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.cluster.apply(Kind::ENDPOINT_SLICE, &object, Duration::ZERO);
        self.stored.insert(name, object);
    }

    fn slices(&self) -> Vec<Slice> {
        self.stored.values().map(|value| Slice::parse(value).unwrap()).collect()
    }
}

/// RFC 7386, naively; a stale `resourceVersion` is a fault of the test.
fn patched(object: &Value, patch: &Value) -> Value {
    assert_eq!(object["metadata"]["resourceVersion"], patch["metadata"]["resourceVersion"]);
    let mut object = object.clone();
    merge(&mut object, patch.clone());
    for field in ["labels", "annotations"] {
        if let Value::Object(members) = &mut object["metadata"][field] {
            members.retain(|_, value| !value.is_null());
        }
    }
    object
}

/// A pod as the property test varies it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Draft {
    labelled: bool,
    address: bool,
    ready: bool,
    terminating: bool,
    over: bool,
    /// Which number the named port has; 0: no such port.
    port: u16,
    /// It has an address of each family.
    dual: bool,
    weight: u8,
}

impl Draft {
    fn addresses(self, index: usize) -> Vec<String> {
        let families = match (self.address, self.dual) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let both = [format!("10.244.0.{}", index + 1), format!("fd00::{}", index + 1)];
        both.into_iter().take(families).collect()
    }

    fn object(self, index: usize) -> Value {
        let addresses = self.addresses(index);
        let first = addresses.first().map(String::as_str);
        let mut pod = pod(&format!("p{index:02}"), Some("n"), first, self.ready);
        pod["status"]["podIPs"] = addresses.iter().map(|address| json!({"ip": address})).collect();
        if self.weight > 1 {
            let weight = self.weight.to_string();
            pod["metadata"]["annotations"] = json!({"podway.io/weight": weight});
        }
        if !self.labelled {
            pod["metadata"]["labels"]["app"] = "other".into();
        }
        if self.terminating {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if self.over {
            pod["status"]["phase"] = "Succeeded".into();
        }
        let ports = &mut pod["spec"]["containers"][0]["ports"];
        match self.port {
            0 => *ports = json!([]),
            port => ports[0]["containerPort"] = port.into(),
        }
        pod
    }
}

/// What consumers see of an endpoint: ports, conditions, whether it has hints for zone and node, weight.
type Seen = (Vec<u16>, [bool; 3], [bool; 2], u8);

fn seen(ports: &[Port], endpoint: &Endpoint) -> Seen {
    let ports = ports.iter().map(|port| port.port).collect();
    let Endpoint { ready, serving, terminating, hints, weight, .. } = endpoint;
    let hinted = [hints.zones == ["z"], hints.nodes == ["n"]];
    (ports, [*ready, *serving, *terminating], hinted, *weight)
}

/// The Service as the property test varies it.
#[derive(Debug, Clone, Copy)]
struct Front {
    publish: bool,
    distribution: Option<&'static str>,
}

impl Front {
    fn object(self) -> Value {
        let mut spec = json!({
            "publishNotReadyAddresses": self.publish,
            "clusterIPs": ["10.96.0.10", "fd00:96::10"],
        });
        if let Some(distribution) = self.distribution {
            spec["trafficDistribution"] = distribution.into();
        }
        service("web", spec)
    }
}

/// The fact sheet's rules, one pod at a time.
fn oracle(pods: &BTreeMap<usize, Draft>, front: Front) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    for (index, pod) in pods {
        if pod.labelled && pod.address && !pod.over {
            let ports = if pod.port == 0 { vec![] } else { vec![pod.port] };
            let ready = front.publish || (pod.ready && !pod.terminating);
            let hinted = [
                ready && front.distribution.is_some(),
                ready && front.distribution == Some("PreferSameNode"),
            ];
            let conditions = [ready, pod.ready, pod.terminating];
            for address in pod.addresses(*index) {
                seen.insert(address, (ports.clone(), conditions, hinted, pod.weight));
            }
        }
    }
    seen
}

fn observed(slices: &[Slice]) -> BTreeMap<String, Seen> {
    let mut found = BTreeMap::new();
    for slice in slices {
        for endpoint in &slice.endpoints {
            assert_eq!(slice.family, Family::of(endpoint.address));
            let before = found.insert(endpoint.address.to_string(), seen(&slice.ports, endpoint));
            assert_eq!(before, None, "an endpoint in two places: {slices:?}");
        }
    }
    found
}

/// No more writes than this can be right: each slice that says something wrong costs one, and what is new fills
/// those first, then takes one write per slice's worth.
fn most_writes(
    before: &[Slice],
    wanted: &BTreeMap<String, Seen>,
    old: &BTreeMap<String, Seen>,
) -> usize {
    let wrong = |slice: &&Slice| {
        slice.endpoints.iter().any(|endpoint| {
            let is = seen(&slice.ports, endpoint);
            wanted.get(&endpoint.address.to_string()) != Some(&is)
        })
    };
    let wrong_slices = before.iter().filter(wrong).count();
    let placeholders = before.iter().filter(|slice| slice.endpoints.is_empty()).count();
    let mut new = BTreeMap::<(bool, &[u16]), usize>::new();
    for (address, (ports, ..)) in wanted {
        if old.get(address).is_none_or(|(old, ..)| old != ports) {
            *new.entry((address.contains(':'), ports)).or_default() += 1;
        }
    }
    let fresh: usize = new.values().map(|count| count.div_ceil(MOST)).sum();
    wrong_slices + fresh + placeholders + bare_families(wanted)
}

/// Families of which there is no endpoint: each has one empty slice.
fn bare_families(wanted: &BTreeMap<String, Seen>) -> usize {
    let has = |six: bool| wanted.keys().any(|address| address.contains(':') == six);
    [false, true].into_iter().filter(|six| !has(*six)).count()
}

fn drafts() -> impl Strategy<Value = Draft> {
    let mostly = prop::bool::weighted(0.85);
    let rarely = prop::bool::weighted(0.1);
    let port = prop_oneof![8 => Just(9376u16), 2 => Just(8080), 1 => Just(0)];
    let weight = prop_oneof![3 => Just(1u8), 1 => 2u8..=100];
    (mostly, mostly, any::<bool>(), rarely, rarely, (port, any::<bool>(), weight)).prop_map(
        |(labelled, address, ready, terminating, over, (port, dual, weight))| Draft {
            labelled,
            address,
            ready,
            terminating,
            over,
            port,
            dual,
            weight,
        },
    )
}

#[derive(Debug, Clone)]
enum Event {
    Pod(usize, Draft),
    Gone(usize),
    Reconcile,
    Service(Front),
}

fn fronts() -> impl Strategy<Value = Front> {
    let wishes = [None, Some("PreferClose"), Some("PreferSameZone"), Some("PreferSameNode")];
    (any::<bool>(), prop::sample::select(wishes.to_vec()))
        .prop_map(|(publish, distribution)| Front { publish, distribution })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0usize..25, drafts()).prop_map(|(index, draft)| Event::Pod(index, draft)),
        3 => (0usize..25).prop_map(Event::Gone),
        3 => Just(Event::Reconcile),
        1 => fronts().prop_map(Event::Service),
    ]
}

proptest! {
    #[test]
    fn slices_hold_exactly_what_the_rules_say(events in prop::collection::vec(events(), 1..120)) {
        let mut bench = Bench::new();
        let mut pods = BTreeMap::new();
        let mut front = Front { publish: false, distribution: None };
        let zone = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}});
        apply(&mut bench.cluster, [node("n", zone), front.object()]);
        bench.reconcile("web");
        for event in events.into_iter().chain([Event::Reconcile]) {
            match event {
                Event::Pod(index, draft) => {
                    pods.insert(index, draft);
                    apply(&mut bench.cluster, [draft.object(index)]);
                }
                Event::Gone(index) => {
                    pods.remove(&index);
                    let key = ObjectKey::new("default", &format!("p{index:02}"));
                    bench.cluster.remove(Kind::POD, &key, Duration::ZERO);
                }
                Event::Service(new) => {
                    front = new;
                    apply(&mut bench.cluster, [front.object()]);
                }
                Event::Reconcile => {
                    let before = bench.slices();
                    let wanted = oracle(&pods, front);
                    let writes = bench.reconcile("web").len();
                    let after = bench.slices();
                    prop_assert_eq!(observed(&after), wanted.clone());
                    let limit = most_writes(&before, &wanted, &observed(&before));
                    prop_assert!(writes <= limit, "{writes} writes, {limit} would do: {before:?}");
                    prop_assert!(!after.is_empty() && after.iter().all(|s| s.endpoints.len() <= MOST));
                    let empty = after.iter().filter(|slice| slice.endpoints.is_empty()).count();
                    prop_assert_eq!(empty, bare_families(&wanted));
                    prop_assert_eq!(bench.reconcile("web"), vec![], "a second look finds nothing to do");
                }
            }
        }
    }

    /// A change marks the Service if and only if it can concern it.
    #[test]
    fn changes_mark_the_services_they_concern(
        before in prop::option::of(drafts()),
        after in prop::option::of(drafts()),
    ) {
        let mut cluster = Cluster::default();
        let other = service("other", json!({"selector": {"app": "absent"}}));
        apply(&mut cluster, [service("web", json!({})), other]);
        apply(&mut cluster, before.map(|draft| draft.object(0)));
        cluster.take_dirty();
        match after {
            Some(draft) => apply(&mut cluster, [draft.object(0)]),
            None => cluster.remove(Kind::POD, &ObjectKey::new("default", "p00"), Duration::ZERO),
        }
        let marked: BTreeSet<_> = cluster.take_dirty();
        let marked: Vec<_> =
            marked.into_iter().filter(|task| matches!(task, crate::task::Task::Slices(_))).collect();
        let concerned =
            before.map(|it| it.object(0)) != after.map(|it| it.object(0)) && before.iter().chain(&after).any(|draft| draft.labelled);
        let web = crate::task::Task::Slices(ObjectKey::new("default", "web"));
        prop_assert_eq!(marked, if concerned { vec![web] } else { vec![] });
    }
}

#[test]
fn a_slice_looks_as_consumers_expect() {
    let mut bench = Bench::new();
    let zone = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}});
    let mut named = pod("web-0", Some("n"), Some("10.244.0.2"), true);
    merge(&mut named["spec"], json!({"hostname": "web-0", "subdomain": "web"}));
    merge(&mut named["metadata"], json!({"annotations": {"podway.io/weight": "5"}}));
    named["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:00:07Z".into();
    let with = json!({"clusterIP": "None", "trafficDistribution": "PreferSameNode", "ports": [{"name": "http", "port": 80, "targetPort": "http",
        "appProtocol": "h2c"}]});
    let mut service = service("web", with);
    service["metadata"]["labels"] = json!({"team": "a"});
    apply(&mut bench.cluster, [node("n", zone), named, service]);
    bench.reconcile("web");
    let slices: Vec<_> = bench.stored.values().filter(|s| s["addressType"] == "IPv4").collect();
    let name = slices[0]["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    assert_eq!(
        *slices[0],
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name, "generateName": "web-", "namespace": "default",
                "resourceVersion": slices[0]["metadata"]["resourceVersion"],
                "annotations": {
                    "podway.io/weights": "10.244.0.2=5",
                    "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:07Z",
                },
                "labels": {
                    "team": "a",
                    "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "service.kubernetes.io/headless": "",
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web",
                    "uid": "uid-web", "controller": true, "blockOwnerDeletion": true}],
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "protocol": "TCP", "port": 9376, "appProtocol": "h2c"}],
            "endpoints": [{
                "addresses": ["10.244.0.2"],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hostname": "web-0", "nodeName": "n", "zone": "z1",
                "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n"}]},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-0",
                    "uid": "uid-web-0"},
            }],
        })
    );
}

#[test]
fn one_changed_endpoint_is_one_write_of_its_slice_alone() {
    let mut bench = Bench::new();
    apply(&mut bench.cluster, [service("web", json!({}))]);
    let object = |index: usize, ready| {
        pod(&format!("p{index:02}"), Some("n"), Some(&format!("10.244.0.{}", index + 1)), ready)
    };
    apply(&mut bench.cluster, (0..12).map(|index| object(index, true)));
    assert_eq!(bench.reconcile("web").len(), 3);
    apply(&mut bench.cluster, [object(5, false)]);
    let writes = bench.reconcile("web");
    let [Write::Patch { patch, .. }] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(patch["endpoints"].as_array().unwrap().len(), MOST);
    assert!(patch.get("ports").is_none() && patch["metadata"].get("labels").is_none());
}

#[test]
fn labels_follow_the_service() {
    let mut bench = Bench::new();
    let mut labelled = service("web", json!({}));
    labelled["metadata"]["labels"] = json!({"team": "a", "tier": "front"});
    apply(&mut bench.cluster, [labelled.clone()]);
    bench.reconcile("web");
    labelled["metadata"]["labels"] = json!({"team": "b"});
    apply(&mut bench.cluster, [labelled]);
    assert_eq!(bench.reconcile("web").len(), 1);
    let labels = &bench.slices()[0].labels;
    assert_eq!(labels.get("team").map(String::as_str), Some("b"));
    assert!(!labels.contains_key("tier"));
    assert_eq!(bench.reconcile("web"), vec![]);
}

#[test]
fn services_that_are_not_ours_and_services_that_are_gone() {
    let rows = [
        (service("web", json!({"selector": null})), 0),
        (service("web", json!({"type": "ExternalName"})), 0),
        (service("web", json!({"clusterIPs": ["10.96.0.1", "fd00::1"]})), 2),
    ];
    for (service, slices) in rows {
        let mut bench = Bench::new();
        apply(&mut bench.cluster, [service, pod("p", Some("n"), Some("10.244.0.2"), true)]);
        bench.reconcile("web");
        assert_eq!(bench.stored.len(), slices);
        bench.cluster.remove(Kind::SERVICE, &ObjectKey::new("default", "web"), Duration::ZERO);
        bench.reconcile("web");
        assert_eq!(bench.stored.len(), 0);
    }
}
