use super::*;
use crate::fixture::{apply, merge, node, pod, service};
use crate::task::Task;
use std::time::Duration;

fn key() -> ObjectKey {
    ObjectKey::new("default", "web")
}

/// What the Service's Endpoints are, after the writes of one look.
fn look(cluster: &mut Cluster, stored: &mut Option<Value>) -> Vec<Write> {
    let writes = plan(cluster, &key());
    for write in &writes {
        match write {
            Write::Create(object) => *stored = Some(object.clone()),
            Write::Patch { patch, .. } => {
                let object = stored.as_mut().unwrap();
                merge(object, patch.clone());
                for field in ["labels", "annotations"] {
                    if let Value::Object(members) = &mut object["metadata"][field] {
                        members.retain(|_, value| !value.is_null());
                    }
                }
            }
            Write::Delete { kind, key, .. } => {
                *stored = None;
                cluster.remove(*kind, key, Duration::ZERO);
            }
            other => panic!("{other:?}"),
        }
        if let Some(object) = stored {
            let version = crate::record::version(object) + 1;
            object["metadata"]["resourceVersion"] = version.to_string().into();
            apply(cluster, [object.clone()]);
        }
    }
    writes
}

/// Addresses and ports of each subset, those that are not ready with a `!`.
fn said(endpoints: &Value) -> Vec<String> {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let line = |subset: &Value| {
        let of = |list: &str, mark: &str| -> Vec<String> {
            let addresses = subset[list].as_array().into_iter().flatten();
            addresses.map(|it| format!("{mark}{}", it["ip"].as_str().unwrap())).collect()
        };
        let ports = subset["ports"].as_array().into_iter().flatten();
        let ports: Vec<_> = ports
            .map(|it| format!("{}={}", it["name"].as_str().unwrap_or_default(), it["port"]))
            .collect();
        let addresses = [of("addresses", ""), of("notReadyAddresses", "!")].concat();
        format!("{} {}", addresses.join(","), ports.join(",")).trim_end().to_owned()
    };
    subsets.map(line).collect()
}

fn with(mut object: Value, other: Value) -> Value {
    merge(&mut object, other);
    object
}

#[test]
fn addresses_with_the_same_ports_are_one_subset() {
    let up = |name: &str, address: &str| pod(name, Some("a"), Some(address), true);
    let down = |name: &str, address: &str| pod(name, Some("a"), Some(address), false);
    let leaving = || {
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        with(up("p", "10.0.0.1"), going)
    };
    let both = |name: &str| {
        let ips = json!([{"ip": "10.0.0.1"}, {"ip": "2001:db8::1"}]);
        with(up(name, "10.0.0.1"), json!({"status": {"podIPs": ips}}))
    };
    let other_port = || {
        let ports = json!([{"name": "http", "containerPort": 8080}]);
        let containers = json!([{"name": "c", "ports": ports}]);
        with(up("q", "10.0.0.2"), json!({"spec": {"containers": containers}}))
    };
    let two_ports = json!({"ports": [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "https", "port": 443, "targetPort": 8443},
    ]});
    let rows = [
        ("no pod", json!({}), vec![], vec![]),
        ("no address yet", json!({}), vec![pod("p", None, None, false)], vec![]),
        (
            "ready, and not",
            json!({}),
            vec![down("q", "10.0.0.2"), up("p", "10.0.0.10"), up("r", "10.0.0.9")],
            vec!["10.0.0.10,10.0.0.9,!10.0.0.2 http=9376"],
        ),
        (
            "all wanted",
            json!({"publishNotReadyAddresses": true}),
            vec![down("q", "10.0.0.2")],
            vec!["10.0.0.2 http=9376"],
        ),
        ("on its way out", json!({}), vec![leaving()], vec![]),
        (
            "on its way out, and wanted",
            json!({"publishNotReadyAddresses": true}),
            vec![leaving()],
            vec!["10.0.0.1 http=9376"],
        ),
        (
            "a port that nobody has",
            json!({"ports": [{"port": 1, "targetPort": "no"}]}),
            vec![up("p", "10.0.0.1")],
            vec![],
        ),
        (
            "headless without ports",
            json!({"clusterIP": "None", "ports": []}),
            vec![up("p", "10.0.0.1")],
            vec!["10.0.0.1"],
        ),
        (
            "the first family",
            json!({"ipFamilies": ["IPv6", "IPv4"]}),
            vec![both("p")],
            vec!["2001:db8::1 http=9376"],
        ),
        (
            "a named port with two numbers",
            two_ports,
            vec![up("p", "10.0.0.1"), other_port()],
            vec!["10.0.0.2 http=8080", "10.0.0.1 http=9376", "10.0.0.1,10.0.0.2 https=8443"],
        ),
    ];
    for (case, spec, pods, expected) in rows {
        let mut cluster = Cluster::default();
        apply(&mut cluster, pods.into_iter().chain([service("web", spec)]));
        let mut stored = None;
        look(&mut cluster, &mut stored);
        let mut lines = said(stored.as_ref().unwrap());
        lines.sort_unstable_by_key(|line| line.split(' ').next_back().map(str::to_owned));
        assert_eq!(lines, expected, "{case}");
        assert_eq!(
            look(&mut cluster, &mut stored),
            [],
            "{case}: a second look finds nothing to do"
        );
    }
}

#[test]
fn an_address_says_whose_it_is() {
    let mut cluster = Cluster::default();
    let named = json!({"spec": {"hostname": "h", "subdomain": "web"}});
    let pod = with(pod("p", Some("a"), Some("10.0.0.1"), true), named);
    let labelled = json!({"metadata": {"labels": {"team": "a"}}});
    let service = with(service("web", json!({"clusterIP": "None"})), labelled);
    let elsewhere = json!({"spec": {"hostname": "h", "subdomain": "other"}});
    let other = with(crate::fixture::pod("q", None, Some("10.0.0.2"), false), elsewhere);
    apply(&mut cluster, [service, pod, other]);
    let mut stored = None;
    look(&mut cluster, &mut stored);
    assert_eq!(
        stored.unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "web", "namespace": "default", "resourceVersion": "1",
                "labels": {
                    "team": "a", "service.kubernetes.io/headless": "",
                    "endpoints.kubernetes.io/managed-by": "endpoint-controller",
                },
            },
            "subsets": [{
                "addresses": [{
                    "ip": "10.0.0.1", "hostname": "h", "nodeName": "a",
                    "targetRef":
                        {"kind": "Pod", "namespace": "default", "name": "p", "uid": "uid-p"},
                }],
                "notReadyAddresses": [{
                    "ip": "10.0.0.2",
                    "targetRef":
                        {"kind": "Pod", "namespace": "default", "name": "q", "uid": "uid-q"},
                }],
                "ports": [{"name": "http", "protocol": "TCP", "port": 9376}],
            }],
        })
    );
}

/// Endpoints that somebody else wrote, of `web`.
fn theirs(with_metadata: Value) -> Value {
    let mut endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "default", "resourceVersion": "1"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 1}]}],
    });
    merge(&mut endpoints["metadata"], with_metadata);
    endpoints
}

#[test]
fn those_of_others_are_left_alone() {
    let selecting = || service("web", json!({}));
    let by_hand = || service("web", json!({"selector": null}));
    let external = || service("web", json!({"type": "ExternalName", "externalName": "a.b"}));
    let plain = || theirs(json!({}));
    let lock =
        || theirs(json!({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}));
    // What is there, whether it is looked at, and at the start, and which writes come of a look.
    let rows = [
        ("ours", vec![selecting(), plain()], true, true, 1),
        ("by hand", vec![by_hand(), plain()], true, true, 0),
        ("a name elsewhere", vec![external(), plain()], true, true, 0),
        ("before its Service", vec![plain()], false, true, 1),
        ("a lock", vec![lock()], false, false, 1),
    ];
    for (case, objects, looked_at, at_start, writes) in rows {
        let mut cluster = Cluster::default();
        apply(&mut cluster, objects);
        let is_due = |cluster: &mut Cluster| cluster.take_dirty().contains(&Task::Endpoints(key()));
        assert_eq!(is_due(&mut cluster), looked_at, "{case}");
        cluster.touch_left_over();
        assert_eq!(looked_at || is_due(&mut cluster), at_start, "{case}, at the start");
        assert_eq!(plan(&cluster, &key()).len(), writes, "{case}");
    }
}

#[test]
fn a_change_is_written_once_and_says_when_it_was() {
    let mut cluster = Cluster::default();
    let created = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:10Z"}});
    let turned = |name: &str, address: &str, ready: bool, second: u32| {
        let mut pod = pod(name, Some("a"), Some(address), ready);
        let time = format!("2026-01-01T00:00:{second}Z");
        pod["status"]["conditions"][0]["lastTransitionTime"] = time.into();
        pod
    };
    apply(&mut cluster, [with(service("web", json!({})), created)]);
    let mut stored = None;
    type Step<'a> = (&'a str, fn(&mut Cluster, Value), Value, Option<&'a str>, usize);
    let put: fn(&mut Cluster, Value) = |cluster, object| apply(cluster, [object]);
    let gone: fn(&mut Cluster, Value) = |cluster, object| {
        let key = crate::record::key(&object).unwrap();
        cluster.remove(Kind::POD, &key, Duration::ZERO);
    };
    let at = |second: &'static str| Some(second);
    let steps: [Step<'_>; 7] = [
        ("created", put, node("a", json!({})), at("10"), 1),
        ("a pod", put, turned("p", "10.0.0.1", true, 20), at("20"), 1),
        ("the same pod", put, turned("p", "10.0.0.1", true, 20), at("20"), 0),
        ("another", put, turned("q", "10.0.0.2", false, 30), at("30"), 1),
        ("which is ready", put, turned("q", "10.0.0.2", true, 40), at("40"), 1),
        ("and goes", gone, turned("q", "10.0.0.2", true, 40), None, 1),
        (
            "a node moves",
            put,
            node("a", json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}})),
            None,
            0,
        ),
    ];
    for (step, change, object, expected, writes) in steps {
        change(&mut cluster, object);
        assert_eq!(look(&mut cluster, &mut stored).len(), writes, "{step}");
        let annotations = &stored.as_ref().unwrap()["metadata"]["annotations"];
        let time = annotations[Slice::TRIGGER_TIME].as_str();
        let expected = expected.map(|second| format!("2026-01-01T00:00:{second}Z"));
        assert_eq!(time, expected.as_deref(), "{step}");
    }
    cluster.remove(Kind::SERVICE, &key(), Duration::ZERO);
    assert!(cluster.take_dirty().contains(&Task::Endpoints(key())));
    look(&mut cluster, &mut stored);
    assert_eq!(stored, None, "they go with the Service");
}

#[test]
fn too_many_are_cut_and_an_annotation_says_so() {
    let pods = |count: u32, ready: bool| {
        (0..count).map(move |number| {
            let net = if ready { 1 } else { 2 };
            let address = format!("10.{net}.{}.{}", number / 250, number % 250);
            pod(&format!("p-{ready}-{number}"), Some("a"), Some(&address), ready)
        })
    };
    for (ready, unready, left, annotated) in
        [(990, 10, (990, 10), false), (990, 20, (990, 10), true), (1010, 5, (1000, 0), true)]
    {
        let mut cluster = Cluster::default();
        apply(&mut cluster, pods(ready, true).chain(pods(unready, false)));
        apply(&mut cluster, [service("web", json!({}))]);
        let mut stored = None;
        look(&mut cluster, &mut stored);
        let object = stored.clone().unwrap();
        let count = |list: &str| object["subsets"][0][list].as_array().map_or(0, Vec::len);
        let case = format!("{ready} {unready}");
        assert_eq!((count("addresses"), count("notReadyAddresses")), left, "{case}");
        let note = object["metadata"]["annotations"][Endpoints::OVER_CAPACITY].as_str();
        assert_eq!(note, annotated.then_some("truncated"), "{case}");
        assert_eq!(look(&mut cluster, &mut stored), [], "{case}: nothing to do");
        // Those that were left out go: the others are as they were.
        let text = object["subsets"].to_string();
        let names = pods(ready, true).chain(pods(unready, false));
        for key in names.filter_map(|pod| crate::record::key(&pod)) {
            if !text.contains(&format!("\"{}\"", key.name)) {
                cluster.remove(Kind::POD, &key, Duration::ZERO);
            }
        }
        look(&mut cluster, &mut stored);
        let annotations = &stored.unwrap()["metadata"]["annotations"];
        assert!(annotations[Endpoints::OVER_CAPACITY].is_null(), "{case}: they have room again");
    }
}
