use super::*;

/// What is used of two quotas, one of them for pods that end by themselves alone.
fn used(registry: &Registry) -> String {
    let of = |name: &str| {
        let quota = registry.get(Kind::ResourceQuota, &key(name)).unwrap();
        let used = quota.value["status"]["used"].as_object().cloned().unwrap_or_default();
        let used = used.into_iter().filter(|(_, amount)| *amount != "0");
        used.map(|(name, amount)| format!("{name}={} ", amount.as_str().unwrap()))
            .collect::<String>()
    };
    format!("{}| {}", of("all"), of("short"))
}

/// Creates an object, patches it or its status, or deletes it with this grace.
fn act(registry: &mut Registry, verb: &str, kind: Kind, name: &str, what: &Value) {
    let part = if verb == "status" { Part::Status } else { Part::Main };
    let patch = Patch::Merge(what.clone());
    let deletion = Deletion { grace: what.as_i64(), ..Deletion::default() };
    let done = match verb {
        "create" => registry.create(kind, "default", what.clone(), WRITE).map(drop),
        "delete" => registry.delete(kind, &key(name), &deletion, WRITE).map(drop),
        _ => registry.patch(kind, &key(name), part, &patch, WRITE).map(drop),
    };
    done.unwrap();
}

fn sized(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    json!({"metadata": {"name": name}, "spec": {"nodeName": "n", "containers": [container]}})
}

fn quota(name: &str, hard: Value, scopes: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard, "scopes": scopes}, "status": {"used": {"pods": "9"}}})
}

#[test]
fn quotas_count_what_there_is() {
    let mut registry = registry();
    let mut ending = sized("ending", "1");
    ending["spec"]["activeDeadlineSeconds"] = 9.into();
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let hard = json!({"pods": "3", "count/pods": "4", "requests.cpu": "2", "services.nodeports": "3", "count/deployments.apps": "1", "count/things.nowhere": "1"});
    let changed = json!({"spec": {"hard": {"requests.cpu": null, "pods": "5", "cpu": "2"}}});
    let (pod, kind) = (Kind::Pod, Kind::ResourceQuota);
    act(&mut registry, "create", pod, "", &sized("early", "500m"));
    act(&mut registry, "create", kind, "", &quota("all", hard, json!([])));
    act(
        &mut registry,
        "create",
        kind,
        "",
        &quota("short", json!({"pods": "1"}), json!(["Terminating"])),
    );
    assert_eq!(used(&registry), "count/pods=1 pods=1 requests.cpu=500m | ");
    for (verb, kind, name, what, expected) in [
        ("create", pod, "", ending, "count/pods=2 pods=2 requests.cpu=1500m | pods=1 "),
        (
            "status",
            pod,
            "early",
            json!({"status": {"phase": "Succeeded"}}),
            "count/pods=2 pods=1 requests.cpu=1 | pods=1 ",
        ),
        ("delete", pod, "early", json!(null), "count/pods=1 pods=1 requests.cpu=1 | pods=1 "),
        ("delete", pod, "ending", json!(60), "count/pods=1 pods=1 requests.cpu=1 | pods=1 "),
        ("delete", pod, "ending", json!(0), "| "),
        ("create", Kind::Service, "", service, "services.nodeports=1 | "),
        ("patch", Kind::Service, "web", json!({"spec": {"type": "ClusterIP"}}), "| "),
        ("create", pod, "", sized("late", "1500m"), "count/pods=1 pods=1 requests.cpu=1500m | "),
        (
            "status",
            kind,
            "all",
            json!({"status": {"used": {"pods": "7"}}}),
            "count/pods=1 pods=1 requests.cpu=1500m | ",
        ),
        ("patch", kind, "all", changed, "count/pods=1 cpu=1500m pods=1 | "),
        ("delete", pod, "late", json!(0), "| "),
    ] {
        act(&mut registry, verb, kind, name, &what);
        assert_eq!(used(&registry), expected, "after {verb} {kind:?} {name} {what}");
    }
    let quota = registry.get(kind, &key("all")).unwrap();
    assert_eq!(quota.value["status"]["hard"], quota.value["spec"]["hard"]);
    assert_eq!(quota.value["status"]["used"].get("count/things.nowhere"), None);
}

#[test]
fn quotas_and_ranges_are_in_the_way() {
    let mut registry = registry();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "services.nodeports": "0"}}});
    registry.create(Kind::ResourceQuota, "default", quota, WRITE).unwrap();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    registry.create(Kind::Service, "default", service, WRITE).unwrap();
    registry.create(Kind::Pod, "default", pod("n"), WRITE).unwrap();
    let fault = |done: Result<Arc<Object>, Error>| {
        let error = done.unwrap_err();
        (error.code(), error.to_string())
    };
    let dry = Write { dry_run: true, ..WRITE };
    let again = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    for write in [WRITE, dry] {
        let found = fault(registry.create(Kind::Pod, "default", pod("n"), write));
        assert_eq!(found, (403, again.to_owned()));
    }
    let exposed = Patch::Merge(json!({"spec": {"type": "NodePort"}}));
    let found = fault(registry.patch(Kind::Service, &key("web"), Part::Main, &exposed, WRITE));
    let expected = "services \"web\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0";
    assert_eq!(found, (403, expected.to_owned()));
    let labels = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    registry.patch(Kind::Service, &key("web"), Part::Main, &labels, WRITE).unwrap();

    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}});
    let made = registry.create(Kind::LimitRange, "default", range, WRITE).unwrap();
    let limit = &made.value["spec"]["limits"][0];
    assert_eq!(
        (&limit["default"], &limit["defaultRequest"]),
        (&json!({"cpu": "1"}), &json!({"cpu": "1"}))
    );
    registry
        .delete(Kind::Pod, &key("p"), &Deletion { grace: Some(0), ..Deletion::default() }, WRITE)
        .unwrap();
    let made = registry.create(Kind::Pod, "default", pod("n"), WRITE).unwrap();
    let cpu = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
    assert_eq!(made.value["spec"]["containers"][0]["resources"], cpu);
    let owned = made.value["metadata"]["managedFields"].to_string();
    assert!(!owned.contains("f:limits"), "nobody asked for limits: {owned}");
}

/// As an earlier version left it, which counted nothing.
#[test]
fn quotas_of_a_kept_cluster_are_counted_when_it_comes_back() {
    let kept = |namespace: &str, mut object: Value| {
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["uid"] = object["metadata"]["name"].clone();
        (
            Key::new(namespace, object["metadata"]["name"].as_str().unwrap()),
            object.to_string().into(),
        )
    };
    let mut all = quota("all", json!({"pods": "3"}), json!([]));
    all.as_object_mut().unwrap().remove("status");
    let pods = ["a", "b"].map(|name| kept("default", sized(name, "1")));
    let others = [kept("other", sized("c", "1"))];
    let objects = [
        ("resourcequotas".to_owned(), vec![kept("default", all), kept("default", map("short"))]),
        ("pods".to_owned(), pods.into_iter().chain(others).collect()),
    ];
    let kept = crate::store::Kept { revision: 9, objects: objects.into(), ..Default::default() };
    let pools = Pools::new(&["10.96.0.0/28".parse().unwrap()], &(30_000..=30_015));
    let registry = Registry::restore(kept, History::default(), pools, 7, None, 0);
    assert_eq!(used(&registry), "pods=2 | ");
}

/// What a pod is resized to counts like that of a new one.
#[test]
fn a_pod_is_resized_within_quotas() {
    let mut registry = registry();
    act(&mut registry, "create", Kind::Pod, "", &sized("p", "500m"));
    let hard = json!({"requests.cpu": "1"});
    act(&mut registry, "create", Kind::ResourceQuota, "", &quota("all", hard, json!([])));
    let resize = |registry: &mut Registry, cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}});
        let container = json!({"name": "c", "image": "i", "resources": resources});
        let patch = Patch::Merge(json!({"spec": {"containers": [container]}}));
        registry.patch(Kind::Pod, &key("p"), Part::Resize, &patch, WRITE).map(drop)
    };
    let why = "exceeded quota: all, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1";
    let error = resize(&mut registry, "1100m").unwrap_err();
    assert!(error.to_string().ends_with(why), "{error}");
    resize(&mut registry, "900m").unwrap();
    let quota = registry.get(Kind::ResourceQuota, &key("all")).unwrap();
    assert_eq!(quota.value["status"]["used"]["requests.cpu"], "900m");
}
