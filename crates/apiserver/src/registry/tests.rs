use super::*;
use crate::store::History;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

mod quotas;

const WRITE: Write<'static> = Write {
    now: 1_000_000,
    dry_run: false,
    validation: Validation::Strict,
    twice: &[],
    manager: "test",
    form: None,
    caller: None,
};

fn registry() -> Registry {
    let pools = Pools::new(&["10.96.0.0/28".parse().unwrap()], &(30_000..=30_015));
    Registry::new(Store::new(0, History::default()), pools, 7, None, 0)
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn pod(node: &str) -> Value {
    let container = json!({"name": "c", "image": "i"});
    json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [container]}})
}

#[test]
fn finalizers_hold_back() {
    let mut registry = registry();
    let mut object = map("a");
    object["metadata"]["finalizers"] = json!(["podway.io/test"]);
    registry.create(Kind::ConfigMap, "default", object, WRITE).unwrap();
    let deleted = registry.delete(Kind::ConfigMap, &key("a"), &Deletion::default(), WRITE).unwrap();
    let Deleted::Going(going) = deleted else { panic!("{deleted:?}") };
    assert_eq!(going.value["metadata"]["deletionTimestamp"], "1970-01-12T13:46:40Z");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    registry.patch(Kind::ConfigMap, &key("a"), Part::Main, &free, WRITE).unwrap();
    assert!(registry.get(Kind::ConfigMap, &key("a")).is_err_and(|error| error.code() == 404));
}

#[test]
fn pods_end_with_grace_where_they_run() {
    let grace = |seconds| Deletion { grace: seconds, ..Deletion::default() };
    for (node, phase, wanted, expected) in [
        ("n1", "Running", None, Some(30)),
        ("n1", "Running", Some(5), Some(5)),
        ("n1", "Running", Some(0), None),
        ("n1", "Succeeded", None, None),
        ("", "Pending", None, None),
    ] {
        let mut registry = registry();
        registry.create(Kind::Pod, "default", pod(node), WRITE).unwrap();
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        registry.patch(Kind::Pod, &key("p"), Part::Status, &status, WRITE).unwrap();
        let deleted = registry.delete(Kind::Pod, &key("p"), &grace(wanted), WRITE).unwrap();
        let left = match &deleted {
            Deleted::Gone(_) => None,
            Deleted::Going(pod) => pod.value["metadata"]["deletionGracePeriodSeconds"].as_i64(),
        };
        assert_eq!(left, expected, "{node} {phase} {wanted:?}");
        let still = registry.store.get(Kind::Pod, &key("p")).is_some();
        assert_eq!(still, expected.is_some());
    }
}

#[test]
fn preconditions_and_dry_runs_change_nothing() {
    let mut registry = registry();
    let created = registry.create(Kind::ConfigMap, "default", map("a"), WRITE).unwrap();
    let before = registry.store.revision();
    let other = Deletion { uid: Some("other".into()), ..Deletion::default() };
    let refused = registry.delete(Kind::ConfigMap, &key("a"), &other, WRITE).unwrap_err();
    assert_eq!(refused.code(), 409);
    let dry = Write { dry_run: true, ..WRITE };
    registry.delete(Kind::ConfigMap, &key("a"), &Deletion::default(), dry).unwrap();
    let patch = Patch::Merge(json!({"data": {"a": "b"}}));
    let planned = registry.patch(Kind::ConfigMap, &key("a"), Part::Main, &patch, dry).unwrap();
    assert_eq!(planned.value["data"]["a"], "b");
    registry.create(Kind::ConfigMap, "default", map("b"), dry).unwrap();
    assert_eq!(registry.store.revision(), before);
    assert_eq!(registry.get(Kind::ConfigMap, &key("a")).unwrap().json(), created.json());
}

#[test]
fn generated_names_differ() {
    let mut registry = registry();
    let mut names = BTreeSet::new();
    for _ in 0..50 {
        let object = json!({"metadata": {"generateName": "web-"}});
        let created = registry.create(Kind::ConfigMap, "default", object, WRITE).unwrap();
        names.insert(created.value["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names.len(), 50);
    assert!(names.iter().all(|name| name.len() == 9 && name.starts_with("web-")), "{names:?}");
}

#[test]
fn orphans_stay_and_forget() {
    let mut registry = registry();
    let owner = registry.create(Kind::ConfigMap, "default", map("owner"), WRITE).unwrap();
    let mut owned = map("owned");
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]);
    registry.create(Kind::ConfigMap, "default", owned.clone(), WRITE).unwrap();
    let orphan = Deletion { propagation: Some(Propagation::Orphan), ..Deletion::default() };
    registry.delete(Kind::ConfigMap, &key("owner"), &orphan, WRITE).unwrap();
    let left = registry.get(Kind::ConfigMap, &key("owned")).unwrap();
    assert_eq!(left.value["metadata"]["ownerReferences"], json!([]));
    owned["metadata"]["name"] = "late".into();
    registry.create(Kind::ConfigMap, "default", owned, WRITE).unwrap();
    assert!(registry.store.get(Kind::ConfigMap, &key("late")).is_none(), "its owner is gone");
}

#[test]
fn in_the_foreground_owners_go_last() {
    let mut registry = registry();
    let mut make = |kind: Kind, mut object: Value, owner: Option<(&str, &str, &str)>| {
        if let Some((api_version, kind, uid)) = owner {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": api_version, "kind": kind, "name": "x",
                "uid": uid, "blockOwnerDeletion": true}]);
        }
        registry.create(kind, "default", object, WRITE).unwrap().uid()
    };
    let top = make(Kind::ConfigMap, map("top"), None);
    let middle = make(Kind::ConfigMap, map("middle"), Some(("v1", "ConfigMap", &top)));
    make(Kind::Pod, pod("n1"), Some(("v1", "ConfigMap", &middle)));
    let foreground = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    let going = registry.delete(Kind::ConfigMap, &key("top"), &foreground, WRITE).unwrap();
    let Deleted::Going(top) = going else { panic!("{going:?}") };
    assert_eq!(top.value["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let middle = registry.get(Kind::ConfigMap, &key("middle")).unwrap();
    assert!(middle.value["metadata"]["deletionTimestamp"].is_string());
    let now = Deletion { grace: Some(0), ..Deletion::default() };
    registry.delete(Kind::Pod, &key("p"), &now, WRITE).unwrap();
    registry.create(Kind::ConfigMap, "default", map("alone"), WRITE).unwrap();
    registry.delete(Kind::ConfigMap, &key("alone"), &foreground, WRITE).unwrap();
    for name in ["middle", "top", "alone"] {
        assert!(registry.store.get(Kind::ConfigMap, &key(name)).is_none(), "{name} is left");
    }
}

#[test]
fn a_namespace_ends_with_its_pods_first_and_says_what_it_waits_for() {
    let mut registry = registry();
    let space = Key::new("", "space");
    registry.create(Kind::Namespace, "", map("space"), WRITE).unwrap();
    let there = |name: &str| Key::new("space", name);
    for (kind, mut object) in [(Kind::Pod, pod("")), (Kind::ConfigMap, map("held"))] {
        object["metadata"]["finalizers"] = json!(["example.com/hold"]);
        registry.create(kind, "space", object, WRITE).unwrap();
    }
    registry.create(Kind::ConfigMap, "space", map("free"), WRITE).unwrap();
    registry.delete(Kind::Namespace, &space, &Deletion::default(), WRITE).unwrap();
    let said = |registry: &Registry| {
        let object = registry.get(Kind::Namespace, &space).unwrap();
        let conditions = object.value["status"]["conditions"].as_array().unwrap().clone();
        let failing = conditions.iter().filter(|it| it["status"] == "True");
        let messages: Vec<_> =
            failing.map(|it| it["message"].as_str().unwrap().to_owned()).collect();
        (conditions.len(), messages)
    };
    assert_eq!(said(&registry), (5, Vec::new()));
    let free = registry.store.get(Kind::ConfigMap, &there("free"));
    assert!(free.is_some(), "the pod may need it");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    registry.patch(Kind::Pod, &there("p"), Part::Main, &free, WRITE).unwrap();
    assert!(registry.store.get(Kind::ConfigMap, &there("free")).is_none());
    let messages = [
        "Some resources are remaining: configmaps. has 1 resource instances",
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
    ];
    assert_eq!(said(&registry), (5, messages.map(str::to_owned).into()));
    registry.patch(Kind::ConfigMap, &there("held"), Part::Main, &free, WRITE).unwrap();
    assert!(registry.store.get(Kind::Namespace, &space).is_none());
}

#[test]
fn whoever_must_be_done_with_a_namespace_holds_it() {
    let mut registry = registry();
    let space = Key::new("", "space");
    registry.create(Kind::Namespace, "", map("space"), WRITE).unwrap();
    let mut finalize = |finalizers: Value| {
        let wanted = json!({"metadata": {"name": "space"}, "spec": {"finalizers": finalizers}});
        registry.finalize(&space, &wanted, WRITE).unwrap();
        let held = registry.store.get(Kind::Namespace, &space);
        held.map(|it| it.value["spec"]["finalizers"].clone())
    };
    let both = json!(["kubernetes", "example.com/hold"]);
    assert_eq!(finalize(both.clone()), Some(both));
    registry.delete(Kind::Namespace, &space, &Deletion::default(), WRITE).unwrap();
    let held = registry.get(Kind::Namespace, &space).unwrap();
    assert_eq!(held.value["spec"]["finalizers"], json!(["example.com/hold"]));
    let stale = json!({"metadata": {"name": "space", "resourceVersion": "1"}});
    assert_eq!(registry.finalize(&space, &stale, WRITE).unwrap_err().code(), 409);
    registry.finalize(&space, &map("space"), WRITE).unwrap();
    assert!(registry.store.get(Kind::Namespace, &space).is_none());
}

#[test]
fn owners_in_a_circle_and_in_a_long_row_go_as_well() {
    let foreground = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    for (number, is_circle) in [(1, true), (2, true), (3, true), (2_000, false)] {
        let mut registry = registry();
        let names: Vec<_> = (0..number).map(|number| format!("m{number}")).collect();
        let mut owner = Value::Null;
        for name in &names {
            let mut object = map(name);
            if !owner.is_null() {
                object["metadata"]["ownerReferences"] = json!([owner]);
            }
            let made = registry.create(Kind::ConfigMap, "default", object, WRITE).unwrap();
            owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name,
                "uid": made.uid(), "blockOwnerDeletion": true});
        }
        if is_circle {
            let owned = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
            registry.patch(Kind::ConfigMap, &key("m0"), Part::Main, &owned, WRITE).unwrap();
        }
        registry.delete(Kind::ConfigMap, &key("m0"), &foreground, WRITE).unwrap();
        for name in &names {
            let left = registry.store.get(Kind::ConfigMap, &key(name));
            assert!(left.is_none(), "{name} of {number} is left: {left:?}");
        }
    }
}

#[test]
fn what_is_made_for_an_owner_that_waits_goes_and_what_others_own_stays() {
    let mut registry = registry();
    let owner = |registry: &mut Registry, name: &str| {
        let uid = registry.create(Kind::ConfigMap, "default", map(name), WRITE).unwrap().uid();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true})
    };
    let (going, staying) = (owner(&mut registry, "going"), owner(&mut registry, "staying"));
    let owned = |registry: &mut Registry, mut object: Value, owners: &[&Value]| {
        object["metadata"]["ownerReferences"] = json!(owners);
        let kind = if object["spec"].is_null() { Kind::ConfigMap } else { Kind::Pod };
        registry.create(kind, "default", object, WRITE).unwrap();
    };
    owned(&mut registry, pod("n1"), &[&going]);
    owned(&mut registry, map("shared"), &[&going, &staying]);
    let foreground = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    registry.delete(Kind::ConfigMap, &key("going"), &foreground, WRITE).unwrap();
    assert!(registry.store.get(Kind::ConfigMap, &key("going")).is_some(), "its pod still ends");
    owned(&mut registry, map("late"), &[&going]);
    assert!(registry.store.get(Kind::ConfigMap, &key("late")).is_none(), "its owner waits");
    let shared = registry.get(Kind::ConfigMap, &key("shared")).unwrap();
    assert_eq!(shared.value["metadata"]["ownerReferences"], json!([staying]));
    assert!(shared.value["metadata"].get("deletionTimestamp").is_none());
    let now = Deletion { grace: Some(0), ..Deletion::default() };
    registry.delete(Kind::Pod, &key("p"), &now, WRITE).unwrap();
    assert!(registry.store.get(Kind::ConfigMap, &key("going")).is_none(), "nobody blocks it");
}

#[test]
fn pods_have_the_priority_of_their_class() {
    let mut registry = registry();
    let mut priority = |name: &str, class: Option<&str>| {
        let mut pod = pod("n1");
        pod["metadata"]["name"] = name.into();
        if let Some(class) = class {
            pod["spec"]["priorityClassName"] = class.into();
        }
        let made = registry.create(Kind::Pod, "default", pod, WRITE);
        let made = made.map_err(|error| error.status()["message"].clone());
        let values = made.map(|it| it.value["spec"]["priority"].clone());
        if name == "b" {
            let class = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true});
            registry.create(Kind::PriorityClass, "", class, WRITE).unwrap();
        }
        values
    };
    assert_eq!(priority("a", Some("system-node-critical")), Ok(json!(2_000_001_000)));
    assert_eq!(priority("b", None), Ok(json!(0)));
    assert_eq!(priority("c", None), Ok(json!(7)));
    let refused = "pods \"d\" is forbidden: no PriorityClass with name nosuch was found";
    assert_eq!(priority("d", Some("nosuch")), Err(json!(refused)));
}

#[test]
fn each_cluster_ip_has_an_object() {
    let mut registry = registry();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let service = registry.create(Kind::Service, "default", service, WRITE).unwrap();
    let address = service.value["spec"]["clusterIP"].as_str().unwrap();
    let object = registry.get(Kind::IPAddress, &Key::new("", address)).unwrap();
    assert_eq!(object.value["spec"]["parentRef"]["name"], "web");
    registry.delete(Kind::Service, &key("web"), &Deletion::default(), WRITE).unwrap();
    assert!(registry.store.get(Kind::IPAddress, &Key::new("", address)).is_none());
}

#[test]
fn a_generation_counts_wishes_only() {
    let mut registry = registry();
    registry.create(Kind::Pod, "default", pod("n1"), WRITE).unwrap();
    let mut generation = |part, patch| {
        let patched =
            registry.patch(Kind::Pod, &key("p"), part, &Patch::Merge(patch), WRITE).unwrap();
        patched.value["metadata"]["generation"].as_i64()
    };
    assert_eq!(generation(Part::Main, json!({"metadata": {"labels": {"a": "b"}}})), Some(1));
    assert_eq!(generation(Part::Status, json!({"status": {"phase": "Running"}})), Some(1));
    assert_eq!(generation(Part::Main, json!({"spec": {"activeDeadlineSeconds": 60}})), Some(2));
}

fn held(registry: &Registry) -> (Vec<String>, Vec<u64>) {
    let listed = registry.store.list(Kind::Service, None, None);
    let services: Vec<Arc<Object>> = listed.map(|(_, service)| service).collect();
    let specs = || services.iter().map(|service| &service.value["spec"]);
    let addresses =
        specs().filter_map(|spec| spec["clusterIP"].as_str()).filter(|ip| *ip != "None");
    // One that is not for the outside may name what it does not have.
    let outside = |spec: &&Value| spec["type"] != "ExternalName";
    let ports =
        specs().filter(outside).flat_map(|spec| spec["ports"].as_array().into_iter().flatten());
    (
        addresses.map(str::to_owned).collect(),
        ports.filter_map(|port| port["nodePort"].as_u64()).collect(),
    )
}

proptest! {
    /// No address or port ever belongs to two services, and what is free can be had.
    #[test]
    fn nothing_is_given_out_twice(
        steps in prop::collection::vec((0_u8..6, 0_u8..6, prop::option::of(29_999_u64..30_018), 0_u8..20), 1..60),
    ) {
        let mut registry = registry();
        for (name, verb, node_port, ip) in steps {
            let name = format!("s{name}");
            let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
            let mut spec = json!({"type": types[usize::from(verb) % 4], "externalName": "e", "ports": [{"port": 80}]});
            if let Some(port) = node_port {
                spec["ports"][0]["nodePort"] = port.into();
            }
            if ip < 16 {
                spec["clusterIP"] = format!("10.96.0.{ip}").into();
            }
            let object = json!({"metadata": {"name": name}, "spec": spec});
            let outcome = match verb {
                0..4 => registry.create(Kind::Service, "default", object, WRITE).map(drop),
                4 => registry.update(Kind::Service, &key(&name), Part::Main, object, WRITE).map(drop),
                _ => registry.delete(Kind::Service, &key(&name), &Deletion::default(), WRITE).map(drop),
            };
            prop_assert!(outcome.is_ok() || outcome.is_err_and(|error| error.code() < 500));
            let (addresses, ports) = held(&registry);
            prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "{:?}", addresses);
            prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "{:?}", ports);
        }
        for index in 0..6 {
            drop(registry.delete(Kind::Service, &key(&format!("s{index}")), &Deletion::default(), WRITE));
        }
        let all = json!({"metadata": {"name": "all"}, "spec": {"type": "NodePort", "ports": (0..16).map(|port| {
            json!({"name": format!("p{port}"), "port": port + 1, "nodePort": 30_000 + port})
        }).collect::<Vec<_>>()}});
        registry.create(Kind::Service, "default", all, WRITE).expect("everything was given back");
    }
}

/// Three ready pods of a ReplicaSet, and a budget with this spec beside its selector.
fn guarded(mut spec: Value) -> Registry {
    let mut registry = registry();
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let set = registry.create(Kind::ReplicaSet, "default", set, WRITE).unwrap();
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": set.uid(), "controller": true});
    for name in ["a", "b", "c"] {
        let mut pod = pod("n1");
        pod["metadata"] =
            json!({"name": name, "labels": {"app": "web"}, "ownerReferences": [owner]});
        registry.create(Kind::Pod, "default", pod, WRITE).unwrap();
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let status = Patch::Merge(json!({"status": {"phase": "Running", "conditions": ready}}));
        registry.patch(Kind::Pod, &key(name), Part::Status, &status, WRITE).unwrap();
    }
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let budget = json!({"metadata": {"name": "web"}, "spec": spec});
    registry.create(Kind::PodDisruptionBudget, "default", budget, WRITE).unwrap();
    registry
}

#[test]
fn evictions_keep_to_budgets() {
    for (spec, desired, allowed) in [
        (json!({"minAvailable": 2}), 2, 1),
        (json!({"minAvailable": "50%"}), 2, 1),
        (json!({"minAvailable": 3}), 3, 0),
        (json!({"maxUnavailable": 1}), 2, 1),
        (json!({"maxUnavailable": "34%"}), 1, 2),
        (json!({"maxUnavailable": 0}), 3, 0),
    ] {
        let mut registry = guarded(spec.clone());
        let status = |registry: &Registry, field: &str| {
            registry.get(Kind::PodDisruptionBudget, &key("web")).unwrap().value["status"][field]
                .clone()
        };
        assert_eq!(status(&registry, "expectedPods"), 3, "{spec}");
        assert_eq!(status(&registry, "desiredHealthy"), desired, "{spec}");
        assert_eq!(status(&registry, "disruptionsAllowed"), allowed, "{spec}");
        let mut refused = 0;
        for name in ["a", "b", "c"] {
            let evicted = registry.evict(&key(name), &Deletion::default(), WRITE);
            if let Err(error) = evicted {
                let expected = "Cannot evict pod as it would violate the pod's disruption budget.";
                assert_eq!((error.code(), error.to_string().as_str()), (429, expected));
                refused += 1;
            }
        }
        assert_eq!(refused, 3 - allowed, "{spec}");
        // A pod that goes already may go.
        let going = registry.evict(&key("a"), &Deletion::default(), WRITE);
        assert_eq!(going.is_ok(), allowed > 0, "{spec}");
    }
}

/// An eviction is known to the budget before it is seen of the pod, and counts as a pod that is gone.
#[test]
fn pods_that_are_to_go_do_not_count() {
    let mut registry = guarded(json!({"minAvailable": 1}));
    let at = |seconds| Write { now: WRITE.now + seconds, ..WRITE };
    let status = |registry: &Registry| {
        let budget = registry.get(Kind::PodDisruptionBudget, &key("web")).unwrap();
        let status = budget.value["status"].clone();
        (status["disruptionsAllowed"].as_u64().unwrap(), status["disruptedPods"].clone())
    };
    let said = |seconds: i64| crate::time::rfc3339(WRITE.now + seconds);
    let say = |registry: &mut Registry, pods: Value, seconds| {
        let patch = Patch::Merge(json!({"status": {"disruptedPods": pods}}));
        let (kind, key) = (Kind::PodDisruptionBudget, key("web"));
        registry.patch(kind, &key, Part::Status, &patch, at(seconds)).unwrap();
    };
    assert_eq!(status(&registry), (2, json!(null)));
    say(&mut registry, json!({"a": said(0), "none": said(0)}), 0);
    assert_eq!(status(&registry), (1, json!({"a": said(0)})), "one is not there");
    say(&mut registry, json!({"b": said(100)}), 100);
    assert_eq!(status(&registry), (0, json!({"a": said(0), "b": said(100)})));
    registry.evict(&key("c"), &Deletion::default(), at(100)).unwrap_err();
    say(&mut registry, json!({"none": said(121)}), 121);
    assert_eq!(status(&registry), (1, json!({"b": said(100)})), "it was to go long ago");
    registry.evict(&key("b"), &Deletion::default(), at(121)).unwrap();
    assert_eq!(status(&registry), (1, json!(null)), "it is seen to go");
    let pod = registry.get(Kind::Pod, &key("b")).unwrap();
    let condition = pod.value["status"]["conditions"][1].clone();
    assert_eq!(condition["reason"], "EvictionByEvictionAPI");
}

/// Who cannot be asked how many pods there should be is named.
#[test]
fn a_budget_that_cannot_be_counted_says_why() {
    let owners = |kind: &str, uid: &str| {
        let version = if kind == "DaemonSet" { "apps/v1" } else { "example.com/v1" };
        json!([{"apiVersion": version, "kind": kind, "name": "d", "uid": uid, "controller": true}])
    };
    let set = |registry: &mut Registry| {
        let set = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        registry.create(Kind::DaemonSet, "default", set, WRITE).unwrap().uid()
    };
    for (kind, why) in [
        ("DaemonSet", "daemonsets.apps does not implement the scale subresource"),
        ("Other", "found no controllers for pod \"a\""),
    ] {
        let mut registry = guarded(json!({"maxUnavailable": 1}));
        let uid = if kind == "DaemonSet" { set(&mut registry) } else { "other".to_owned() };
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners(kind, &uid)}}));
        registry.patch(Kind::Pod, &key("a"), Part::Main, &patch, WRITE).unwrap();
        let budget = registry.get(Kind::PodDisruptionBudget, &key("web")).unwrap();
        let status = &budget.value["status"];
        let condition = &status["conditions"][0];
        assert_eq!(
            (&condition["reason"], &condition["message"]),
            (&"SyncFailed".into(), &why.into())
        );
        assert_eq!(
            (&status["disruptionsAllowed"], &status["expectedPods"]),
            (&0.into(), &3.into())
        );
        let error = registry.evict(&key("b"), &Deletion::default(), WRITE).unwrap_err();
        assert!(error.status()["details"]["causes"][0]["message"].as_str().unwrap().ends_with(why));
    }
}

#[test]
fn a_pod_that_is_not_ready_may_go_while_enough_others_are() {
    let mut registry = guarded(json!({"minAvailable": 2}));
    let unready = json!([{"type": "Ready", "status": "False"}]);
    let status = Patch::Merge(json!({"status": {"conditions": unready}}));
    registry.patch(Kind::Pod, &key("a"), Part::Status, &status, WRITE).unwrap();
    registry.evict(&key("b"), &Deletion::default(), WRITE).unwrap_err();
    registry.evict(&key("a"), &Deletion::default(), WRITE).unwrap();
}
